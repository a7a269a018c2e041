//! The HTTP client of all commands.

use anyhow::{Context, Result};
use reqwest::Client;
use std::time::Duration;

/// Longest wait for an answer: a command that hangs tells nobody what is wrong.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// A client that asks no proxy, for addresses on this machine and deployments alike.
pub fn client() -> Result<Client> {
    Client::builder()
        .timeout(ANSWER_LIMIT)
        .build()
        .context("no HTTP client can be made: are the system's CA certificates installed?")
}

/// A client that keeps cookies and follows no redirect, like a browser that is looked at step by step.
pub fn stepping_browser() -> Result<Client> {
    Client::builder()
        .timeout(ANSWER_LIMIT)
        .cookie_store(true)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("no HTTP client can be made: are the system's CA certificates installed?")
}
