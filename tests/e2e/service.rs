//! A small HTTP service of a test's own, on a thread of its own.

use std::net::SocketAddr;

use tokio::runtime::Runtime;

/// A running service. It stops when it is dropped.
pub struct Service {
    pub addr: SocketAddr,
    runtime: Option<Runtime>,
}

impl Service {
    pub fn start(app: axum::Router) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        runtime.spawn(async { axum::serve(listener, app).await });
        Self { addr, runtime: Some(runtime) }
    }

    /// Takes no connections any more, and cuts those that there are.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
