//! Clients that all want the units of one tenant, as fast as they are answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use upstream::Upstream;

use crate::load::Client;

/// How long a client waits that got no 200: refusals are no load that anybody needs.
const PAUSE: Duration = Duration::from_millis(10);

/// Clients at work.
pub struct Flood {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Statuses>>,
}

/// How many requests got which status; 0 stands for connections that broke or were refused.
pub type Statuses = BTreeMap<u16, usize>;

impl Flood {
    /// So many connections, each with a request every `pace` at the most.
    pub fn start(to: SocketAddr, tenant: &'static str, connections: usize, pace: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let (mut client, mut statuses) = (Client::new(to), Statuses::new());
                while !stop.load(Ordering::Relaxed) {
                    let due = Instant::now() + pace;
                    let status = client.ask(&[("x-tenant-id", tenant)]).map_or(0, |answer| answer.status);
                    *statuses.entry(status).or_default() += 1;
                    if status != 200 {
                        std::thread::sleep(PAUSE);
                    }
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                statuses
            })
        };
        Self { clients: (0..connections).map(client).collect(), stop }
    }

    /// Stops them, and gives what they got.
    pub fn end(self) -> Statuses {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Statuses::new();
        for client in self.clients {
            for (status, times) in client.join().expect("a client ends") {
                *sum.entry(status).or_default() += times;
            }
        }
        sum
    }
}

/// Waits until `done`, and fails with what `now` says where that takes too long.
#[track_caller]
pub fn until(limit: Duration, mut done: impl FnMut() -> bool, now: impl Fn() -> String) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {}", now());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the service has received nothing for so long, and gives how much it has received.
pub fn settled(service: &Upstream, quiet: Duration) -> usize {
    let (mut last, mut since) = (service.received(), Instant::now());
    let deadline = Instant::now() + Duration::from_secs(30);
    while since.elapsed() < quiet {
        assert!(Instant::now() < deadline, "the service still receives requests: {last}");
        std::thread::sleep(Duration::from_millis(20));
        let received = service.received();
        if received != last {
            (last, since) = (received, Instant::now());
        }
    }
    last
}

/// Sends so many requests over each of so many connections.
pub fn send(to: SocketAddr, tenant: &'static str, connections: usize, each: usize) -> Statuses {
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            std::thread::spawn(move || {
                let (mut client, mut statuses) = (Client::connect(to), Statuses::new());
                for _ in 0..each {
                    *statuses.entry(client.get(tenant)).or_default() += 1;
                }
                statuses
            })
        })
        .collect();
    let mut sum = Statuses::new();
    for client in clients {
        for (status, times) in client.join().expect("a client ends") {
            *sum.entry(status).or_default() += times;
        }
    }
    sum
}
