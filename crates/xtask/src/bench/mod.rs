//! IN WORK by the engineer "bench" (bench/*, send_hook.rs): engineer "xtask", leave these two to them; only add the
//! subcommands `bench` and `send-hook` to the CLI, calling `bench::run(BenchArguments)` and `send_hook::run(SendHookArguments)`.
