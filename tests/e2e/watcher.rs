//! A client of the live feed.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use keapsync_e2e::account::Account;
use keapsync_e2e::wait::PATIENCE;
use reqwest::Method;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// An open connection. It checks that every event follows the one before.
pub struct Watcher {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The greeting.
    pub greeting: Value,
    /// The last event that it has.
    pub last: u64,
    /// Every event, as sent.
    pub seen: Vec<String>,
}

/// How a client shows who it is.
pub enum Proof<'a> {
    /// The admin's token in a header.
    Admin,
    /// A ticket, on a page of that origin.
    Ticket(&'a str, Option<&'a str>),
    /// Not at all.
    None,
}

impl Watcher {
    /// Opens the feed with the admin's token.
    pub async fn open(account: &Account<'_>, since: Option<u64>) -> Result<Self> {
        match Self::try_open(account, since, Proof::Admin).await? {
            Ok(watcher) => Ok(watcher),
            Err(status) => bail!("the feed was refused with {status}"),
        }
    }

    /// Opens the feed, or tells the status with which that is refused.
    pub async fn try_open(
        account: &Account<'_>,
        since: Option<u64>,
        proof: Proof<'_>,
    ) -> Result<Result<Self, u16>> {
        let mut url = account.route("live").replacen("http", "ws", 1);
        let mut separator = '?';
        if let Some(since) = since {
            url = format!("{url}?since={since}");
            separator = '&';
        }
        if let Proof::Ticket(ticket, _) = proof {
            url = format!("{url}{separator}ticket={ticket}");
        }
        let mut request = url.into_client_request()?;
        match proof {
            Proof::Admin => {
                let token = format!("Bearer {}", account.stage.access.admin_token);
                request.headers_mut().insert("authorization", token.parse()?);
            }
            Proof::Ticket(_, Some(origin)) => {
                request.headers_mut().insert("origin", origin.parse()?);
            }
            Proof::Ticket(_, None) | Proof::None => {}
        }
        let stream = match timeout(PATIENCE, connect_async(request)).await? {
            Ok((stream, _)) => stream,
            Err(Error::Http(response)) => return Ok(Err(response.status().as_u16())),
            Err(error) => return Err(error.into()),
        };
        let mut watcher = Self { stream, greeting: Value::Null, last: 0, seen: Vec::new() };
        let text = watcher.text().await?;
        watcher.greeting = serde_json::from_str(&text)?;
        let number = |name: &str| watcher.greeting[name].as_u64().context(name.to_owned());
        watcher.last = match watcher.greeting["type"].as_str() {
            Some("hello") => since.unwrap_or(number("newest")?),
            Some("reset") => number("first_kept")? - 1,
            _ => bail!("no greeting: {text}"),
        };
        Ok(Ok(watcher))
    }

    /// The next event.
    pub async fn next(&mut self) -> Result<Value> {
        let text = self.text().await?;
        let event: Value = serde_json::from_str(&text)?;
        ensure!(event["sequence"].as_u64() == Some(self.last + 1), "after {}: {text}", self.last);
        self.last += 1;
        self.seen.push(text);
        Ok(event)
    }

    /// The next event that satisfies `condition`.
    pub async fn until(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Result<Value> {
        let found = async {
            loop {
                let event = self.next().await?;
                if condition(&event) {
                    return Ok(event);
                }
            }
        };
        let outcome: Result<Value> =
            timeout(PATIENCE, found).await.unwrap_or_else(|_| Err(anyhow!("nothing came")));
        outcome.with_context(|| format!("waiting for {what}; told so far: {:#?}", self.seen))
    }

    /// The next message, whatever it is.
    pub async fn text(&mut self) -> Result<String> {
        match self.message().await? {
            Message::Text(text) => Ok(text.as_str().to_owned()),
            other => bail!("a message that is no text: {other:?}"),
        }
    }

    /// Waits for the close message, and tells its code.
    pub async fn closed(&mut self) -> Result<u16> {
        loop {
            if let Message::Close(frame) = self.message().await? {
                return frame.map(|frame| frame.code.into()).context("a close without a code");
            }
        }
    }

    /// Says something.
    pub async fn say(&mut self, message: impl Into<Message>) -> Result<()> {
        Ok(self.stream.send(message.into()).await?)
    }

    /// Goes, as a client does that has nothing to hide.
    pub async fn leave(mut self) -> Result<()> {
        Ok(self.stream.close(None).await?)
    }

    async fn message(&mut self) -> Result<Message> {
        let message = timeout(PATIENCE, self.stream.next()).await.context("nothing was sent")?;
        Ok(message.context("the connection ended")??)
    }
}

/// A ticket for a browser.
pub async fn ticket(account: &Account<'_>) -> Result<Value> {
    let answer = account.stage.admin(Method::POST, &account.route("live-ticket"), None).await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text);
    Ok(answer.json())
}

/// Kept events behind `since`, by plain HTTP.
pub async fn page(account: &Account<'_>, query: &str) -> Result<Value> {
    let answer = account.stage.admin(Method::GET, &account.route(&format!("live{query}")), None).await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text);
    Ok(answer.json())
}
