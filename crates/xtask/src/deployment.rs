//! Which system a command looks at: the local one of `dev`, or a deployed one by its environment file or addresses.
//!
//! An environment file is `.env.staging` or `.env.production` at the root of the checkout, in the form of `.env.example`. Where there is
//! one, it alone counts: what is left over in somebody's shell must not send one deployment's token to another. Where there is none,
//! as in CI, variables of the same names are taken from the process' environment. What the command line says counts before both.
//! Nothing of it is ever printed but addresses and names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::secrets::Secrets;
use crate::system::SystemRecord;
use crate::workspace::Workspace;

/// What the coordinator's redirect address ends in; before it stands the coordinator's own.
const CALLBACK_PATH: &str = "/oauth/callback";

/// What is taken from the process' own environment where there is no file, as in CI.
const FROM_SURROUNDINGS: [&str; 17] = [
    "KEAP_CLIENT_ID",
    "KEAP_CLIENT_SECRET",
    "KEAP_REDIRECT_URI",
    "WEBHOOK_PUBLIC_URL",
    "SYNC_PUBLIC_URL",
    "KEAP_WEBHOOK_SECRET",
    "KEAP_WEBHOOK_SECRET_PREVIOUS",
    "TOKEN_ENCRYPTION_KEY",
    "TOKEN_ENCRYPTION_KEY_PREVIOUS",
    "ADMIN_API_TOKEN",
    "ADMIN_API_TOKEN_PREVIOUS",
    "INTERNAL_TOKEN",
    "INTERNAL_TOKEN_PREVIOUS",
    "WAKE_TOKEN",
    "WAKE_TOKEN_PREVIOUS",
    "METRICS_TOKEN",
    "DATABASE_URL",
];

/// Which system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Environment {
    /// The one that `cargo xtask dev` started in this checkout.
    #[default]
    Local,
    /// The deployment that `.env.staging` describes.
    Staging,
    /// The deployment that `.env.production` describes.
    Production,
}

impl Environment {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

/// The system that is meant, on the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DeploymentArguments {
    /// Which system: the local one, or the deployment described by `.env.staging` or `.env.production`.
    #[arg(long, value_enum, default_value_t)]
    pub env: Environment,
    /// Another environment file.
    #[arg(long, value_name = "PATH")]
    pub env_file: Option<PathBuf>,
    /// The coordinator's address; by default what stands before /oauth/callback in `KEAP_REDIRECT_URI`.
    #[arg(long, value_name = "URL")]
    pub coordinator_url: Option<String>,
    /// The sync worker's address; by default `SYNC_PUBLIC_URL`.
    #[arg(long, value_name = "URL")]
    pub sync_url: Option<String>,
    /// The webhook handler's address; by default `WEBHOOK_PUBLIC_URL`.
    #[arg(long, value_name = "URL")]
    pub webhook_url: Option<String>,
    /// The deployment's admin token; by default `ADMIN_API_TOKEN` of the environment file, where there is none of the shell, or the
    /// local system's.
    #[arg(long)]
    pub token: Option<String>,
}

/// A system, as far as it is known.
#[derive(Clone, PartialEq, Eq)]
pub struct Deployment {
    /// How it is called when a fix names it.
    pub environment: Environment,
    /// The coordinator, without a slash at the end, as all of these.
    pub coordinator: String,
    /// The sync worker.
    pub sync: String,
    /// The webhook handler.
    pub webhook: String,
    /// The admin token.
    pub admin_token: String,
}

impl std::fmt::Debug for Deployment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Deployment({}, {}, {})", self.coordinator, self.sync, self.webhook)
    }
}

/// The variables of an environment file.
pub type Variables = BTreeMap<String, String>;

