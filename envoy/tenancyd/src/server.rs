//! Connections: where they come in, what bounds they have, and how they end.

mod lingering;
mod listener;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use lingering::Lingering;
pub use listener::{Address, Listener, Reserved};

/// The most connections at once; the next one waits to be accepted.
const MAX_CONNECTIONS: usize = 4096;
/// The longest that an HTTP/1.1 connection takes for a request's head, and that it may lie idle before one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The longest silence of a connection; with HTTP/2 the answers to pings break it.
const READ_TIMEOUT: Duration = Duration::from_secs(80);
/// The longest that a client takes nothing of what is sent to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest that requests in flight may take once we were told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be accepted, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HTTP2_HEADER_LIST_BYTES: u32 = 64 * 1024;
const MAX_HTTP2_STREAMS: u32 = 256;
/// The most WebSockets over one HTTP/2 connection, and the most bytes that each has under way in either direction.
const MAX_HTTP2_SOCKETS: u32 = 10_000;
const HTTP2_SOCKET_WINDOW: u32 = 64 * 1024;
const HTTP2_SOCKET_BUFFER: usize = 64 * 1024;

/// What a listener's connections are for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// Requests.
    Requests,
    /// WebSockets, which may be silent for so long.
    WebSockets {
        /// How long.
        idle: Duration,
    },
}

/// Serves HTTP/1.1 and HTTP/2 without TLS until `stop`, then lets what is in flight finish.
pub async fn serve(listener: Listener, router: Router, purpose: Purpose, stop: impl Future<Output = ()>) {
    let connections = GracefulShutdown::new();
    tokio::select! {
        () = accept(&listener, &router, purpose, &connections) => {}
        () = stop => {}
    }
    // Closed first, so that a new client is refused at once instead of waiting in a queue that nobody serves.
    drop(listener);
    let open = connections.count();
    tracing::info!(open, "stopping");
    if timeout(STOP_TIMEOUT, connections.shutdown()).await.is_err() {
        tracing::warn!("some requests didn't finish in time; their connections are cut");
    }
}

async fn accept(listener: &Listener, router: &Router, purpose: Purpose, connections: &GracefulShutdown) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let http = http(purpose);
    let read_timeout = match purpose {
        Purpose::Requests => READ_TIMEOUT,
        // Whoever is silent for too long is to be told so first.
        Purpose::WebSockets { idle } => READ_TIMEOUT.saturating_add(idle),
    };
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) if is_the_clients(&error) => continue,
            Err(error) => {
                tracing::error!(%error, "can't accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let mut stream = TimeoutStream::new(Lingering::new(stream));
        stream.set_read_timeout(Some(read_timeout));
        stream.set_write_timeout(Some(WRITE_TIMEOUT));
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection_with_upgrades(TokioIo::new(Box::pin(stream)), service).into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "connection ended");
            }
            drop(place);
        });
    }
}

fn http(purpose: Purpose) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(MAX_HTTP2_HEADER_LIST_BYTES)
        .max_concurrent_streams(MAX_HTTP2_STREAMS);
    if let Purpose::WebSockets { .. } = purpose {
        http.http2()
            .enable_connect_protocol()
            .max_concurrent_streams(MAX_HTTP2_SOCKETS)
            .initial_stream_window_size(HTTP2_SOCKET_WINDOW)
            .max_send_buf_size(HTTP2_SOCKET_BUFFER);
    }
    http
}

/// Whether a failed accept is about that one connection.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
