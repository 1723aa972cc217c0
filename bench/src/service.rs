//! The service that both sides ask: a directory of tenants for the filter, an authorization service for ext_authz. It knows every name.
//! Beside it there are directories that are read whole, each with as many tenants as its path says, and that answer nothing else.

use std::net::SocketAddr;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::Path;
use axum::http::header::HOST;
use axum::http::{HeaderMap, Uri};
use axum::response::{AppendHeaders, IntoResponse};
use axum::routing::{any, get};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::Outcome;
use crate::benches::ACTIVE;

/// How many tenants a page has.
const PAGE: usize = 1000;

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
                let router = Router::new()
                    .route("/tenants/{tenant}", get(tenant))
                    .route("/directories/{count}/tenants", get(page))
                    .route("/authorize/{*path}", any(authorize));
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

/// The name of one of many: at first those that are asked for everywhere, then as many more as there have to be.
pub fn name(number: usize) -> String {
    ACTIVE.get(number).map_or_else(|| format!("tenant-{number}"), |name| (*name).to_owned())
}

/// What is said of a tenant.
pub fn record(tenant: &str) -> Value {
    json!({"id": tenant, "status": "active", "metadata": {"plan": "pro"}})
}

async fn tenant(Path(tenant): Path<String>) -> impl IntoResponse {
    as_json(&record(&tenant))
}

/// A cursor is the number of the tenant that comes next.
async fn page(Path(count): Path<usize>, uri: Uri) -> impl IntoResponse {
    let after = uri.query().and_then(|query| query.strip_prefix("after="));
    let first = after.and_then(|cursor| cursor.parse().ok()).unwrap_or(0).min(count);
    let end = count.min(first + PAGE);
    let tenants: Vec<Value> = (first..end).map(|number| record(&name(number))).collect();
    let next = (end < count).then(|| end.to_string());
    as_json(&json!({"tenants": tenants, "next": next, "latest": count.to_string()}))
}

fn as_json(value: &Value) -> impl IntoResponse + use<> {
    ([("content-type", "application/json")], value.to_string())
}

async fn authorize(headers: HeaderMap, uri: Uri) -> impl IntoResponse {
    let host = uri.host().or_else(|| headers.get(HOST)?.to_str().ok()).unwrap_or_default();
    let tenant = host.split('.').next().unwrap_or_default().to_owned();
    let header = |name: &'static str, value: &str| (name, value.to_owned());
    AppendHeaders([
        header("x-tenant-id", &tenant),
        header("x-tenant-plan", "pro"),
        header("x-tenant-isolation", "shared"),
    ])
}
