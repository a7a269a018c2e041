//! The `wasm32-unknown-unknown` target that the workers are built for.
//!
//! Three ways, in this order: the pinned toolchain already has it; `rustup target add` fetches it; or Debian's own
//! compiler builds the standard library once from Debian's source. The last needs no access to rustup's server, and its
//! compiler serves the worker builds only: native builds keep the pinned toolchain.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::countdown::{self, Part};
use crate::debian;
use crate::progress::{Step, say};
use crate::subprocess::{cargo, find_program, output_of, run_shown, succeeds_within};
use crate::workspace::Workspace;

/// The target triple of a worker.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// The name under which rustup knows Debian's compiler.
const DEBIAN_TOOLCHAIN: &str = "keapsync-debian";

/// How long `rustup target add` may try; a firewall that swallows packets would else hang it for minutes.
const RUSTUP_LIMIT: Duration = Duration::from_mins(1);

/// Debian's packages with a compiler for wasm, its cargo, the library's source and the linker.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-22"];

/// Where Debian's compiler is, and where it looks for libraries.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_RUSTLIB: &str = "/usr/lib/rustlib";

/// The compiler's flags for the standard library: link-time optimisation of the workers reads its bitcode.
const LIBRARY_FLAGS: &str = "-Cembed-bitcode=yes";

/// The toolchain that builds workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WasmToolchain {
    /// The pinned toolchain has the target.
    Pinned,
    /// Debian's compiler with a standard library that we built.
    Debian {
        /// The program that links wasm.
        linker: PathBuf,
    },
}

