// Looks at the settings in SETTING_<name> before anything is built or changed, by the rules of the workers' own configuration. Prints the
// first that is wrong and, on a second line, what to write; never a value. Settings that are empty are not its business.
"use strict";

const setting = (name) => process.env[`SETTING_${name}`] ?? "";
const parsed = (text) => (URL.canParse(text) ? new URL(text) : undefined);
const readable = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
};

const encode = "characters of the password such as # / ? % and @ must be percent-encoded (# is %23, / is %2F, ? is %3F, % is %25, @ is %40)";
const copy = "copy it from Supabase: Connect, direct connection or session pooler (port 5432)";

/** What is wrong with the database's address and what to do, if anything is. */
function database(text) {
  if (/\[YOUR-PASSWORD\]/i.test(text)) return ["still has [YOUR-PASSWORD] in it", "write the database's password in its place; it is set under Database, Settings in Supabase's dashboard"];
  const url = /^postgres(ql)?:\/\//.test(text) ? parsed(text) : undefined;
  const isWhole = url && url.hostname && url.username && readable(url.password) && !url.hash && /^\/[^/]+$/.test(url.pathname) && !/[\s"']/.test(text);
  if (!isWhole) return ["is not of the form postgres://user:password@host:5432/database", `${copy}; ${encode}`];
  if (url.port === "6543") return ["is Supabase's transaction pooler (port 6543), over which migrations can't run", "take the direct connection or the session pooler, port 5432"];
  if (/^(localhost|127\..*|0\.0\.0\.0|\[::1\])$/.test(url.hostname)) return ["names this machine, which Cloudflare can't reach", copy];
  return undefined;
}

const tokens = ["ADMIN_API_TOKEN", "INTERNAL_TOKEN", "WAKE_TOKEN", "KEAP_WEBHOOK_SECRET"];
const isToken = (text) => /^[\x21-\x7e]{16,}$/.test(text);
const isKey = (text) => /^[A-Za-z0-9+/]{43}=$/.test(text);
const isCount = (text) => /^[1-9][0-9]{0,8}$/.test(text);
const isWord = (text) => !/\s/.test(text);
const isAddress = (text) => /^[\x21-\x7e]+$/.test(text) && parsed(text)?.protocol === "https:" && !parsed(text).username && !parsed(text).hash && !parsed(text).search;
const isHost = (text) => isAddress(text) && parsed(text).pathname === "/" && !parsed(text).port;

const rules = [
  [[...tokens, ...tokens.map((name) => `${name}_PREVIOUS`), "METRICS_TOKEN"], isToken, "must be at least 16 visible ASCII characters", "make one with openssl rand -hex 24"],
  [["TOKEN_ENCRYPTION_KEY", "TOKEN_ENCRYPTION_KEY_PREVIOUS"], isKey, "must be 32 bytes in base64", "make one with openssl rand -base64 32"],
  [["KEAP_CLIENT_ID", "KEAP_CLIENT_SECRET", "ENGINE_DATABASE_PASSWORD", "CLOUDFLARE_API_TOKEN", "CLOUDFLARE_ACCOUNT_ID", "DEFAULT_ACCOUNT_ID"], isWord, "has a blank in it", "copy it again, and write nothing behind it"],
  [["WEBHOOK_PUBLIC_URL", "SYNC_PUBLIC_URL"], isHost, "must be of the form https://host", "write the address without a path, or leave it empty: the first deployment fills it in"],
  [["KEAP_REDIRECT_URI"], (text) => isAddress(text) && parsed(text).pathname === "/oauth/callback" && !parsed(text).port, "must be of the form https://host/oauth/callback", "write https://<coordinator>/oauth/callback, exactly as at Keap, or leave it empty: the first deployment fills it in"],
  [["KEAP_API_BASE_URL", "KEAP_AUTHORIZE_URL", "KEAP_TOKEN_URL"], isAddress, "must be an address that begins with https://", "take it from .env.example"],
  [["KEAP_CALLS_PER_SECOND", "KEAP_CALLS_PER_MINUTE", "KEAP_CALLS_PER_DAY", "OUTBOX_POLL_INTERVAL_MAX_MS"], isCount, "must be a whole number above zero", "take it from .env.example"],
  [["LOG_LEVEL"], (text) => ["debug", "info", "warn", "error"].includes(text), "must be debug, info, warn or error", "write one of these"],
  [["ALLOWED_ORIGIN"], (text) => parsed(text)?.origin === text && text !== "null", "must be one origin", "write it without a path, as in https://app.example.com"],
  [["HYPERDRIVE_DATABASE_HOST"], (text) => /^[\w.-]+$/.test(text), "must be the name of a host", "write the name alone, without user, port and database"],
];

function firstProblem() {
  const address = setting("DATABASE_URL");
  const wrong = address ? database(address) : undefined;
  if (wrong) return [`DATABASE_URL ${wrong[0]}`, wrong[1]];
  for (const [names, isRight, problem, fix] of rules) {
    const name = names.find((candidate) => setting(candidate) && !isRight(setting(candidate)));
    if (name) return [`${name} ${problem}`, fix];
  }
  return undefined;
}

const found = firstProblem();
if (found) {
  process.stdout.write(`${found.join("\n")}\n`);
  process.exitCode = 1;
}
