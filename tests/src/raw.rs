//! HTTP/1.1 byte by byte, for requests that no proper client would send: paths that are not tidied up, headers twice, lengths that
//! lie.

use crate::wait::until;
use anyhow::{Context as _, Result, ensure};
use futures_util::{FutureExt as _, select};
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a connection may stay silent once an answer has begun: it is kept open for the next request.
const SILENCE: Duration = Duration::from_millis(500);

/// The first answer's status, and all that came back as text. Status 0 when the connection was closed without an answer.
#[derive(Debug)]
pub struct RawAnswer {
    /// HTTP status.
    pub status: u16,
    /// Head and body, and further answers if there were any.
    pub text: String,
}

/// A request line and headers as they are, with `Host` and the end of the head added.
#[must_use]
pub fn head(origin: &str, request_line: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let host = host_of(origin);
    let mut text = format!("{request_line} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Sends bytes and reads what comes back. It reads while it sends: who refuses a body closes before it has read all of it, and what
/// answer is not taken by then may be lost with the connection.
pub async fn send(origin: &str, bytes: &[u8]) -> Result<RawAnswer> {
    let mut stream = TcpStream::connect(host_of(origin)).await.context("the worker does not listen")?;
    let (mut reader, mut writer) = stream.split();
    let write = async {
        // The other side may answer and close before it has read everything.
        let _ = writer.write_all(bytes).await;
    };
    let read = async {
        let mut answer = Vec::new();
        let mut piece = vec![0; 16 * 1024];
        loop {
            let patience = if answer.is_empty() { PATIENCE } else { SILENCE };
            match timeout(patience, reader.read(&mut piece)).await {
                Ok(Ok(length)) if length > 0 => {
                    answer.extend_from_slice(piece.get(..length).unwrap_or_default());
                }
                _ => return answer,
            }
        }
    };
    // Once the answer is there, or the connection ended, nothing more needs to be sent.
    let mut write = pin!(write.fuse());
    let mut read = pin!(read.fuse());
    let answer = loop {
        select! {
            () = write => {}
            answer = read => break answer,
        }
    };
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok(RawAnswer { status, text })
}

/// As [`send`], again while there is no answer of a worker: for bodies that are refused before they are read. The network may then
/// drop the answer with what nobody read, and the local runtime's proxy may answer 500 by itself, because it could not pass all on.
pub async fn send_until_answered(origin: &str, bytes: &[u8]) -> Result<RawAnswer> {
    until("an answer of the worker itself", async || {
        let answer = send(origin, bytes).await?;
        let is_of_the_proxy = answer.status == 500 && !answer.text.contains("\"code\"");
        ensure!(answer.status != 0 && !is_of_the_proxy, "{}: {}", answer.status, answer.text);
        Ok(Some(answer))
    })
    .await
}

fn host_of(origin: &str) -> &str {
    origin.strip_prefix("http://").unwrap_or(origin)
}
