// Reads what wrangler prints and writes what it reads, where a shell would be the wrong tool. `node deploy/read.cjs <what> …`; input comes
// by standard input or the environment, the result goes to standard output. Changes nothing but the file that `config` is told to write.
"use strict";
const { createHash } = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");

const input = () => fs.readFileSync(0, "utf8");

/** The JSON in a text before and after which wrangler may have said something else. */
function jsonIn(text) {
  const start = text.search(/^[[{]/m);
  if (start < 0) throw new Error("wrangler printed no JSON");
  return JSON.parse(text.slice(start));
}

/** The releases of a worker, newest first: each with its newest version and when that was made. */
function releases(versions) {
  const byTag = new Map();
  for (const version of versions) {
    const tag = version.annotations?.["workers/tag"];
    // What was made by hand or by the first pass of a first deployment is no release.
    if (!/^[0-9a-f]{16}$/.test(tag ?? "")) continue;
    const known = byTag.get(tag);
    const made = version.metadata.created_on;
    if (!known || known.made < made) byTag.set(tag, { tag, id: version.id, made });
  }
  return [...byTag.values()].sort((a, b) => b.made.localeCompare(a.made));
}

/**
 * What is known of the secrets that a version has. A deployment that sends some says by a digest which; one that sends none keeps those of the
 * version before it; what was made otherwise (secrets sent alone, the dashboard) has unknown ones of its own.
 */
function secretsOf(versions, id) {
  const inOrder = [...versions].sort((a, b) => a.metadata.created_on.localeCompare(b.metadata.created_on));
  let known = "unknown";
  for (const version of inOrder) {
    const [, said] = / secrets (kept|[0-9a-f]{16})$/.exec(version.annotations?.["workers/message"] ?? "") ?? [];
    if (said !== "kept") known = said ?? `unknown since ${version.id}`;
    if (version.id === id) return known;
  }
  return undefined;
}

/** The version that a worker runs, of its deployments. */
const liveVersion = (deployments) => [...deployments].sort((a, b) => a.created_on.localeCompare(b.created_on)).at(-1)?.versions[0]?.version_id ?? "";

/** Paragraphs of a wrangler file: tables are kept apart by empty lines. */
function configuration({ template, environment, main, namespace, hyperdrive, host, variables, withoutBinding }) {
  const table = (paragraph) => paragraph.split("\n").find((line) => line.startsWith("["))?.replace(/[[\]]/g, "");
  const seen = new Set();
  const text = (value) => JSON.stringify(value);
  const paragraphs = template.split(/\n{2,}/).flatMap((paragraph) => {
    const name = table(paragraph);
    if (name) seen.add(name);
    switch (name) {
      case undefined:
        return [paragraph.replace(/^main = .*$/m, `main = ${text(main)}`)];
      case `env.${environment}`:
        return [host ? `${paragraph}\nroutes = [{ pattern = ${text(host)}, custom_domain = true }]` : `${paragraph}\nworkers_dev = true`];
      case `env.${environment}.vars`: {
        const kept = paragraph.split("\n").filter((line) => !(line.split(" = ")[0] in variables));
        return [[...kept, ...Object.entries(variables).map(([key, value]) => `${key} = ${text(value)}`)].join("\n")];
      }
      case `env.${environment}.kv_namespaces`:
        return [paragraph.replace(/^id = .*$/m, `id = ${text(namespace)}`)];
      case `env.${environment}.hyperdrive`:
        return [paragraph.replace(/^id = .*$/m, `id = ${text(hyperdrive)}`)];
      case `env.${environment}.services`:
        // The platform refuses a binding to a worker that is not there yet, and these two are bound to each other.
        return withoutBinding && paragraph.includes('"SYNC_WORKER"') ? [] : [paragraph];
      default:
        return [paragraph];
    }
  });
  for (const needed of ["", ".vars", ".kv_namespaces", ".services"]) {
    if (!seen.has(`env.${environment}${needed}`)) throw new Error(`the wrangler file has no table env.${environment}${needed}`);
  }
  return paragraphs.join("\n\n");
}

/** A database server's name: roles, and so a role's password, belong to the whole of one. */
function server(host, port, user) {
  const direct = /^db\.([a-z0-9]+)\.supabase\.(co|com|red)$/.exec(host);
  if (direct) return direct[1];
  if (host.endsWith(".pooler.supabase.com") && user.includes(".")) return user.slice(user.indexOf(".") + 1);
  return `${host}:${port}`;
}

const tasks = {
  /** A namespace's id by its title, of `wrangler kv namespace list`. */
  namespace: ([title]) => jsonIn(input()).find((namespace) => namespace.title === title)?.id ?? "",
  /** A configuration's id and whether it caches, by its name, of the table of `wrangler hyperdrive list`. */
  hyperdrive: ([name]) => {
    const rows = input().split("\n").filter((line) => line.startsWith("│"));
    const cells = rows.map((line) => line.split("│").slice(1, -1).map((cell) => cell.trim()));
    const [heads, ...others] = cells;
    const column = (head) => heads.indexOf(head);
    const found = others.find((row) => row[column("name")] === name);
    return found ? `${found[column("id")]} ${found[column("caching")] === "disabled" ? "uncached" : "cached"}` : "";
  },
  /** Which server a configuration leads to, by its name, of the same table. */
  "hyperdrive-server": ([name]) => {
    const rows = input().split("\n").filter((line) => line.startsWith("│"));
    const [heads, ...others] = rows.map((line) => line.split("│").slice(1, -1).map((cell) => cell.trim()));
    const found = others.find((row) => row[heads.indexOf("name")] === name);
    const cell = (head) => found[heads.indexOf(head)];
    return found ? server(cell("host"), cell("port"), cell("user")) : "";
  },
  /** Which server it is, of host, port and user on standard input: a Supabase project's, by each of its addresses. */
  server: () => {
    const [host, port, user] = input().trim().split(" ");
    return server(host, port, user);
  },
  /** Who is logged in, of `wrangler whoami --json`: the accounts, one a line. */
  accounts: () => jsonIn(input()).accounts.map((account) => `${account.id} ${account.name}`).join("\n"),
  /** The names of the secrets in `wrangler secret list`, one a line. */
  secrets: () => jsonIn(input()).map((secret) => secret.name).join("\n"),
  /** A worker's address, of the record that `wrangler deploy` writes. */
  address: () => {
    const lines = input().split("\n").filter(Boolean).map((line) => JSON.parse(line));
    const targets = lines.filter((line) => line.type === "deploy").flatMap((line) => line.targets ?? []);
    const address = targets.map((target) => target.replace(/ \(custom domain\)$/, "")).find((target) => /^(https:\/\/)?[\w.-]+\.[a-z]+$/.test(target)) ?? "";
    return address && !address.startsWith("https://") ? `https://${address}` : address;
  },
  /** The version that `wrangler deploy` made, of the same record. */
  "made-version": () => input().split("\n").filter(Boolean).map((line) => JSON.parse(line)).find((line) => line.type === "deploy")?.version_id ?? "",
  /** The version that is deployed, of `wrangler deployments list --json`. */
  "live-version": () => liveVersion(jsonIn(input())),
  /** Whether a health answer says that all is well. */
  "is-well": ([file]) => (JSON.parse(fs.readFileSync(file, "utf8")).status === "healthy" ? "yes" : ""),
  /** Sixteen hexadecimal digits of what is on standard input. */
  digest: () => createHash("sha256").update(input()).digest("hex").slice(0, 16),
  /** Whether a worker may go from the version that is deployed to another one, both with the same secrets; `present` is their digest, if known. */
  "keeps-secrets": ([deploymentsFile, versionsFile, target, present]) => {
    const versions = jsonIn(fs.readFileSync(versionsFile, "utf8"));
    const live = secretsOf(versions, liveVersion(jsonIn(fs.readFileSync(deploymentsFile, "utf8"))));
    const wanted = secretsOf(versions, target);
    // What is not known may be what the environment file has.
    const isKept = live && wanted && (wanted === live || (live.startsWith("unknown") && wanted === present));
    return isKept ? "yes" : "";
  },
  /** The secrets named as arguments, with their values from the environment, as JSON; empty ones are left out. */
  "secrets-json": (names) => JSON.stringify(Object.fromEntries(names.map((name) => [name, process.env[`SETTING_${name}`]]).filter(([, value]) => value))),
  /** What a release is made of, in sixteen hexadecimal digits: the files named as arguments. */
  release: (files) => {
    const digest = createHash("sha256");
    for (const file of files) digest.update(path.basename(file)).update(createHash("sha256").update(fs.readFileSync(file)).digest());
    return digest.digest("hex").slice(0, 16);
  },
  /** The program that a build made, of cargo's messages on standard input. */
  executable: () => {
    const messages = input().split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
    return messages.findLast((message) => message.executable)?.executable ?? "";
  },
  /** Parts of a Postgres address on standard input: host, port, user, database. */
  database: () => {
    const url = new URL(input().trim());
    return [url.hostname, url.port || "5432", decodeURIComponent(url.username), decodeURIComponent(url.pathname.slice(1)) || "postgres"].join(" ");
  },
  /** The release that is deployed, of `wrangler deployments list --json` and `wrangler versions list --json` in two files. */
  current: ([deploymentsFile, versionsFile]) => {
    const versions = jsonIn(fs.readFileSync(versionsFile, "utf8"));
    const id = liveVersion(jsonIn(fs.readFileSync(deploymentsFile, "utf8")));
    const version = versions.find((candidate) => candidate.id === id);
    const known = releases(versions);
    // Secrets that were sent alone make a version of their own: its code is that of the release before it.
    const made = version?.metadata.created_on ?? "";
    return (known.find((release) => release.tag === version?.annotations?.["workers/tag"]) ?? known.find((release) => release.made <= made))?.tag ?? "unknown";
  },
  /** The release before the present one that nobody has rolled back from. */
  previous: ([deploymentsFile, versionsFile]) => {
    const present = tasks.current([deploymentsFile, versionsFile]);
    const known = releases(jsonIn(fs.readFileSync(versionsFile, "utf8")));
    const left = new Set();
    for (const deployment of jsonIn(fs.readFileSync(deploymentsFile, "utf8"))) {
      const from = /^rollback from ([0-9a-f]{16})/.exec(deployment.annotations?.["workers/message"] ?? "");
      if (from) left.add(from[1]);
    }
    const place = known.findIndex((release) => release.tag === present);
    // Not among the newest versions: nothing says what was before it.
    if (place < 0) return "";
    return known.slice(place + 1).find((release) => !left.has(release.tag))?.tag ?? "";
  },
  /** The version by which a worker has a release. */
  version: ([versionsFile, tag]) => releases(jsonIn(fs.readFileSync(versionsFile, "utf8"))).find((release) => release.tag === tag)?.id ?? "",
  /** Writes the copy of a wrangler file with its ids, addresses and variables. */
  config: ([template, copy, main, environment]) => {
    const names = (process.env.VARIABLES ?? "").split(/\s+/).filter(Boolean);
    const variables = Object.fromEntries(names.map((name) => [name, process.env[`SETTING_${name}`]]).filter(([, value]) => value));
    const { NAMESPACE_ID: namespace, HYPERDRIVE_ID: hyperdrive, WORKER_URL: url, PASS: pass } = process.env;
    const host = url ? new URL(url).host : "";
    const written = configuration({
      template: fs.readFileSync(template, "utf8"), environment, main, namespace, hyperdrive, variables,
      host: host.endsWith(".workers.dev") ? "" : host, withoutBinding: pass === "without-binding",
    });
    fs.writeFileSync(copy, `# Made from ${path.basename(template)} by deploy.sh; every run makes it anew.\n${written}`);
    return "";
  },
};

const [task, ...rest] = process.argv.slice(2);
try {
  const result = tasks[task](rest);
  if (result) process.stdout.write(`${result}\n`);
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
