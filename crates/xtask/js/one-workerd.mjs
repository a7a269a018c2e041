// Runs the three workers in one workerd, each on a port of its own, from the same wrangler files that a deployment reads.
//
// `wrangler dev` puts a proxy in front of each worker and passes calls between workers through Node, which is right for
// development and wrong for measuring: its cost hides the workers'. Here calls between workers stay inside workerd, as
// they do on the platform.
//
// Argument: a JSON file {root, storage, databaseUrl, workers: [{name, config, output, port, variables}]}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const { root, storage, databaseUrl, workers } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const require = createRequire(path.join(root, "package.json"));
const { Miniflare, convertV4MiniflareOptions } = require("miniflare");
// Wrangler refuses a Hyperdrive binding without an address for local use.
process.env.CLOUDFLARE_HYPERDRIVE_LOCAL_CONNECTION_STRING_HYPERDRIVE = databaseUrl;
const { unstable_getMiniflareWorkerOptions } = await import(require.resolve("wrangler"));

// The platform gives an isolate 128 MB. Without a limit the runtime lets garbage pile up until a collection takes a tenth of a second.
process.env.MINIFLARE_WORKERD_V8_FLAGS ??= "--max-heap-size=128";

const runtime = new Miniflare(
  convertV4MiniflareOptions({
    host: "127.0.0.1",
    cf: false,
    resourcePersistencePath: storage,
    unsafeTriggerHandlers: true,
    workers: workers.map(({ name, config, output, port, variables }) => {
      const { workerOptions } = unstable_getMiniflareWorkerOptions(path.join(root, config));
      const directory = path.join(root, output);
      return {
        ...workerOptions,
        name,
        modulesRoot: directory,
        modules: [
          { type: "ESModule", path: path.join(directory, "index.js") },
          { type: "CompiledWasm", path: path.join(directory, "index_bg.wasm") },
        ],
        bindings: { ...workerOptions.bindings, ...variables },
        unsafeDirectSockets: [{ host: "127.0.0.1", port }],
      };
    }),
  }),
);
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    await runtime.dispose();
    process.exit(0);
  });
}
await runtime.ready;
