// Stands in for wrangler, cargo, npm and curl in the tests of deploy.sh: an account and a database that are one JSON file. It takes what
// the script uses of each program, prints what the real ones print, refuses all else, and records every call by the arguments that
// other users of a machine could see. The call whose number FAIL_AT gives fails, before its effect or (FAIL_AFTER) once it landed.
"use strict";
const crypto = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");

const file = process.env.STAND_IN_STATE;
const state = JSON.parse(fs.readFileSync(file, "utf8"));
const save = () => fs.writeFileSync(file, JSON.stringify(state));
const visible = fs.readFileSync("/proc/self/cmdline", "utf8").split("\0").slice(0, -1);
const ownName = visible.findIndex((argument) => argument.endsWith("stand_in.cjs") || argument.endsWith("cli.js"));
// wrangler's program may be started with a preload, which hands arguments over that nobody sees.
const isWrangler = visible[ownName].endsWith("cli.js");
const program = isWrangler ? "wrangler" : process.argv[2];
const args = process.argv.slice(isWrangler ? 2 : 3);
const words = args.filter((argument) => !argument.startsWith("-"));
const option = (name) => args[args.indexOf(`--${name}`) + 1];
const has = (name) => args.includes(`--${name}`);

class Refusal extends Error {}
const refuse = (message) => { throw new Refusal(message); };
const id = () => crypto.randomBytes(16).toString("hex");
const say = (text) => process.stdout.write(`${text}\n`);
const input = () => fs.readFileSync(0, "utf8");
const now = () => new Date(Date.UTC(2026, 0, 1) + state.calls.length * 1000).toISOString();
const workerOf = (name) => state.workers[name] ?? refuse("A request to the Cloudflare API failed.\n  This Worker does not exist on your account. [code: 10007]");

/** Tables of a wrangler file that belong to an environment; enough of TOML for files written one value a line. */
function tables(config, environment) {
  const found = [];
  for (const line of fs.readFileSync(config, "utf8").split("\n")) {
    const head = /^\[+([\w.]+)\]+$/.exec(line);
    if (head) found.push({ name: head[1], values: {} });
    else if (found.length === 0 && line.startsWith("main = ")) found.push({ name: "", values: { main: JSON.parse(line.slice(7)) } });
    const value = /^(\w+) = (".*"|true|false|\[.*\])$/.exec(line);
    if (value && found.length) found.at(-1).values[value[1]] = value[2].startsWith('"') ? JSON.parse(value[2]) : value[2];
  }
  const of = (name) => found.filter((table) => table.name === `env.${environment}${name}`).map((table) => table.values);
  return { main: found[0].values.main, environment: of("")[0], vars: of(".vars")[0], namespaces: of(".kv_namespaces"), hyperdrives: of(".hyperdrive"), services: of(".services") };
}

/** A version keeps the secrets that it was made with. */
function addVersion(worker, annotations) {
  const version = { id: id(), metadata: { created_on: now() }, annotations, secrets: { ...worker.secrets }, code: worker.versions.at(-1)?.code };
  worker.versions.push(version);
  worker.deployments.push({ created_on: now(), annotations: {}, versions: [{ version_id: version.id, percentage: 100 }] });
  return version;
}

function deploy() {
  const config = tables(option("config"), option("env"));
  if (!fs.existsSync(path.resolve(path.dirname(option("config")), config.main))) refuse(`The entry-point file at "${config.main}" was not found.`);
  if (has("dry-run")) return say("Total Upload: 2426.55 KiB / gzip: 900.50 KiB\n--dry-run: exiting now.");
  const name = config.environment.name;
  for (const { service, binding } of config.services) {
    if (!state.workers[service]) refuse(`Could not resolve service binding '${binding}'. Target script '${service}' not found. [code: 10143]`);
  }
  for (const namespace of config.namespaces) if (!state.namespaces.some((known) => known.id === namespace.id)) refuse(`KV namespace '${namespace.id}' not found. [code: 10041]`);
  for (const hyperdrive of config.hyperdrives) if (!state.hyperdrives.some((known) => known.id === hyperdrive.id)) refuse(`hyperdrive config '${hyperdrive.id}' not found. [code: 10159]`);
  if (has("secrets-file") && option("secrets-file") !== "/dev/stdin") refuse("secrets must come by standard input");
  const secrets = has("secrets-file") ? JSON.parse(input()) : {};
  const worker = (state.workers[name] ??= { versions: [], deployments: [], secrets: {} });
  Object.assign(worker.secrets, secrets);
  const given = args.filter((_, place) => args[place - 1] === "--var").map((pair) => [pair.slice(0, pair.indexOf(":")), pair.slice(pair.indexOf(":") + 1)]);
  worker.vars = { ...config.vars, ...Object.fromEntries(given) };
  worker.services = config.services.map(({ service }) => service);
  const version = addVersion(worker, { "workers/tag": option("tag"), "workers/message": option("message") });
  version.code = fs.readFileSync(config.main, "utf8");
  const host = /pattern = "([^"]+)"/.exec(config.environment.routes ?? "")?.[1];
  for (const other of Object.values(state.workers)) if (host && other !== worker && other.url === `https://${host}`) refuse(`${host} is another worker's domain`);
  worker.url = `https://${host ?? `${name}.acme.workers.dev`}`;
  say(`Total Upload: 2426.55 KiB / gzip: 900.50 KiB\nenv.ADMIN_API_TOKEN ("(hidden)")\nDeployed ${name} triggers\nCurrent Version ID: ${version.id}`);
  const record = { type: "deploy", version: 1, worker_name: name, version_id: version.id, targets: ["schedule: * * * * *", host ? `${host} (custom domain)` : worker.url] };
  if (process.env.WRANGLER_OUTPUT_FILE_PATH) fs.appendFileSync(process.env.WRANGLER_OUTPUT_FILE_PATH, `${JSON.stringify({ type: "wrangler-session" })}\n${JSON.stringify(record)}\n`);
}

