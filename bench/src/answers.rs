//! Whether two variants do the same: only then is it fair to compare them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::Request;

use crate::Outcome;
use crate::benches::Bench;
use crate::bootstrap::{telling, told};
use crate::envoy::Envoy;
use crate::load::{Answer, Connections};

/// The headers of an answer that mean something to a client. A refusal tells in seconds when the client may return.
const MEANINGFUL: [&str; 5] = ["content-type", "cache-control", "retry-after", "ratelimit", "ratelimit-policy"];
/// How often both are asked again: a second may end between the two.
const TRIES: usize = 3;

/// How long a variant may take until it answers as it is to: one that holds a directory reads it first.
const READY: Duration = Duration::from_secs(60);

/// Waits until a listener answers a request with that status.
pub async fn ready(listener: SocketAddr, request: &Request<()>, status: u16) -> Outcome<()> {
    let connections = Connections::some(listener, 1).await?;
    let deadline = Instant::now() + READY;
    loop {
        let answer = connections.one(request.clone()).await?;
        match answer.expect(status) {
            Ok(()) => return Ok(()),
            Err(fault) if Instant::now() > deadline => return Err(format!("after {READY:?}: {fault}").into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Asks both variants, and fails where they differ in what a client or the service would see.
pub async fn check(bench: &Bench, envoy: &Envoy) -> Outcome<()> {
    let measured = (bench.request)(0);
    for name in [bench.ours, bench.peer].into_iter().flat_map(|variant| [variant.to_owned(), telling(variant)]) {
        ready(envoy.listener(&name)?, &measured, bench.status).await.map_err(|fault| format!("{name}: {fault}"))?;
    }
    let ours = Connections::open(envoy.listener(&telling(bench.ours))?).await?;
    let peer = Connections::open(envoy.listener(&telling(bench.peer))?).await?;
    let answer = ours.one(measured.clone()).await?;
    // Else two that do nothing at all would be found equal.
    let complete = !reached(&answer) || bench.forwarded.iter().all(|name| answer.headers.contains_key(told(name)));
    if answer.status != bench.status || !complete {
        return Err(format!("{}: {measured:?} is answered with {answer:?}", bench.name).into());
    }
    for request in std::iter::once(&measured).chain(&bench.also) {
        compare(bench, request, &ours, &peer).await?;
    }
    Ok(())
}

async fn compare(bench: &Bench, request: &Request<()>, ours: &Connections, peer: &Connections) -> Outcome<()> {
    let mut differ = String::new();
    for _ in 0..TRIES {
        let ours = shown(bench, &ours.one(request.clone()).await?);
        let peer = shown(bench, &peer.one(request.clone()).await?);
        if ours == peer {
            return Ok(());
        }
        differ = format!(
            "{}: {request:?} is answered otherwise\n{}: {ours}\n{}: {peer}",
            bench.name, bench.ours, bench.peer
        );
    }
    Err(differ.into())
}

fn shown(bench: &Bench, answer: &Answer) -> String {
    let mut text = format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body));
    let meaningful = MEANINGFUL.iter().map(|name| (*name).to_owned());
    let forwarded = bench.forwarded.iter().filter(|_| reached(answer)).map(|name| told(name));
    for name in meaningful.chain(forwarded) {
        for value in answer.headers.get_all(&name) {
            text.push_str(&format!("\n  {name}: {}", String::from_utf8_lossy(value.as_bytes())));
        }
    }
    text
}

/// Whether the request reached the service. What was made of a refused one's headers means nothing.
fn reached(answer: &Answer) -> bool {
    answer.status == 200
}
