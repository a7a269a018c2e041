//! Building the three workers to wasm, only when something they are made of changed.
//!
//! Each worker goes to `build/<worker>/`, where its wrangler file's `main` points. A stamp beside it holds a digest of
//! everything that the build reads: the worker's crate and all workspace crates it depends on, the lock file, the
//! toolchain, the tools' versions and this recipe. A build whose stamp agrees is skipped, which makes wrangler's build command cheap.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::ScopedJoinHandle;

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::countdown::{self, Part};
use crate::node_tools::NodeTools;
use crate::progress::{Step, detail};
use crate::rust_tools::{RustTools, WORKER_BUILD_VERSION};
use crate::subprocess::{cargo, output_of, run_shown};
use crate::wasm_target::WasmToolchain;
use crate::workspace::Workspace;
use crate::{node_tools, rust_tools, wasm_target};

/// The most that one worker may weigh, gzipped: Cloudflare's free plan takes 3 MB, and start-up time grows with size. A worker of
/// 1 MB starts in about 15 ms where the platform allows a second, so the budget is there to make growth a decision.
pub const GZIPPED_BYTES_MAX: u64 = 1_200_000;

/// Set to `1`, tests and `build-worker` take quick builds, as `dev` does; tests and deployments that count go without it.
pub const QUICK_VARIABLE: &str = "KEAPSYNC_QUICK_WORKERS";

/// How a worker is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    /// As it is deployed: small and fast, which takes minutes.
    Deployed,
    /// For trying things out: in a fraction of the time, since all three share what they are made of; neither small nor fast to run, and
    /// of any size.
    Quick,
}

impl Recipe {
    /// Quick where the environment asks for it.
    #[must_use]
    pub fn of_environment() -> Self {
        if std::env::var(QUICK_VARIABLE).is_ok_and(|value| value == "1") {
            Self::Quick
        } else {
            Self::Deployed
        }
    }

    /// Cargo's profile, by its name in the workspace.
    fn profile(self) -> &'static str {
        match self {
            Self::Deployed => "release",
            Self::Quick => "quick",
        }
    }
}

/// What the compiler and wasm-bindgen use of wasm; the runtime has all of it.
const WASM_FEATURES: [&str; 7] = [
    "mutable-globals",
    "sign-ext",
    "nontrapping-float-to-int",
    "bulk-memory",
    "multivalue",
    "reference-types",
    "exception-handling",
];

/// One of the three workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Worker {
    /// The accounts' objects and OAuth.
    Coordinator,
    /// The receiver of Keap's hooks.
    Webhook,
    /// Bulk work and the clock.
    Sync,
}

impl Worker {
    /// All three, in the order in which they are built and started.
    pub const ALL: [Self; 3] = [Self::Coordinator, Self::Webhook, Self::Sync];

    /// The short name: of its crate's folder, its build directory and its part of a system.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Webhook => "webhook",
            Self::Sync => "sync",
        }
    }

    /// Its name on the platform, as its wrangler file gives it and as other workers are bound to it.
    #[must_use]
    pub fn script_name(self) -> &'static str {
        match self {
            Self::Coordinator => "sync-coordinator",
            Self::Webhook => "webhook-handler",
            Self::Sync => "sync-worker",
        }
    }

    /// Its package in the workspace.
    #[must_use]
    pub fn package(self) -> String {
        format!("keapsync-{}", self.name())
    }

    /// Settings of its build that differ from the workspace's release profile. The coordinator carries everything that is live,
    /// record by record, and has the most code: it is built for size throughout. Bulk work is the sync worker's, which is built for
    /// speed throughout.
    fn build_settings(self) -> Vec<String> {
        const BUILT_FOR_SPEED: [&str; 6] =
            ["keapsync-domain", "keapsync-engine", "keapsync-keap", "keapsync-store", "serde_json", "sha2"];
        match self {
            Self::Coordinator => {
                let packages = BUILT_FOR_SPEED.iter().map(|package| format!("package.{package}."));
                std::iter::once(String::new())
                    .chain(packages)
                    .flat_map(|package| {
                        ["--config".to_owned(), format!("profile.release.{package}opt-level=\"z\"")]
                    })
                    .collect()
            }
            Self::Sync => vec!["--config".to_owned(), "profile.release.opt-level=3".to_owned()],
            Self::Webhook => Vec::new(),
        }
    }

    /// How its wasm is made better once it is built.
    fn wasm_optimisation(self) -> &'static str {
        match self {
            Self::Sync => "-O3",
            Self::Coordinator | Self::Webhook => "-Os",
        }
    }

    /// Its configuration file at the root.
    #[must_use]
    pub fn config_file(self) -> String {
        format!("wrangler-{}.toml", self.name())
    }
}

