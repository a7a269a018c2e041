// Loaded before wrangler's own program: reads the database's password from standard input and hands it over as an argument that only
// this process sees. wrangler takes the password of a Hyperdrive configuration as an argument only, and the arguments that a program
// was started with can be read by every user of the machine.
"use strict";
process.argv.push("--origin-password", require("node:fs").readFileSync(0, "utf8"));