function hyperdriveOrigin() {
  // The platform logs in before it takes a configuration.
  const password = option("origin-password");
  if (password !== state.database.password) refuse("Failed to connect to the origin database: password authentication failed. [code: 2013]");
  return { host: option("origin-host"), port: option("origin-port"), user: option("origin-user"), database: option("database"), password, caching: has("caching-disabled") ? "disabled" : "enabled" };
}

const wrangler = {
  "login": () => { state.loggedIn = true; },
  "logout": () => { state.loggedIn = false; },
  "whoami": () => (state.loggedIn ? say(JSON.stringify({ loggedIn: true, accounts: state.accounts }, null, 4)) : refuse("You are not authenticated.")),
  "kv namespace list": () => say(JSON.stringify(state.namespaces, null, "  ")),
  "kv namespace create": () => {
    const title = words[3];
    if (state.namespaces.some((known) => known.title === title)) refuse("a namespace with this account ID and title already exists [code: 10014]");
    state.namespaces.push({ id: id(), title });
    say("✨ Success!");
  },
  "kv namespace delete": () => { state.namespaces = state.namespaces.filter((known) => known.id !== option("namespace-id")); },
  "hyperdrive list": () => {
    say("📋 Listing Hyperdrive configs");
    const rows = state.hyperdrives.map((known) => [known.id, known.name, known.user, known.host, known.port, "PostgreSQL", known.database, known.caching === "disabled" ? "disabled" : "max_age: 60", "", ""]);
    say("┌──┐");
    for (const row of [["id", "name", "user", "host", "port", "scheme", "database", "caching", "mtls", "origin_connection_limit"], ...rows]) say(`│ ${row.join(" │ ")} │\n├──┤`);
  },
  "hyperdrive create": () => {
    if (state.hyperdrives.some((known) => known.name === words[2])) refuse("a config of that name exists [code: 2017]");
    state.hyperdrives.push({ id: id(), name: words[2], ...hyperdriveOrigin() });
  },
  "hyperdrive update": () => Object.assign(state.hyperdrives.find((known) => known.id === words[2]) ?? refuse("no such config"), hyperdriveOrigin()),
  "hyperdrive delete": () => { state.hyperdrives = state.hyperdrives.filter((known) => known.id !== words[2]); },
  "deployments list": () => say(JSON.stringify(workerOf(option("name")).deployments, null, 2)),
  "versions list": () => say(JSON.stringify(workerOf(option("name")).versions.slice(-10).map(({ id, metadata, annotations }) => ({ id, metadata, annotations })), null, 2)),
  "secret list": () => say(JSON.stringify(Object.keys(workerOf(option("name")).secrets).map((name) => ({ name, type: "secret_text" })))),
  "secret bulk": () => {
    const worker = workerOf(option("name"));
    if (worker.deployments.at(-1).versions[0].version_id !== worker.versions.at(-1).id) refuse("Secret edit failed. You attempted to modify a secret, but the latest version of your Worker isn't currently deployed.");
    Object.assign(worker.secrets, JSON.parse(input()));
    addVersion(worker, { "workers/triggered_by": "secret" });
  },
  "rollback": () => {
    const worker = workerOf(option("name"));
    const version = worker.versions.find((known) => known.id === words[1]) ?? refuse("no such version");
    // Outside a terminal the question whether to go on is answered with yes.
    worker.secrets = { ...version.secrets };
    worker.deployments.push({ created_on: now(), annotations: { "workers/message": option("message") }, versions: [{ version_id: version.id, percentage: 100 }] });
  },
  "delete": () => {
    workerOf(words[1]);
    delete state.workers[words[1]];
  },
  "deploy": deploy,
};

