//! A clean clone with stand-ins for every program that would leave the machine, and what they recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

/// The checkout.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the crate is two folders deep")
        .to_path_buf()
}

/// What a person enters before a first deployment.
pub const SETTINGS: [(&str, &str); 3] = [
    ("DATABASE_URL", "postgres://postgres:pass-of-the-owner@db.abcdefgh.supabase.co:5432/postgres"),
    ("KEAP_CLIENT_ID", "client-id"),
    ("KEAP_CLIENT_SECRET", "secret-of-the-client"),
];

/// Which call fails, counted from the start of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// None.
    None,
    /// Before anything came of it.
    Before(usize),
    /// After it was done, so that only its answer is lost.
    After(usize),
}

/// How a run of a command ended.
#[derive(Debug)]
pub struct Run {
    /// Whether its exit code was 0.
    pub succeeded: bool,
    /// Everything it printed.
    pub output: String,
    /// The calls that it made of other programs.
    pub calls: Vec<String>,
}

/// A clone in a directory of its own.
pub struct Clone {
    pub root: PathBuf,
}

/// A folder that no other clone has.
fn new_root() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    if number == 0 {
        sweep();
    }
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{ROOT_PREFIX}{}-{number}", std::process::id()))
}

/// What the folders of clones begin with; the process that made one follows.
const ROOT_PREFIX: &str = "clone-";

/// Removes what earlier processes left: copies are made of clones that live as long as their process.
fn sweep() {
    for entry in std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(ROOT_PREFIX).and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        // What stays behind the next run sweeps.
        drop(std::fs::remove_dir_all(&self.root));
    }
}

impl Clone {
    /// A clone in which nothing was built, installed or deployed, with an account and an empty database.
    pub fn new() -> Self {
        let clone = Self { root: new_root() };
        for folder in ["bin", "deploy", "node_modules/.bin", "node_modules/wrangler/wrangler-dist"] {
            std::fs::create_dir_all(clone.root.join(folder)).expect("a folder for the clone");
        }
        let mut files: Vec<PathBuf> = ["deploy.sh", "package.json", ".env.example"].map(PathBuf::from).into();
        files.extend(
            ["coordinator", "webhook", "sync"].map(|worker| format!("wrangler-{worker}.toml").into()),
        );
        for entry in std::fs::read_dir(repository().join("deploy")).expect("the folder of the script") {
            files.push(Path::new("deploy").join(entry.expect("a file of the script").file_name()));
        }
        for file in files {
            std::fs::copy(repository().join(&file), clone.root.join(&file)).expect("a file of the clone");
        }
        let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/stand_in.cjs");
        // The script starts wrangler's own program where a secret has to be handed over.
        let wrangler = clone.root.join("node_modules/wrangler/wrangler-dist/cli.js");
        for place in [&wrangler, &clone.root.join("bin/stand_in.cjs")] {
            std::fs::copy(&stand_in, place).expect("the stand-in");
        }
        clone.program(
            "node_modules/.bin/wrangler",
            "exec node \"${0%/*}/../wrangler/wrangler-dist/cli.js\" \"$@\"",
        );
        // Whoever follows the documents calls the pinned programs through npx.
        clone.program("bin/npx", "if [ -x \"node_modules/.bin/$1\" ]; then program=$1; shift; set -- \"./node_modules/.bin/$program\" \"$@\"; fi\nexec \"$@\"");
        for program in ["cargo", "npm", "curl", "xtask"] {
            let line = format!("exec node \"${{0%/*}}/stand_in.cjs\" {program} \"$@\"");
            clone.program(&format!("bin/{program}"), &line);
        }
        clone.write_state(&json!({
            "calls": [], "namespaces": [], "hyperdrives": [], "workers": {}, "database": {},
            "loggedIn": true, "accounts": [{"id": "account-id", "name": "Acme"}],
        }));
        clone
    }

    /// A clone whose environment file has what a person must enter.
    pub fn with_settings() -> Self {
        let clone = Self::new();
        clone.write_settings(&SETTINGS);
        clone
    }

    /// Another clone in the same state, with an account and a database of its own.
    pub fn copy(&self) -> Self {
        let root = new_root();
        let status = Command::new("cp").arg("-a").arg(&self.root).arg(&root).status().expect("cp is there");
        assert!(status.success(), "a clone cannot be copied");
        Self { root }
    }

