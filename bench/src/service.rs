//! The service that both sides ask: a directory of tenants for the filter, an authorization service for ext_authz. It knows every name.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::response::{AppendHeaders, IntoResponse};
use axum::routing::{any, get};
use tokio::sync::oneshot;

use crate::Outcome;

/// A running one, in a thread of its own. It stops when it is dropped.
pub struct Service {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    pub fn start() -> Outcome<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                let router =
                    Router::new().route("/tenants/{tenant}", get(tenant)).route("/authorize/{*path}", any(authorize));
                tokio::select! {
                    _ = axum::serve(listener, router) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn tenant(Path(tenant): Path<String>) -> impl IntoResponse {
    let json = format!(r#"{{"id":"{tenant}","status":"active","metadata":{{"plan":"pro"}}}}"#);
    ([("content-type", "application/json")], json)
}

async fn authorize(headers: HeaderMap, uri: axum::http::Uri) -> impl IntoResponse {
    let host = uri.host().or_else(|| headers.get(HOST)?.to_str().ok()).unwrap_or_default();
    let tenant = host.split('.').next().unwrap_or_default().to_owned();
    let header = |name: &'static str, value: &str| (name, value.to_owned());
    AppendHeaders([
        header("x-tenant-id", &tenant),
        header("x-tenant-plan", "pro"),
        header("x-tenant-isolation", "shared"),
    ])
}