impl WasmToolchain {
    /// Points a cargo command, or a program that calls cargo, at this toolchain.
    pub fn apply(&self, command: &mut Command) {
        if let Self::Debian { linker } = self {
            command
                .env("RUSTUP_TOOLCHAIN", DEBIAN_TOOLCHAIN)
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
    }
}

/// Whether some toolchain can build for wasm already.
pub fn is_installed(workspace: &Workspace) -> Result<bool> {
    Ok(pinned_has_target(workspace)? || installed_debian_toolchain(workspace).is_some())
}

/// Makes sure that some toolchain can build for wasm, and says which.
pub fn ensure(workspace: &Workspace) -> Result<WasmToolchain> {
    if pinned_has_target(workspace)? {
        return Ok(WasmToolchain::Pinned);
    }
    if let Some(toolchain) = installed_debian_toolchain(workspace) {
        return Ok(toolchain);
    }
    if find_program("rustup").is_some() {
        let step = Step::start(format!("Fetching the {TARGET} target with rustup (at most 60 s)"));
        let mut add = Command::new("rustup");
        add.args(["target", "add", TARGET]).current_dir(workspace.root());
        if succeeds_within(&mut add, RUSTUP_LIMIT)? && pinned_has_target(workspace)? {
            step.done();
            countdown::ended(Part::WasmToolchain);
            return Ok(WasmToolchain::Pinned);
        }
        say("rustup's server is out of reach; using Debian's compiler for the workers instead");
    }
    build_debian_toolchain(workspace)
}

fn pinned_has_target(workspace: &Workspace) -> Result<bool> {
    let sysroot = output_of(Command::new("rustc").args(["--print", "sysroot"]).current_dir(workspace.root()))
        .context("rustc does not run: install Rust from https://rustup.rs")?;
    Ok(has_standard_library(&Path::new(sysroot.trim()).join("lib/rustlib")))
}

fn has_standard_library(rustlib: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(rustlib.join(TARGET).join("lib")) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

fn stamp_path() -> PathBuf {
    Path::new(DEBIAN_RUSTLIB).join(TARGET).join("keapsync-built-by")
}

/// The Debian toolchain when it is complete: compiler, library built by that very compiler, linker and rustup's link.
fn installed_debian_toolchain(workspace: &Workspace) -> Option<WasmToolchain> {
    let linker = find_linker()?;
    let recipe = library_recipe().ok()?;
    let built_by = std::fs::read_to_string(stamp_path()).ok()?;
    let has_link = Command::new("rustc")
        .args(["--print", "sysroot"])
        .env("RUSTUP_TOOLCHAIN", DEBIAN_TOOLCHAIN)
        .current_dir(workspace.root())
        .output()
        .is_ok_and(|output| output.status.success());
    let complete = built_by == recipe && has_link && has_standard_library(Path::new(DEBIAN_RUSTLIB));
    complete.then_some(WasmToolchain::Debian { linker })
}

/// What a built library depends on: the compiler and the flags.
fn library_recipe() -> Result<String> {
    Ok(format!("{LIBRARY_FLAGS}\n{}", output_of(Command::new(DEBIAN_RUSTC).arg("-vV"))?))
}

/// The wasm linker: a versioned one of Debian's if there is one, the newest first.
fn find_linker() -> Option<PathBuf> {
    (18..=30).rev().map(|version| format!("wasm-ld-{version}")).find_map(|name| find_program(&name))
}

fn build_debian_toolchain(workspace: &Workspace) -> Result<WasmToolchain> {
    let source = Path::new(DEBIAN_RUSTLIB).join("src/rust/library/std");
    if !Path::new(DEBIAN_RUSTC).is_file() || !source.is_dir() || find_linker().is_none() {
        debian::install(&DEBIAN_PACKAGES, "the workers need a Rust compiler for wasm")?;
    }
    let linker = find_linker().context("no wasm linker after installing lld-22: install lld")?;
    let library = Path::new(DEBIAN_RUSTLIB).join(TARGET).join("lib");
    std::fs::create_dir_all(&library).with_context(|| {
        format!(
            "{} cannot be created: run the command once as root to build the standard library",
            library.display()
        )
    })?;
    let step =
        Step::start("Building Rust's standard library for wasm from Debian's source (once, half a minute)");
    build_standard_library(workspace, &library)?;
    link_toolchain()?;
    std::fs::write(stamp_path(), library_recipe()?)
        .context("the stamp of the standard library cannot be written")?;
    step.done();
    countdown::ended(Part::WasmToolchain);
    Ok(WasmToolchain::Debian { linker })
}

/// Builds an empty crate with `build-std` and keeps the libraries it was built with.
fn build_standard_library(workspace: &Workspace, library: &Path) -> Result<()> {
    let scratch = workspace.cache_dir().join("wasm-standard-library");
    let source = scratch.join("src");
    std::fs::create_dir_all(&source).with_context(|| format!("{} cannot be created", source.display()))?;
    let manifest = "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[profile.release]\n\
                    panic = \"abort\"\n\n[workspace]\n";
    std::fs::write(scratch.join("Cargo.toml"), manifest).context("the scratch crate cannot be written")?;
    std::fs::write(source.join("lib.rs"), "").context("the scratch crate cannot be written")?;
    let target = scratch.join("target");
    if target.exists() {
        std::fs::remove_dir_all(&target)
            .with_context(|| format!("{} cannot be removed", target.display()))?;
    }
    let mut build = Command::new("/usr/bin/cargo");
    build
        .args(["build", "--quiet", "--release", "--target", TARGET, "-Zbuild-std=std,panic_abort,proc_macro"])
        .current_dir(&scratch)
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", LIBRARY_FLAGS)
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTUP_TOOLCHAIN");
    run_shown(&mut build).context("Rust's standard library could not be built for wasm")?;
    let dependencies = target.join(TARGET).join("release/deps");
    let entries = std::fs::read_dir(&dependencies)
        .with_context(|| format!("{} cannot be read", dependencies.display()))?;
    remove_old_libraries(library)?;
    let mut copied = 0;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_library(&entry.path()) && !name.starts_with("libempty") {
            std::fs::copy(entry.path(), library.join(&name))
                .with_context(|| format!("{name} cannot be copied"))?;
            copied += 1;
        }
    }
    if copied == 0 {
        bail!("building the standard library produced nothing in {}", dependencies.display());
    }
    Ok(())
}

fn is_library(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rlib")
}

/// Two generations of the same library side by side confuse the compiler.
fn remove_old_libraries(library: &Path) -> Result<()> {
    let entries =
        std::fs::read_dir(library).with_context(|| format!("{} cannot be read", library.display()))?;
    for entry in entries.flatten() {
        if is_library(&entry.path()) {
            std::fs::remove_file(entry.path())
                .with_context(|| format!("{} cannot be removed", entry.path().display()))?;
        }
    }
    Ok(())
}

fn link_toolchain() -> Result<()> {
    if find_program("rustup").is_none() {
        bail!("rustup is missing: install Rust from https://rustup.rs");
    }
    output_of(Command::new("rustup").args(["toolchain", "link", DEBIAN_TOOLCHAIN, "/usr"]))?;
    output_of(cargo().arg("--version").env("RUSTUP_TOOLCHAIN", DEBIAN_TOOLCHAIN)).map(drop)
}
