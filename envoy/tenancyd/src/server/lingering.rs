//! A close that doesn't take back the answer.
//!
//! Where a connection is closed while its client still sends, the system resets it, and the client may lose an answer that it
//! hasn't read yet: a refusal given before the whole body came. So first only our side is closed, and what still comes
//! is thrown away for a moment.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The longest that a client may go on sending.
const MAX_TIME: Duration = Duration::from_secs(1);
/// The most that it may still send.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// A connection that is closed like that.
#[derive(Debug)]
pub struct Lingering<S> {
    stream: S,
    left: usize,
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    /// Around this connection.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            left: MAX_BYTES,
            end: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.end.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let end = this.end.get_or_insert_with(|| Box::pin(sleep(MAX_TIME)));
        let mut waste = [0; 16 * 1024];
        loop {
            if end.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut waste);
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer));
            this.left = this.left.saturating_sub(buffer.filled().len());
            if read.is_err() || buffer.filled().is_empty() || this.left == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, timeout};

    #[tokio::test]
    async fn what_comes_after_the_close_is_thrown_away_for_a_bounded_time() {
        let (mut client, server) = duplex(64);
        let mut server = Lingering::new(server);
        server.write_all(b"no").await.unwrap();
        let closing = tokio::spawn(async move { server.shutdown().await });
        client.write_all(&[0; 100_000]).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"no");
        let begun = Instant::now();
        timeout(Duration::from_secs(5), closing)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert!(begun.elapsed() < Duration::from_millis(1500));
    }

    #[tokio::test]
    async fn who_sends_too_much_is_cut() {
        let (mut client, server) = duplex(1024 * 1024);
        let mut server = Lingering::new(server);
        let closing = tokio::spawn(async move { server.shutdown().await });
        let sent = client.write_all(&vec![0; 3 * MAX_BYTES]).await;
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        closing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn who_is_gone_is_not_waited_for() {
        let (client, server) = duplex(64);
        drop(client);
        let begun = Instant::now();
        Lingering::new(server).shutdown().await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(500));
    }
}
