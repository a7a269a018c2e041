//! A socket that hands over at most [`SOCKET_WRITE_BYTES_MAX`] bytes at once.
//!
//! Hyperdrive's proxy closes a connection on one write of more than 64 KiB, and the SDK's socket passes a buffer on whole.
//! `AsyncWrite` lets a writer take less than it is offered; the caller comes back with the rest, so splitting needs no
//! buffer of its own. Reads are passed through.

use keapsync_domain::limits::SOCKET_WRITE_BYTES_MAX;
use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Limits the size of each write to `inner`.
#[derive(Debug)]
pub struct ChunkedSocket<S> {
    inner: S,
}

impl<S> ChunkedSocket<S> {
    /// Wraps a stream.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ChunkedSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ChunkedSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<Result<usize>> {
        let piece = buffer.get(..SOCKET_WRITE_BYTES_MAX).unwrap_or(buffer);
        Pin::new(&mut self.inner).poll_write(context, piece)
    }

    // No vectored writes: the default hands over the first buffer by `poll_write`, which keeps the limit.

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
