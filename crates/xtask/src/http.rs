//! The HTTP client of all commands.

use anyhow::{Context, Result};
use reqwest::{Client, ClientBuilder};
use std::time::Duration;

/// Longest wait for an answer: a command that hangs tells nobody what is wrong.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// What every client is made with.
pub fn builder() -> ClientBuilder {
    // The first call chooses for the whole program; a later one finds it chosen.
    let _chosen_before = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
}

/// A client that asks no proxy, for addresses on this machine and deployments alike.
pub fn client() -> Result<Client> {
    builder()
        .timeout(ANSWER_LIMIT)
        .build()
        .context("no HTTP client can be made: are the system's CA certificates installed?")
}

/// A client that keeps cookies and follows no redirect, like a browser that is looked at step by step.
pub fn stepping_browser() -> Result<Client> {
    builder()
        .timeout(ANSWER_LIMIT)
        .cookie_store(true)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("no HTTP client can be made: are the system's CA certificates installed?")
}
