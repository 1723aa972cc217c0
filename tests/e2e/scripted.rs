//! A directory service that answers as the test's script says, and remembers what it was asked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;

use crate::scenarios::world::{Asked, Directory, Reply};
use crate::service::Service;

/// A running service. It stops when it is dropped.
pub struct Scripted {
    pub service: Service,
    state: Arc<Mutex<Script>>,
}

struct Script {
    directory: Directory,
    asked: Vec<Asked>,
}

impl Scripted {
    pub fn start(directory: Directory) -> Self {
        let state = Arc::new(Mutex::new(Script { directory, asked: Vec::new() }));
        let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&state));
        Self { service: Service::start(app), state }
    }

    pub fn script(&self, path: &str, reply: Reply) {
        lock(&self.state).directory.0.insert(path.to_owned(), reply);
    }

    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.state).asked.clone()
    }
}

async fn answer(State(state): State<Arc<Mutex<Script>>>, request: Request) -> Response<Body> {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let is_post = request.method() == "POST";
    let headers = request.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let headers = headers.collect();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    let body = is_post.then(|| String::from_utf8_lossy(&body).into_owned());
    let reply = {
        let mut script = lock(&state);
        script.asked.push(Asked { path: path.clone(), headers, body });
        script.directory.0.get(&path).cloned()
    };
    // A lookup takes its time, so that requests sent at once meet while it is under way.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (status, body) = match reply {
        None => (404, Vec::new()),
        Some(Reply::Is(status, body)) => (status, body),
        Some(Reply::Never) => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            (200, Vec::new())
        }
    };
    Response::builder().status(status).body(Body::from(body)).expect("a status of the script is sound")
}

fn lock(state: &Mutex<Script>) -> MutexGuard<'_, Script> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