impl DeploymentArguments {
    /// Whether a deployed system is meant rather than the local one.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.env != Environment::Local
            || self.env_file.is_some()
            || self.coordinator_url.is_some()
            || self.sync_url.is_some()
            || self.webhook_url.is_some()
    }

    /// The environment file's place, if one belongs to it.
    #[must_use]
    pub fn file(&self, workspace: &Workspace) -> Option<PathBuf> {
        match (&self.env_file, self.env) {
            (Some(path), _) => Some(path.clone()),
            (None, Environment::Local) => None,
            (None, environment) => Some(workspace.root().join(format!(".env.{}", environment.name()))),
        }
    }

    /// The variables of the environment file, or where there is none those of this process; none of the local system.
    pub fn variables(&self, workspace: &Workspace) -> Result<Variables> {
        self.variables_among(workspace, |name| std::env::var(name).ok())
    }

    /// As [`Self::variables`], with `surroundings` in the place of this process' environment.
    fn variables_among(
        &self,
        workspace: &Workspace,
        surroundings: impl Fn(&str) -> Option<String>,
    ) -> Result<Variables> {
        if !self.is_remote() {
            return Ok(Variables::new());
        }
        let found = || -> Variables {
            let set = |name: &str| surroundings(name).filter(|value| !value.is_empty());
            FROM_SURROUNDINGS.iter().filter_map(|name| Some(((*name).to_owned(), set(name)?))).collect()
        };
        let Some(path) = self.file(workspace) else { return Ok(found()) };
        if !path.exists() && self.env_file.is_none() {
            let found = found();
            // Addresses and a token are enough for what is asked of the workers.
            if found.contains_key("KEAP_REDIRECT_URI") || self.coordinator_url.is_some() {
                return Ok(found);
            }
        }
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "{} cannot be read: copy .env.example there and fill it in, or give the addresses as flags",
                path.display()
            )
        })?;
        parse(&text).with_context(|| format!("{} cannot be read", path.display()))
    }

    /// The system that is meant.
    pub fn deployment(&self, state_dir: &Path, variables: &Variables) -> Result<Deployment> {
        if !self.is_remote() {
            return Self::local(state_dir);
        }
        let variable = |name: &str| variables.get(name).filter(|value| !value.is_empty()).cloned();
        let coordinator = || variable("KEAP_REDIRECT_URI")?.strip_suffix(CALLBACK_PATH).map(str::to_owned);
        let chosen = |flag: &Option<String>, other: Option<String>, advice: &str| -> Result<String> {
            let url = flag.clone().or(other).with_context(|| advice.to_owned())?;
            let url = url.trim_end_matches('/').to_owned();
            if !url.starts_with("http://") && !url.starts_with("https://") {
                bail!("{url} is no address: begin it with https://");
            }
            Ok(url)
        };
        Ok(Deployment {
            environment: self.env,
            coordinator: chosen(
                &self.coordinator_url,
                coordinator(),
                "give --coordinator-url, or KEAP_REDIRECT_URI in the environment file (it ends in /oauth/callback)",
            )?,
            sync: chosen(
                &self.sync_url,
                variable("SYNC_PUBLIC_URL"),
                "give --sync-url, or SYNC_PUBLIC_URL in the environment file",
            )?,
            webhook: chosen(
                &self.webhook_url,
                variable("WEBHOOK_PUBLIC_URL"),
                "give --webhook-url, or WEBHOOK_PUBLIC_URL in the environment file",
            )?,
            admin_token: self
                .token
                .clone()
                .filter(|token| !token.is_empty())
                .or_else(|| variable("ADMIN_API_TOKEN"))
                .context(
                    "set ADMIN_API_TOKEN to the deployment's admin token: in the environment file, or where there is none in the shell",
                )?,
        })
    }

    fn local(state_dir: &Path) -> Result<Deployment> {
        let record = SystemRecord::read(state_dir)?
            .context("no local system is running: start one with `cargo xtask dev --detach`, or name a deployment by --env")?;
        Ok(Deployment {
            environment: Environment::Local,
            coordinator: record.urls.coordinator,
            sync: record.urls.sync,
            webhook: record.urls.webhook,
            admin_token: Secrets::of(state_dir)?.admin_api_token,
        })
    }
}

/// Reads lines of `NAME=value` as `deploy.sh` does: nothing in them is carried out or replaced, values may stand in quotes, comments stand
/// on lines of their own and begin with `#`. What could be meant in two ways is refused by the number of its line.
pub fn parse(text: &str) -> Result<Variables> {
    let mut variables = Variables::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        // The line itself stays out of the message: it may be a secret.
        let (name, value) = line
            .split_once('=')
            .filter(|(name, _)| is_name(name))
            .with_context(|| format!("line {} is not of the form NAME=value", number + 1))?;
        let value = unquoted(value.trim()).with_context(|| {
            format!(
                "line {}: the quotes of {name} are not closed, or a comment stands behind its value: write a value on one line, and a comment on another",
                number + 1
            )
        })?;
        variables.insert(name.to_owned(), value.to_owned());
    }
    Ok(variables)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A value without its quotes; `None` of one that has no second quote or a comment behind it.