/// A built worker.
#[derive(Debug, Clone)]
pub struct BuiltWorker {
    /// Which one.
    pub worker: Worker,
    /// What a visitor's data centre has to load: wasm and JavaScript, gzipped.
    pub gzipped_bytes: u64,
    /// False when the stamp agreed and nothing was built.
    pub rebuilt: bool,
}

/// Installs the tools and builds the named workers.
pub fn ensure(workspace: &Workspace, workers: &[Worker], recipe: Recipe) -> Result<Vec<BuiltWorker>> {
    let outdated = outdated(workspace, workers, recipe)?;
    if !outdated.is_empty() {
        let tools = tools_and_compiled(workspace, &outdated.keys().copied().collect::<Vec<_>>(), recipe)?;
        for (&worker, stamp) in &outdated {
            let step = Step::start(format!(
                "Building the {} worker, which changed since the last build",
                worker.name()
            ));
            build(workspace, worker, recipe, &tools)?;
            std::fs::write(stamp_path(workspace, worker), stamp)
                .context("a build stamp cannot be written")?;
            step.done();
        }
        countdown::ended(Part::Workers(recipe));
    }
    let mut built = Vec::new();
    for &worker in workers {
        let gzipped_bytes = gzipped_size(workspace, worker)?;
        built.push(BuiltWorker { worker, gzipped_bytes, rebuilt: outdated.contains_key(&worker) });
    }
    if recipe == Recipe::Deployed {
        check_sizes(&built)?;
    }
    Ok(built)
}

/// The workers that are not built, or were built of something else, each with the stamp of what it is to be made of. Looks for no tool:
/// the common case is that everything is up to date.
pub fn outdated(
    workspace: &Workspace,
    workers: &[Worker],
    recipe: Recipe,
) -> Result<BTreeMap<Worker, String>> {
    let metadata = workspace.cargo_metadata()?;
    let mut outdated = BTreeMap::new();
    for &worker in workers {
        let wanted = stamp_of(workspace, &metadata, worker, recipe)?;
        let found = std::fs::read_to_string(stamp_path(workspace, worker)).unwrap_or_default();
        if found != wanted || !wasm_path(workspace, worker).is_file() {
            outdated.insert(worker, wanted);
        }
    }
    Ok(outdated)
}

/// What a worker is built with.
struct Tools {
    node: NodeTools,
    rust: RustTools,
    toolchain: WasmToolchain,
}

/// Installs the tools, and compiles the workers while that goes on where they share what they are made of: then one call of cargo
/// keeps all cores busy, and each worker's own build finds it done.
fn tools_and_compiled(workspace: &Workspace, workers: &[Worker], recipe: Recipe) -> Result<Tools> {
    std::thread::scope(|scope| {
        let node = scope.spawn(|| node_tools::ensure(workspace));
        let rust = scope.spawn(|| rust_tools::ensure(workspace));
        let toolchain = wasm_target::ensure(workspace)?;
        if recipe == Recipe::Quick {
            compile_together(workspace, workers, &toolchain)?;
        }
        Ok(Tools { node: ended(node)?, rust: ended(rust)?, toolchain })
    })
}

/// What a thread came to; a panic goes on in this one.
fn ended<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn compile_together(workspace: &Workspace, workers: &[Worker], toolchain: &WasmToolchain) -> Result<()> {
    let step = Step::start("Compiling the workers");
    let mut command = cargo();
    command.args(["build", "--quiet", "--locked", "--lib", "--target", wasm_target::TARGET]);
    command.args(["--profile", Recipe::Quick.profile()]);
    for worker in workers {
        command.args(["--package", &worker.package()]);
    }
    compile_as_worker_build_does(workspace, &mut command, toolchain)?;
    run_shown(command.current_dir(workspace.root())).context("the workers do not compile")?;
    step.done();
    Ok(())
}

