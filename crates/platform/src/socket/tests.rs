use super::*;
use futures_util::future::poll_fn;
use futures_util::task::noop_waker_ref;
use proptest::prelude::*;

/// What the stream does with one offer.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// Says that it is not ready; the writer must offer the same bytes again.
    NotReady,
    /// Takes at most this many bytes.
    Takes(usize),
}

/// A stream that takes part of what it is offered, and sometimes nothing yet.
struct Peer {
    turns: std::vec::IntoIter<Turn>,
    largest: usize,
    received: Vec<u8>,
    flushed: bool,
    closed: bool,
}

impl Peer {
    fn new(turns: Vec<Turn>) -> Self {
        Self { turns: turns.into_iter(), largest: 0, received: Vec::new(), flushed: false, closed: false }
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &[u8]) -> Poll<Result<usize>> {
        self.largest = self.largest.max(buffer.len());
        match self.turns.next().unwrap_or(Turn::Takes(usize::MAX)) {
            Turn::NotReady => Poll::Pending,
            Turn::Takes(count) => {
                let taken = count.min(buffer.len());
                self.received.extend_from_slice(&buffer[..taken]);
                Poll::Ready(Ok(taken))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

/// Writes everything, polling again whenever the peer was not ready.
fn write_all(socket: &mut ChunkedSocket<Peer>, bytes: &[u8]) {
    let mut context = Context::from_waker(noop_waker_ref());
    let mut rest = bytes;
    while !rest.is_empty() {
        if let Poll::Ready(taken) = Pin::new(&mut *socket).poll_write(&mut context, rest) {
            rest = &rest[taken.unwrap()..];
        }
    }
}

fn numbered(length: usize) -> Vec<u8> {
    (0..length).map(|place| u8::try_from(place * 31 % 251).unwrap()).collect()
}

#[test]
fn splits_what_is_too_large() {
    for length in [0, 1, SOCKET_WRITE_BYTES_MAX, SOCKET_WRITE_BYTES_MAX + 1, 10 * SOCKET_WRITE_BYTES_MAX + 7]
    {
        let mut socket = ChunkedSocket::new(Peer::new(Vec::new()));
        write_all(&mut socket, &numbered(length));
        assert_eq!(socket.inner.received, numbered(length));
        assert_eq!(socket.inner.largest, length.min(SOCKET_WRITE_BYTES_MAX));
    }
}

#[test]
fn passes_flush_shutdown_and_reads_on() {
    let mut context = Context::from_waker(noop_waker_ref());
    let mut socket = ChunkedSocket::new(Peer::new(Vec::new()));
    assert!(Pin::new(&mut socket).poll_flush(&mut context).is_ready());
    assert!(Pin::new(&mut socket).poll_shutdown(&mut context).is_ready());
    assert!(socket.inner.flushed && socket.inner.closed);

    let sent = numbered(100_000);
    let mut reader = ChunkedSocket::new(sent.as_slice());
    let mut memory = vec![0; sent.len()];
    let mut buffer = ReadBuf::new(&mut memory);
    let reading = poll_fn(|context| Pin::new(&mut reader).poll_read(context, &mut buffer));
    futures_util::FutureExt::now_or_never(reading).unwrap().unwrap();
    assert_eq!(buffer.filled(), sent);
}

proptest! {
    #[test]
    fn every_byte_arrives_in_order(
        length in 0..200_000_usize,
        turns in prop::collection::vec(
            prop_oneof![Just(Turn::NotReady), (1..100_000_usize).prop_map(Turn::Takes)],
            0..40,
        ),
    ) {
        let mut socket = ChunkedSocket::new(Peer::new(turns));
        write_all(&mut socket, &numbered(length));
        prop_assert_eq!(&socket.inner.received, &numbered(length));
        prop_assert!(socket.inner.largest <= SOCKET_WRITE_BYTES_MAX);
    }
}