fn unquoted(value: &str) -> Option<&str> {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            return rest.strip_suffix(quote);
        }
    }
    let has_comment = value.split_whitespace().skip(1).any(|word| word.starts_with('#'));
    (!has_comment).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_files_are_read_as_the_script_reads_them() {
        let read = parse("# a comment\n\nexport A=1\nB=\"two words\"\nC='it''s'\nD=x=y==\nE=\n").unwrap();
        let value = |name: &str| read.get(name).map(String::as_str);
        assert_eq!((value("A"), value("B"), value("D")), (Some("1"), Some("two words"), Some("x=y==")));
        assert_eq!((value("E"), value("F")), (Some(""), None));
        let error = parse("A=1\nsecret-alone\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("secret-alone"), "{error}");
        // What no other reader takes for a setting is none here either.
        assert!(parse("A=1\n\nNAME = value\n").unwrap_err().to_string().contains("line 3"));
        for unclear in ["A=\"first line", "A='", "A=secret   # a note"] {
            let error = parse(unclear).unwrap_err().to_string();
            assert!(error.contains("line 1") && !error.contains("secret"), "{error}");
        }
        assert_eq!(parse("\u{feff}A=a#b\r\n").unwrap().get("A").unwrap(), "a#b");
        // A shell would replace and carry out parts of these.
        let raw = parse("A=postgres://u:p@h/d?a=1&b=`id`$HOME\n").unwrap();
        assert_eq!(raw.get("A").unwrap(), "postgres://u:p@h/d?a=1&b=`id`$HOME");
    }

    #[test]
    fn what_is_left_over_in_a_shell_counts_only_where_there_is_no_file() {
        let workspace = Workspace::discover().unwrap();
        let nowhere = Path::new("/nowhere");
        let shell = |name: &str| match name {
            "ADMIN_API_TOKEN" => Some("of-the-shell".to_owned()),
            "METRICS_TOKEN" => Some(String::new()),
            _ => None,
        };
        let directory = std::env::temp_dir().join(format!("keapsync-deployment-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("environment");
        let addresses = "KEAP_REDIRECT_URI=https://c.example/oauth/callback\nSYNC_PUBLIC_URL=https://s.example\n\
                         WEBHOOK_PUBLIC_URL=https://w.example\n";
        let with_file =
            DeploymentArguments { env_file: Some(file.clone()), ..DeploymentArguments::default() };
        let token_of = |arguments: &DeploymentArguments| {
            let variables = arguments.variables_among(&workspace, shell)?;
            Ok::<_, anyhow::Error>(arguments.deployment(nowhere, &variables)?.admin_token)
        };
        std::fs::write(&file, format!("{addresses}ADMIN_API_TOKEN=of-the-file\n")).unwrap();
        assert_eq!(token_of(&with_file).unwrap(), "of-the-file");
        // A file without the token is incomplete: the one of the shell may be another deployment's.
        std::fs::write(&file, format!("{addresses}ADMIN_API_TOKEN=\n")).unwrap();
        assert!(token_of(&with_file).unwrap_err().to_string().contains("ADMIN_API_TOKEN"));
        std::fs::remove_dir_all(&directory).unwrap();

        let url = |url: &str| Some(url.to_owned());
        let without_file = DeploymentArguments {
            coordinator_url: url("https://c.example"),
            sync_url: url("https://s.example"),
            webhook_url: url("https://w.example"),
            ..DeploymentArguments::default()
        };
        assert_eq!(token_of(&without_file).unwrap(), "of-the-shell");
        let variables = without_file.variables_among(&workspace, shell).unwrap();
        assert_eq!(variables.keys().collect::<Vec<_>>(), ["ADMIN_API_TOKEN"], "empty counts as unset");
        let local = DeploymentArguments::default().variables_among(&workspace, shell).unwrap();
        assert!(local.is_empty(), "the local system has its own");
        let given = DeploymentArguments { token: Some("given".to_owned()), ..without_file };
        assert_eq!(token_of(&given).unwrap(), "given");
    }

    #[test]
    fn no_option_of_smoke_or_doctor_is_filled_by_the_shell() {
        let command = <crate::cli::Arguments as clap::CommandFactory>::command();
        for name in ["smoke", "doctor"] {
            let options = command.find_subcommand(name).unwrap().get_arguments();
            let filled: Vec<&str> = options
                .filter(|option| option.get_env().is_some())
                .map(|option| option.get_id().as_str())
                .collect();
            assert!(filled.is_empty(), "{name} takes {filled:?} from the shell before the environment file");
        }
    }

    #[test]
    fn addresses_come_from_flags_before_the_file() {
        let file = parse(
            "KEAP_REDIRECT_URI=https://c.example/oauth/callback\nSYNC_PUBLIC_URL=https://s.example/\nWEBHOOK_PUBLIC_URL=https://w.example\nADMIN_API_TOKEN=t",
        )
        .unwrap();
        let mut arguments =
            DeploymentArguments { env: Environment::Staging, ..DeploymentArguments::default() };
        let nowhere = Path::new("/nowhere");
        let found = arguments.deployment(nowhere, &file).unwrap();
        assert_eq!(
            (
                found.coordinator.as_str(),
                found.sync.as_str(),
                found.webhook.as_str(),
                found.admin_token.as_str()
            ),
            ("https://c.example", "https://s.example", "https://w.example", "t")
        );
        assert!(!format!("{found:?}").contains("\"t\""));
        arguments.sync_url = Some("http://127.0.0.1:1".to_owned());
        assert_eq!(arguments.deployment(nowhere, &file).unwrap().sync, "http://127.0.0.1:1");
        arguments.sync_url = Some("s.example".to_owned());
        assert!(arguments.deployment(nowhere, &file).unwrap_err().to_string().contains("https://"));
        arguments.sync_url = None;
        let error = arguments.deployment(nowhere, &Variables::new()).unwrap_err().to_string();
        assert!(error.contains("--coordinator-url"), "{error}");
    }
}