/// The environment in which a worker is compiled, the same for whoever calls cargo, so that nothing is compiled twice.
fn compile_as_worker_build_does(
    workspace: &Workspace,
    command: &mut Command,
    toolchain: &WasmToolchain,
) -> Result<()> {
    command
        // worker-build sets it for the macros of wasm-bindgen.
        .env("WASM_BINDGEN_USE_JS_SYS", "1")
        // A directory of its own: native builds may go on meanwhile, and two compilers don't share fingerprints.
        .env("CARGO_TARGET_DIR", workspace.target_dir()?.join("workers"));
    for name in ["CARGO", "RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(name);
    }
    toolchain.apply(command);
    Ok(())
}

fn check_sizes(built: &[BuiltWorker]) -> Result<()> {
    for BuiltWorker { worker, gzipped_bytes, rebuilt } in built {
        if *rebuilt {
            detail(format!("{}: {} KB gzipped", worker.name(), gzipped_bytes / 1000));
        }
        if *gzipped_bytes > GZIPPED_BYTES_MAX {
            bail!(
                "the {} worker is {gzipped_bytes} bytes gzipped, over its budget of {GZIPPED_BYTES_MAX}: look at what it \
                 depends on with `cargo tree -p {}`",
                worker.name(),
                worker.package()
            );
        }
    }
    Ok(())
}

fn build(workspace: &Workspace, worker: Worker, recipe: Recipe, tools: &Tools) -> Result<()> {
    let out_dir = workspace.build_dir().join(worker.name());
    std::fs::create_dir_all(&out_dir).with_context(|| format!("{} cannot be created", out_dir.display()))?;
    let mut command = Command::new(&tools.rust.worker_build);
    match recipe {
        Recipe::Deployed => command.arg("--release"),
        Recipe::Quick => command.args(["--profile", recipe.profile()]),
    };
    command.arg("--out-dir").arg(Path::new("../../build").join(worker.name()));
    command.args(["--no-opt", "--", "--quiet", "--locked"]);
    if recipe == Recipe::Deployed {
        command.args(worker.build_settings());
    }
    command
        .current_dir(workspace.root().join("crates").join(worker.name()))
        .env("PATH", tools.node.path())
        .env("WASM_BINDGEN_BIN", &tools.rust.wasm_bindgen)
        .env("ESBUILD_BIN", tools.node.esbuild());
    compile_as_worker_build_does(workspace, &mut command, &tools.toolchain)?;
    output_of(&mut command)
        .map(drop)
        .with_context(|| format!("the {} worker does not build", worker.name()))?;
    match recipe {
        Recipe::Deployed => optimise(workspace, worker, &tools.node),
        Recipe::Quick => Ok(()),
    }
}

/// Makes the wasm smaller or faster. worker-build would do it too, but keeps the names of all functions: a tenth of the size, while a
/// panic's message names its place anyway.
fn optimise(workspace: &Workspace, worker: Worker, node: &NodeTools) -> Result<()> {
    let wasm = wasm_path(workspace, worker);
    let better = wasm.with_extension("better");
    let mut command = Command::new(node.wasm_opt());
    command
        .env("PATH", node.path())
        .arg(&wasm)
        .arg("-o")
        .arg(&better)
        .args([worker.wasm_optimisation(), "--strip-debug"]);
    command.args(WASM_FEATURES.map(|feature| format!("--enable-{feature}")));
    output_of(&mut command)
        .map(drop)
        .with_context(|| format!("the {} worker cannot be optimised", worker.name()))?;
    std::fs::rename(&better, &wasm).with_context(|| format!("{} cannot be replaced", wasm.display()))
}

fn stamp_path(workspace: &Workspace, worker: Worker) -> PathBuf {
    workspace.build_dir().join(format!("{}.stamp", worker.name()))
}

fn wasm_path(workspace: &Workspace, worker: Worker) -> PathBuf {
    workspace.build_dir().join(worker.name()).join("index_bg.wasm")
}

/// What a worker weighs on its way to a data centre.
pub fn gzipped_size(workspace: &Workspace, worker: Worker) -> Result<u64> {
    let mut total = 0;
    for path in [wasm_path(workspace, worker), workspace.build_dir().join(worker.name()).join("index.js")] {
        let content =
            std::fs::read(&path).with_context(|| format!("{} is missing: build it", path.display()))?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&content).context("gzip failed")?;
        total += encoder.finish().context("gzip failed")?.len() as u64;
    }
    Ok(total)
}

