//! The demo's and the tests' upstream: a server that tells each client what it received from it.
//!
//! Every request is answered with 200 and JSON: the server's `name`, `receivedAt` in milliseconds since 1970, the request's `method`, `authority`, `path` (with the
//! query, as it came), `headers` (each name with all of its values, in order) and `bodyBytes`. A WebSocket handshake is accepted;
//! the server's first message is the same JSON about the handshake, and every message after it is echoed.
//!
//! A request may ask for more: `x-echo-delay-ms: 1500` has the answer wait so long, a minute at the most, and
//! `x-echo-response-headers: x-usage-cost=5, x-other=a b` has these headers in it.
//!
//! [`serve`] works inside a Tokio runtime; [`Upstream`] brings one along, for tests that know of none.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "a sum that overflows fails the test, as it should"))]

mod echo;
mod wishes;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// How long requests in flight, and open WebSockets, may go on once the server was told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves HTTP/1.1 and HTTP/2 without TLS until `shutdown`, then for two more seconds at the most.
pub async fn serve(
    listener: TcpListener,
    name: String,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_counting(listener, name, Arc::default(), shutdown).await
}

async fn serve_counting(
    listener: TcpListener,
    name: String,
    received: Arc<AtomicUsize>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (told, stopping) = oneshot::channel();
    let shutdown = async move {
        shutdown.await;
        // Nobody listens any more where the server ended by itself.
        let _ = told.send(());
    };
    let server = axum::serve(listener, echo::router(name, received)).with_graceful_shutdown(shutdown);
    let too_late = async {
        match stopping.await {
            Ok(()) => tokio::time::sleep(STOP_TIMEOUT).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = server => ended,
        () = too_late => Ok(()),
    }
}

/// A running server on a free port of 127.0.0.1, in a thread of its own. It stops when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub addr: SocketAddr,
    received: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Starts one that gives this name.
    pub fn start(name: &str) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let received = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let thread = std::thread::spawn({
            let (name, received) = (name.to_owned(), received.clone());
            move || {
                let served = runtime.block_on(async {
                    let listener = TcpListener::from_std(listener)?;
                    serve_counting(listener, name, received, async { stopped.await.unwrap_or_default() }).await
                });
                if let Err(error) = served {
                    eprintln!("upstream: {error}");
                }
                runtime.shutdown_timeout(STOP_TIMEOUT);
            }
        });
        Ok(Self { addr, received, stop: Some(stop), thread: Some(thread) })
    }

    /// How many requests it has received, WebSocket handshakes among them.
    pub fn received(&self) -> usize {
        self.received.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in that thread has been reported by it.
            let _ = thread.join();
        }
    }
}
