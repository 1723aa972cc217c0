//! Whether two variants do the same: only then is it fair to compare them.

use http::Request;

use crate::Outcome;
use crate::benches::Bench;
use crate::envoy::{Envoy, telling, told};
use crate::load::{Answer, Connections};

/// The headers of an answer that mean something to a client. A refusal tells in seconds when the client may return.
const MEANINGFUL: [&str; 5] = ["content-type", "cache-control", "retry-after", "ratelimit", "ratelimit-policy"];
/// How often both are asked again: a second may end between the two.
const TRIES: usize = 3;

/// Asks both variants, and fails where they differ in what a client or the service would see.
pub async fn check(bench: &Bench, envoy: &Envoy) -> Outcome<()> {
    let ours = Connections::open(envoy.listener(&telling(bench.ours))?).await?;
    let peer = Connections::open(envoy.listener(&telling(bench.peer))?).await?;
    let measured = (bench.request)(0);
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