/// A digest of all that a worker's build reads.
fn stamp_of(workspace: &Workspace, metadata: &Value, worker: Worker, recipe: Recipe) -> Result<String> {
    let mut files = BTreeSet::new();
    for name in ["Cargo.lock", "Cargo.toml", "rust-toolchain.toml", "package-lock.json"] {
        files.insert(workspace.root().join(name));
    }
    for directory in path_dependencies(metadata, &worker.package())? {
        collect_files(&directory, &mut files)?;
    }
    let mut digest = Sha256::new();
    digest.update(WORKER_BUILD_VERSION);
    // This recipe is part of what a worker is made of.
    digest.update(include_bytes!("worker_build.rs"));
    digest.update(recipe.profile());
    for file in files {
        let content = std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let name = file.strip_prefix(workspace.root()).unwrap_or(&file);
        digest.update(name.as_os_str().as_encoded_bytes());
        digest.update((content.len() as u64).to_le_bytes());
        digest.update(content);
    }
    Ok(hex::encode(digest.finalize()))
}

/// The directories of a package and of every workspace package that it is built from.
fn path_dependencies(metadata: &Value, package: &str) -> Result<BTreeSet<PathBuf>> {
    let packages =
        metadata.get("packages").and_then(Value::as_array).context("cargo metadata has no packages")?;
    let find = |name: &str| {
        packages.iter().find(|candidate| candidate.get("name").and_then(Value::as_str) == Some(name))
    };
    let mut directories = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![package.to_owned()];
    while let Some(name) = open.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let found = find(&name).with_context(|| format!("no package {name} in the workspace"))?;
        let manifest = found.get("manifest_path").and_then(Value::as_str).unwrap_or_default();
        directories.insert(Path::new(manifest).parent().unwrap_or(Path::new("")).to_path_buf());
        let dependencies = found.get("dependencies").and_then(Value::as_array).into_iter().flatten();
        for dependency in dependencies {
            let is_local = dependency.get("path").is_some_and(Value::is_string);
            let is_test_only = dependency.get("kind").and_then(Value::as_str) == Some("dev");
            if is_local && !is_test_only {
                open.extend(dependency.get("name").and_then(Value::as_str).map(str::to_owned));
            }
        }
    }
    Ok(directories)
}

fn collect_files(directory: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("{} cannot be read", directory.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("{} cannot be read", directory.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            // Tests and snapshots don't end up in a worker.
            if !matches!(name.as_str(), "target" | "tests" | "snapshots" | "build" | "benches") {
                collect_files(&path, files)?;
            }
        } else {
            files.insert(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_worker_is_made_of_the_crates_it_reaches_but_not_of_test_helpers() {
        let metadata = json!({"packages": [
            {"name": "keapsync-sync", "manifest_path": "/w/crates/sync/Cargo.toml", "dependencies": [
                {"name": "keapsync-platform", "path": "/w/crates/platform", "kind": null},
                {"name": "serde", "kind": null}]},
            {"name": "keapsync-platform", "manifest_path": "/w/crates/platform/Cargo.toml", "dependencies": [
                {"name": "keapsync-domain", "path": "/w/crates/domain", "kind": null},
                {"name": "keapsync-keap-sim", "path": "/w/crates/keap-sim", "kind": "dev"}]},
            {"name": "keapsync-domain", "manifest_path": "/w/crates/domain/Cargo.toml", "dependencies": []},
            {"name": "keapsync-keap-sim", "manifest_path": "/w/crates/keap-sim/Cargo.toml", "dependencies": []}]});
        let directories = path_dependencies(&metadata, "keapsync-sync").unwrap();
        let expected: BTreeSet<PathBuf> =
            ["/w/crates/sync", "/w/crates/platform", "/w/crates/domain"].map(PathBuf::from).into();
        assert_eq!(directories, expected);
    }

    #[test]
    fn a_worker_over_its_budget_fails_the_build() {
        let built = |gzipped_bytes| [BuiltWorker { worker: Worker::Sync, gzipped_bytes, rebuilt: false }];
        assert!(check_sizes(&built(GZIPPED_BYTES_MAX)).is_ok());
        assert!(
            check_sizes(&built(GZIPPED_BYTES_MAX + 1)).unwrap_err().to_string().contains("over its budget")
        );
    }
}