    /// A clone that is deployed. The first who asks deploys it, all get a copy.
    pub fn deployed() -> Self {
        static DEPLOYED: OnceLock<Clone> = OnceLock::new();
        let deploy = || {
            let clone = Self::with_settings();
            let run = clone.deploy(&[]);
            assert!(run.succeeded, "{}", run.output);
            clone
        };
        DEPLOYED.get_or_init(deploy).copy()
    }

    fn program(&self, path: &str, line: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.root.join(path);
        std::fs::write(&path, format!("#!/bin/sh\n{line}\n")).expect("a program");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its permissions");
    }

    /// Writes the environment file of staging.
    pub fn write_settings(&self, settings: &[(&str, &str)]) {
        self.write_settings_of("staging", settings);
    }

    /// Writes the environment file of an environment.
    pub fn write_settings_of(&self, environment: &str, settings: &[(&str, &str)]) {
        let lines: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        std::fs::write(self.root.join(format!(".env.{environment}")), lines.concat())
            .expect("the environment file");
    }

    /// Changes one setting of staging, or adds it.
    pub fn change_setting(&self, name: &str, value: &str) {
        let mut settings = self.settings();
        settings.insert(name.to_owned(), value.to_owned());
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.write_settings(&settings);
    }

    /// What the environment file of staging says.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let text = std::fs::read_to_string(self.root.join(".env.staging")).expect("the environment file");
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The account and the database.
    pub fn state(&self) -> Value {
        let text = std::fs::read_to_string(self.root.join("state.json")).expect("the stand-in's state");
        serde_json::from_str(&text).expect("the stand-in writes JSON")
    }

    /// Puts the account and the database into a state.
    pub fn write_state(&self, state: &Value) {
        std::fs::write(self.root.join("state.json"), state.to_string()).expect("the stand-in's state");
    }

    /// Changes the account or the database behind the script's back.
    pub fn change_state(&self, change: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        change(&mut state);
        self.write_state(&state);
    }

    fn calls(&self) -> Vec<String> {
        let calls = self.state()["calls"].clone();
        serde_json::from_value(calls).expect("the stand-in records texts")
    }

    /// Runs `./deploy.sh` for staging.
    pub fn deploy(&self, arguments: &[&str]) -> Run {
        self.deploy_with(arguments, Failure::None, &[], "")
    }

    /// Runs `./deploy.sh` for staging with a call that fails, further variables, and something on standard input.
    pub fn deploy_with(
        &self,
        arguments: &[&str],
        failure: Failure,
        variables: &[(&str, &str)],
        input: &str,
    ) -> Run {
        let mut command = Command::new("./deploy.sh");
        command.args(arguments);
        if !arguments.contains(&"--env") {
            command.args(["--env", "staging"]);
        }
        self.run(command, failure, variables, input)
    }

    /// Runs a piece of shell as a person would type it in the clone.
    pub fn shell(&self, script: &str, variables: &[(&str, &str)]) -> Run {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]);
        self.run(command, Failure::None, variables, "")
    }

    fn run(&self, mut command: Command, failure: Failure, variables: &[(&str, &str)], input: &str) -> Run {
        let before = self.calls().len();
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .current_dir(&self.root)
            .env_clear()
            .env("PATH", format!("{}:{path}", self.root.join("bin").display()))
            .env("HOME", &self.root)
            .env("STAND_IN_STATE", self.root.join("state.json"))
            .env("KEAPSYNC_HEALTH_LIMIT_SECONDS", "0")
            // Left over in somebody's shell; what is deployed must not be a quick build.
            .env("KEAPSYNC_QUICK_WORKERS", "1")
            .env("CALLS_BEFORE", before.to_string())
            .envs(variables.iter().copied());
        match failure {
            Failure::None => {}
            Failure::Before(number) => {
                command.env("FAIL_AT", number.to_string());
            }
            Failure::After(number) => {
                command.env("FAIL_AT", number.to_string()).env("FAIL_AFTER", "yes");
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("bash is there");
        std::io::Write::write_all(&mut child.stdin.take().expect("it has an input"), input.as_bytes())
            .expect("it takes its input");
        let output = child.wait_with_output().expect("it ends");
        let text =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        let calls = self.calls().split_off(before);
        Run { succeeded: output.status.success(), output: text, calls }
    }
}
