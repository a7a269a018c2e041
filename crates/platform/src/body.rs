//! A request's body up to a limit, without ever holding more than the limit and one piece.
//!
//! Compressed bodies are refused, never unpacked: a few kilobytes could become gigabytes.

use crate::respond::Answer;
use futures_util::StreamExt as _;
use worker::Request;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the limit: answer 413.
    #[error("the body is longer than the {limit_bytes} bytes that are accepted")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// It ended before it was complete: answer 400.
    #[error("the body ended early: send the request again")]
    Unreadable,
    /// It is compressed: answer 415.
    #[error("the body is compressed: send it without Content-Encoding")]
    Compressed,
}

impl BodyError {
    /// What the sender is told.
    #[must_use]
    pub fn answer(self) -> Answer {
        match self {
            Self::TooLarge { .. } => Answer::too_large(&self.to_string()),
            Self::Unreadable => Answer::bad_request(&self.to_string()),
            Self::Compressed => Answer::error(415, "unsupported_encoding", &self.to_string()),
        }
    }
}

/// Reads a request's whole body, or says why not.
pub async fn read_body(request: &mut Request, limit_bytes: usize) -> Result<Vec<u8>, BodyError> {
    if is_compressed(request.headers().get("content-encoding").ok().flatten().as_deref()) {
        return Err(BodyError::Compressed);
    }
    let declared = request.headers().get("content-length").ok().flatten();
    match declared_length(declared.as_deref()) {
        Some(length) if length > limit_bytes as u64 => Err(BodyError::TooLarge { limit_bytes }),
        // The runtime holds a sender to the length it declared, so the body can be taken in one piece, which is faster.
        Some(_) => {
            let bytes = request.bytes().await.map_err(|_| BodyError::Unreadable)?;
            if bytes.len() > limit_bytes { Err(BodyError::TooLarge { limit_bytes }) } else { Ok(bytes) }
        }
        None if request.inner().body().is_none() => Ok(Vec::new()),
        None => {
            let mut pieces = request.stream().map_err(|_| BodyError::Unreadable)?;
            let mut body = BoundedBody::new(limit_bytes);
            while let Some(piece) = pieces.next().await {
                body.push(&piece.map_err(|_| BodyError::Unreadable)?)?;
            }
            Ok(body.into_bytes())
        }
    }
}

fn is_compressed(encoding: Option<&str>) -> bool {
    encoding.is_some_and(|text| !matches!(text.trim(), "" | "identity"))
}

fn declared_length(header: Option<&str>) -> Option<u64> {
    header?.trim().parse().ok()
}

/// Bytes that arrive piece by piece, never more than a limit.
#[derive(Debug)]
struct BoundedBody {
    limit_bytes: usize,
    bytes: Vec<u8>,
}

impl BoundedBody {
    fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, bytes: Vec::new() }
    }

    fn push(&mut self, piece: &[u8]) -> Result<(), BodyError> {
        if piece.len() > self.limit_bytes - self.bytes.len() {
            return Err(BodyError::TooLarge { limit_bytes: self.limit_bytes });
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_at_the_limit() {
        let mut body = BoundedBody::new(8);
        assert_eq!(body.push(b"12345"), Ok(()));
        assert_eq!(body.push(b"678"), Ok(()));
        assert_eq!(body.push(b""), Ok(()));
        assert_eq!(body.push(b"9"), Err(BodyError::TooLarge { limit_bytes: 8 }));
        assert_eq!(body.into_bytes(), b"12345678");
        assert_eq!(BoundedBody::new(0).push(b"1"), Err(BodyError::TooLarge { limit_bytes: 0 }));
    }

    #[test]
    fn takes_no_compressed_body() {
        for plain in [None, Some(""), Some("identity"), Some(" identity ")] {
            assert!(!is_compressed(plain), "{plain:?}");
        }
        for packed in ["gzip", "br", "deflate", "identity, gzip", "GZIP", "zstd", "anything"] {
            assert!(is_compressed(Some(packed)), "{packed}");
        }
        assert_eq!(BodyError::Compressed.answer().status, 415);
        assert_eq!(BodyError::Unreadable.answer().status, 400);
        assert_eq!(BodyError::TooLarge { limit_bytes: 1 }.answer().status, 413);
    }

    #[test]
    fn believes_only_a_number() {
        assert_eq!(declared_length(Some(" 12 ")), Some(12));
        for text in [None, Some(""), Some("-1"), Some("12, 12"), Some("many")] {
            assert_eq!(declared_length(text), None, "{text:?}");
        }
    }
}
