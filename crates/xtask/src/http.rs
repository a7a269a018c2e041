//! The HTTP client of all commands.

use std::sync::Once;

use anyhow::{Context, Result};
use reqwest::Client;

static PROVIDER: Once = Once::new();

/// Chooses the cryptography that TLS uses; without it no client can be made.
fn install_provider() {
    PROVIDER.call_once(|| {
        // It fails only when a provider was installed before, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

/// A client that asks no proxy, for addresses on this machine and deployments alike.
pub fn client() -> Result<Client> {
    install_provider();
    Client::builder()
        .build()
        .context("no HTTP client can be made: are the system's CA certificates installed?")
}

/// A client that keeps cookies and follows no redirect, like a browser that is looked at step by step.
pub fn stepping_browser() -> Result<Client> {
    install_provider();
    Client::builder()
        .cookie_store(true)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("no HTTP client can be made: are the system's CA certificates installed?")
}
