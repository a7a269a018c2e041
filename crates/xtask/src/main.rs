//! `cargo xtask`: reads the command line, calls the library, and prints an error as its chain of causes.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use keapsync_xtask::cli::{Arguments, Command, MigrateCommand};
use keapsync_xtask::engine_password::{self, PASSWORD_VARIABLE};
use keapsync_xtask::progress::say;
use keapsync_xtask::system::SystemRecord;
use keapsync_xtask::worker_build::{self, Recipe, Worker};
use keapsync_xtask::workspace::Workspace;
use keapsync_xtask::{
    account_edits, artifacts, bench, chaos, dev, doctor, fuzz, live, migrate, schema_docs, send_hook,
    simulate, smoke, status, supervise, system, test_run,
};

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Not the Debug form: a backtrace hides the sentence that names the fix.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("no asynchronous runtime")?;
    if let Command::Supervise { state_dir } = &arguments.command {
        runtime.block_on(supervise::run(state_dir))?;
        return Ok(ExitCode::SUCCESS);
    }
    let workspace = Workspace::discover()?;
    let state_dir = workspace.dev_state_dir();
    match arguments.command {
        Command::Dev(arguments) => runtime.block_on(dev::run(&workspace, &arguments))?,
        Command::Down => {
            let stopped = dev::down(&state_dir)?;
            say(if stopped { "Everything is stopped" } else { "Nothing was running" });
        }
        Command::Status { json } => {
            let status = runtime.block_on(status::of(&state_dir))?;
            if json {
                println!("{}", serde_json::to_string_pretty(&status)?);
            } else {
                println!("{}", status.table());
            }
            return Ok(if status.up { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Migrate { direction } => {
            let url = database_url(&state_dir)?;
            runtime.block_on(run_migrations(&workspace, &url, direction))?;
        }
        Command::EnginePassword => {
            // Never the database of `dev` by mistake: its workers have a password already.
            let url = required_variable("DATABASE_URL")?;
            runtime.block_on(engine_password::set(&url, &required_variable(PASSWORD_VARIABLE)?))?;
            say("The workers' role has its password");
        }
        Command::Doctor(arguments) => {
            let all_well = runtime.block_on(doctor::run(&workspace, &arguments))?;
            return Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Smoke(arguments) => {
            let holds = runtime.block_on(smoke::run(&workspace, &arguments))?;
            return Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Test(arguments) => {
            let all_passed = runtime.block_on(test_run::run(&workspace, &arguments))?;
            return Ok(if all_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::SchemaDocs { check } => runtime.block_on(schema_docs::run(&workspace, check))?,
        Command::Bench(arguments) => runtime.block_on(bench::run(arguments))?,
        Command::AccountEdits(arguments) => {
            let is_sound = account_edits::run(&workspace, &arguments)?;
            return Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Simulate(arguments) => {
            let is_sound = simulate::run(&workspace, &arguments)?;
            return Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Fuzz(arguments) => {
            let nothing_found = fuzz::run(&workspace, &arguments)?;
            return Ok(if nothing_found { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Chaos(arguments) => {
            let holds = chaos::run(&workspace, &arguments)?;
            return Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::SendHook(arguments) => runtime.block_on(send_hook::run(&state_dir, &arguments))?,
        Command::Live(arguments) => runtime.block_on(live::run(&state_dir, &arguments))?,
        Command::Setup => {
            artifacts::ensure(&workspace, &system::SystemOptions::for_dev(system::Lifetime::Detached))?;
            say("Everything that `cargo xtask dev` needs is installed and built");
        }
        Command::BuildWorker { workers } => {
            let workers = if workers.is_empty() { Worker::ALL.to_vec() } else { workers };
            worker_build::ensure(&workspace, &workers, Recipe::of_environment())?;
        }
        Command::Supervise { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// A variable of the environment that has to be set.
fn required_variable(name: &str) -> Result<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.is_empty())
        .with_context(|| format!("set {name}; .env.example says what it is"))
}

/// The database that commands work on: `DATABASE_URL`, or that of the running system.
fn database_url(state_dir: &std::path::Path) -> Result<String> {
    if let Some(url) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
        return Ok(url);
    }
    let record = SystemRecord::read(state_dir)?
        .context("set DATABASE_URL, or start a local database with `cargo xtask dev --detach`")?;
    Ok(record.urls.database)
}

async fn run_migrations(workspace: &Workspace, url: &str, direction: MigrateCommand) -> Result<()> {
    match direction {
        MigrateCommand::Up { to } => {
            let versions = migrate::up(workspace, url, to).await?;
            say(format!("Applied {} migrations {versions:?}", versions.len()));
        }
        MigrateCommand::Down { to } => {
            let versions = migrate::down(workspace, url, to).await?;
            say(format!("Undid {} migrations {versions:?}", versions.len()));
        }
        MigrateCommand::Status => {
            for migration in migrate::status(workspace, url).await? {
                let state = match (migration.applied, migration.changed_since) {
                    (false, _) => "missing",
                    (true, false) => "applied",
                    (true, true) => "applied, but its file was changed since",
                };
                println!("{:04} {:<24} {state}", migration.version, migration.name);
            }
        }
    }
    Ok(())
}
