//! The load: HTTP/2 without TLS, a few connections, a few requests at a time on each.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::Outcome;

/// How many connections each listener has.
const CONNECTIONS: usize = 4;
/// How many requests each of them has under way.
const STREAMS: usize = 4;
/// How long a slice may take, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// Fails where it has another status.
    pub fn expect(&self, status: u16) -> Result<(), String> {
        if self.status == status {
            return Ok(());
        }
        Err(format!("{status} was expected, and {} came: {}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

/// Open connections to one listener.
pub struct Connections {
    senders: Vec<SendRequest<Bytes>>,
    drivers: Vec<JoinHandle<()>>,
}

impl Connections {
    pub async fn open(to: SocketAddr) -> Outcome<Self> {
        Self::some(to, CONNECTIONS).await
    }

    /// So many of them.
    pub async fn some(to: SocketAddr, count: usize) -> Outcome<Self> {
        let mut connections = Self { senders: Vec::new(), drivers: Vec::new() };
        for _ in 0..count {
            let stream = timeout(PATIENCE, TcpStream::connect(to)).await??;
            stream.set_nodelay(true)?;
            let (sender, connection) = timeout(PATIENCE, h2::client::handshake(stream)).await??;
            connections.senders.push(sender);
            connections.drivers.push(tokio::spawn(async move {
                // A connection that breaks shows at its requests.
                let _ = connection.await;
            }));
        }
        Ok(connections)
    }

    /// Sends them all, and waits until each is answered, with that status where it matters.
    pub async fn send(&self, requests: Vec<Request<()>>, status: Option<u16>) -> Outcome<()> {
        let lanes = self.senders.len() * STREAMS;
        let mut shares: Vec<Vec<Request<()>>> = Vec::new();
        shares.resize_with(lanes, Vec::new);
        for (share, request) in (0..lanes).cycle().zip(requests) {
            if let Some(share) = shares.get_mut(share) {
                share.push(request);
            }
        }
        let mut under_way: JoinSet<Result<(), String>> = JoinSet::new();
        for (share, sender) in shares.into_iter().zip(self.senders.iter().cycle()) {
            let sender = sender.clone();
            under_way.spawn(async move {
                for request in share {
                    let answer = ask(sender.clone(), request).await.map_err(|error| error.to_string())?;
                    if let Some(status) = status {
                        answer.expect(status)?;
                    }
                }
                Ok(())
            });
        }
        let mut ended = 0;
        let all = async {
            while let Some(lane) = under_way.join_next().await {
                lane??;
                ended += 1;
            }
            Ok(())
        };
        match timeout(PATIENCE, all).await {
            Ok(answered) => answered,
            Err(_) => Err(format!("after {PATIENCE:?} only {ended} of {lanes} lanes have all their answers").into()),
        }
    }

    /// Sends one, and gives its answer.
    pub async fn one(&self, request: Request<()>) -> Outcome<Answer> {
        let sender = self.senders.first().ok_or("there is no connection")?;
        Ok(timeout(PATIENCE, ask(sender.clone(), request)).await??)
    }

    /// Sends one after the other over the first connection, each once the one before is answered with that status.
    pub async fn in_turn(&self, requests: Vec<Request<()>>, status: u16) -> Outcome<()> {
        for request in requests {
            self.one(request).await?.expect(status)?;
        }
        Ok(())
    }

    /// The connections, for whoever has an order of its own.
    pub fn senders(&self) -> &[SendRequest<Bytes>] {
        &self.senders
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        for driver in &self.drivers {
            driver.abort();
        }
    }
}

/// Sends a request, and reads its answer to the end.
pub async fn ask(sender: SendRequest<Bytes>, request: Request<()>) -> Result<Answer, h2::Error> {
    let (response, _) = sender.ready().await?.send_request(request, true)?;
    let (head, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part?;
        stream.flow_control().release_capacity(part.len())?;
        body.extend_from_slice(&part);
    }
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}
