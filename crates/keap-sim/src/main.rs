//! The `keap-sim` command: runs the simulator until it is told to stop.

use clap::Parser;
use keapsync_keap_sim::{Options, start};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A local stand-in for Keap, for development, demonstrations and tests.
#[derive(Debug, Parser)]
#[command(name = "keap-sim", version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .init();
    let mut terminate = signal(SignalKind::terminate())?;
    let handle = start(arguments.options).await?;
    println!("Keap simulator on {}", handle.url());
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    tracing::info!(event = "stopping");
    handle.shutdown().await;
    Ok(())
}