const needed = (name) => process.env[name] || refuse(`${name} is not set`);
const xtask = {
  "build-worker": () => {
    for (const worker of ["coordinator", "webhook", "sync"]) {
      fs.mkdirSync(`build/${worker}`, { recursive: true });
      for (const name of ["index.js", "index_bg.wasm"]) fs.writeFileSync(`build/${worker}/${name}`, `${worker} ${process.env.STAND_IN_CODE ?? "one"}`);
    }
    state.quick = process.env.KEAPSYNC_QUICK_WORKERS === "1";
  },
  "migrate": () => {
    needed("DATABASE_URL");
    if (words[1] === "up") state.database.migrated = true;
    if (words[1] === "down") state.database.migrated = false;
    if (words[1] === "status") say(`0001 roles                    ${state.database.migrated ? "applied" : "missing"}`);
  },
  "engine-password": () => {
    needed("DATABASE_URL");
    if (!state.database.migrated) refuse("there is no role keapsync_engine");
    state.database.password = needed("ENGINE_DATABASE_PASSWORD");
  },
  "smoke": () => {
    const sync = Object.values(state.workers).find((worker) => worker.url === option("sync-url")) ?? refuse("the sync worker does not answer");
    if (needed("ADMIN_API_TOKEN") !== sync.secrets.ADMIN_API_TOKEN) refuse("401 Unauthorized");
  },
};

/** What is compiled before it is started; a person starts the commands through cargo too. */
const cargo = {
  "build": () => say(`${JSON.stringify({ reason: "compiler-artifact", executable: null })}\n${JSON.stringify({ reason: "compiler-artifact", executable: path.join(path.dirname(file), "bin/xtask") })}\n${JSON.stringify({ reason: "build-finished", success: true })}`),
};

/** What a worker says of itself: well when what it is bound to is there and it has its secrets. */
function health() {
  const url = args.find((argument) => argument.startsWith("https://"));
  const worker = Object.values(state.workers).find((known) => `${known.url}/health` === url);
  const isWell = worker && !state.unwell && worker.secrets.INTERNAL_TOKEN && worker.services.length > 0 && worker.services.every((name) => state.workers[name]);
  const body = state.page ?? JSON.stringify({ status: isWell ? "healthy" : "unhealthy" });
  if (has("output")) fs.writeFileSync(option("output"), body);
  process.stdout.write(has("write-out") ? (isWell || state.page ? "200" : "503") : body);
  if (has("fail") && !isWell) process.exitCode = 22;
}

function act() {
  if (program === "npm") return;
  if (program === "curl") return args.some((argument) => argument.endsWith("/health")) ? health() : process.stdout.write(`{"auth_url":"…"}`);
  if (program === "cargo" && words[0] === "xtask") return xtask[(words.shift(), words[0])]();
  const known = { wrangler, cargo, xtask }[program] ?? {};
  if (program === "wrangler" && words.length === 0 && has("version")) return say("4.164.0");
  const name = Object.keys(known).find((candidate) => words.join(" ").startsWith(candidate)) ?? refuse(`the stand-in knows no ${program} ${args.join(" ")}`);
  if (program === "wrangler" && !state.loggedIn && name !== "login" && !(name === "deploy" && has("dry-run"))) refuse("You are not authenticated. [code: 10000]");
  known[name]();
}

// What of the deployment's secrets the program could read in its environment.
(state.seen ??= []).push(Object.keys(process.env).filter((name) => /(_TOKEN|_SECRET|_KEY|_PASSWORD|^DATABASE_URL)(_PREVIOUS)?$/.test(name)).sort());
state.calls.push([program, ...visible.slice(ownName + (isWrangler ? 1 : 2))].join(" "));
save();
const fails = Number(process.env.FAIL_AT ?? 0) === state.calls.length - Number(process.env.CALLS_BEFORE ?? 0);
try {
  if (fails && process.env.FAIL_AFTER !== "yes") refuse("the connection broke");
  act();
  save();
  if (fails) refuse("the connection broke after it was done");
} catch (error) {
  if (!(error instanceof Refusal)) throw error;
  process.stderr.write(`✘ [ERROR] ${error.message}\n`);
  process.exitCode = 1;
}
