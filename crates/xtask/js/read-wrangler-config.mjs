// Prints a wrangler file as wrangler itself reads it, for each environment named: {"<environment>": {…}}; "" is local work.
// Arguments: the checkout, the file, environments.
import { createRequire } from "node:module";
import path from "node:path";

const [root, file, ...environments] = process.argv.slice(2);
const require = createRequire(path.join(root, "package.json"));
const { unstable_readConfig } = await import(require.resolve("wrangler"));
const read = environments.map((environment) => {
  const config = unstable_readConfig({ config: path.join(root, file), env: environment || undefined }, { hideWarnings: true });
  return [environment, config];
});
process.stdout.write(JSON.stringify(Object.fromEntries(read)));
