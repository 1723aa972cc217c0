//! Levels: how many requests of a tenant are under way at once.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::envoy::EnvoyWorld;
use crate::flood::until;
use crate::load::Client;
use crate::quotas_under_load::config;
use crate::scenarios::world::*;

fn slow(milliseconds: &str) -> [(&str, &str); 2] {
    [("x-tenant-id", "plain"), ("x-echo-delay-ms", milliseconds)]
}

/// Ten requests at once, each on a connection of its own; gives how many got 200 and how many 429.
fn ten(at: SocketAddr) -> (usize, usize) {
    let clients: Vec<JoinHandle<u16>> = (0..10)
        .map(|_| {
            let mut client = Client::connect(at);
            std::thread::spawn(move || client.ask(&slow("1000")).expect("an answer").status)
        })
        .collect();
    let statuses: Vec<u16> = clients.into_iter().map(|client| client.join().expect("it ends")).collect();
    let of = |status: u16| statuses.iter().filter(|other| **other == status).count();
    (of(200), of(429))
}

#[test]
fn no_more_than_the_level_are_under_way() {
    let level = json!({"quotaKey": "parallel", "period": "none", "limit": 3});
    let world = EnvoyWorld::start(config(level), Directory::default());
    let at = world.envoy.listener;
    for round in 1..=3 {
        assert_eq!(ten(at), (3, 7), "round {round}");
        assert_eq!(world.received(), round * 3);
    }
    // Clients that leave give their units back, though the service is still at it.
    for round in 1..=5 {
        let leaving: Vec<_> = (0..3).map(|_| Client::begin(at, &slow("30000"))).collect();
        until(Duration::from_secs(5), || world.received() == 9 + round * 3, || format!("{} arrived", world.received()));
        let refused = Client::connect(at).ask(&slow("0")).expect("an answer");
        assert_eq!((refused.status, refused.header("retry-after").is_some()), (429, true));
        drop(leaving);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(ten(at), (3, 7), "after those that left");
    // Responses that come in any order leave nothing behind.
    let busy: Vec<_> = (0..6)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(at);
                for number in 0..60 {
                    client.ask(&slow(["0", "1", "3"][number % 3])).expect("an answer");
                }
            })
        })
        .collect();
    busy.into_iter().for_each(|client| client.join().expect("it ends"));
    assert_eq!(ten(at), (3, 7), "after a busy time");
}
