//! Requests whose cost the service says in its response.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bootstrap::structure;
use crate::envoy::EnvoyWorld;
use crate::flood::until;
use crate::load::{Answer, Client};
use crate::quotas_under_load::config;
use crate::scenarios::world::*;

const ROUTES: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes";

/// A service that takes a connection and a request, and hangs up.
fn hanging_up() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.and_then(|mut stream| stream.read(&mut [0; 1024]));
        }
    });
    at
}

/// Envoy with a quota of a hundred units, of which each request takes `reserve` until its cost is known.
fn world(reserve: u64) -> EnvoyWorld {
    let mut config = config(json!({
        "quotaKey": "tokens", "period": "month", "limit": 100,
        "cost": {"responseHeader": "x-usage-cost", "reserve": reserve},
    }));
    config["rateLimitHeaders"] = json!({"style": "legacy", "when": "all"});
    EnvoyWorld::start_changed(structure(&config), Directory::default(), |bootstrap| {
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().expect("there are some");
        clusters.push(crate::bootstrap::cluster("hanging-up", hanging_up()));
        let routes = bootstrap.pointer_mut(ROUTES).and_then(Value::as_array_mut).expect("the bootstrap has routes");
        let to = |value: &str| json!({"prefix": "/", "headers": [{"name": "x-to", "string_match": {"exact": value}}]});
        routes.insert(0, json!({"match": to("hanging-up"), "route": {"cluster": "hanging-up"}}));
        routes.insert(0, json!({"match": to("impatient"), "route": {"cluster": "service", "timeout": "0.2s"}}));
    })
}

struct Tester {
    world: EnvoyWorld,
    client: Client,
}

impl Tester {
    fn new(reserve: u64) -> Self {
        let world = world(reserve);
        Self { client: Client::connect(world.envoy.listener), world }
    }

    fn ask(&mut self, headers: &[(&str, &str)]) -> Answer {
        self.client.ask(&[&[("x-tenant-id", "plain")], headers].concat()).expect("an answer")
    }

    fn costs(&mut self, cost: &str) -> u16 {
        self.ask(&[("x-echo-response-headers", &format!("x-usage-cost={cost}"))]).status
    }

    /// How many units are left; asking for it costs nothing.
    fn left(&mut self) -> u64 {
        let answer = self.ask(&[("x-echo-response-headers", "x-usage-cost=0")]);
        // The header tells of the moment when the request came, with its reserve.
        let remaining = answer.header("x-ratelimit-remaining").expect("the header is there");
        remaining.parse::<u64>().expect("a number")
    }
}

#[test]
fn a_request_costs_what_its_response_says() {
    let mut tester = Tester::new(10);
    for (cost, left) in [("25", 65), ("0", 65), ("10", 55), ("3", 52)] {
        assert_eq!((tester.costs(cost), tester.left()), (200, left), "{cost}");
    }
    // What is no number costs the reserve, as does no header at all.
    for (number, cost) in ["", "five", "-5", "1.5"].into_iter().enumerate() {
        assert_eq!(tester.costs(cost), 200);
        assert_eq!(tester.left(), 42_u64.saturating_sub(u64::try_from(number).expect("small") * 10), "{cost:?}");
    }
    assert_eq!(tester.ask(&[]).status, 200);
    assert_eq!(tester.world.received(), 4 * 2 + 4 * 2 + 1);
}

#[test]
fn a_response_that_never_comes_costs_the_reserve() {
    let mut tester = Tester::new(10);
    assert_eq!(tester.left(), 90);
    assert_eq!(tester.ask(&[("x-to", "hanging-up")]).status, 503);
    assert_eq!(tester.left(), 80);
    assert_eq!(tester.ask(&[("x-to", "impatient"), ("x-echo-delay-ms", "5000")]).status, 504);
    assert_eq!(tester.left(), 70);
    let headers =
        [("x-tenant-id", "plain"), ("x-echo-delay-ms", "5000"), ("x-echo-response-headers", "x-usage-cost=0")];
    let before = tester.world.received();
    let leaving: Vec<_> = (0..3).map(|_| Client::begin(tester.world.envoy.listener, &headers)).collect();
    let arrived = || tester.world.received() == before + 3;
    until(Duration::from_secs(5), arrived, || "they don't arrive".to_owned());
    drop(leaving);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(tester.left(), 40);
}

#[test]
fn a_cost_beyond_what_is_left_is_the_last() {
    let mut tester = Tester::new(1);
    assert_eq!(tester.costs("90"), 200);
    assert_eq!(tester.costs("1000"), 200);
    for _ in 0..20 {
        assert_eq!(tester.costs("0"), 429);
    }
    assert_eq!(tester.world.received(), 2);
}

#[test]
fn a_reserve_of_the_largest_cost_is_never_exceeded() {
    let tester = Tester::new(10);
    let at = tester.world.envoy.listener;
    // Each takes ten, costs seven, and gives three back, with eight under way at once.
    let clients: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                let headers = [("x-tenant-id", "plain"), ("x-echo-response-headers", "x-usage-cost=7")];
                let mut client = Client::connect(at);
                let mut passed = 0;
                for _ in 0..40 {
                    match client.ask(&headers).expect("an answer").status {
                        200 => passed += 1,
                        _ => std::thread::sleep(Duration::from_millis(5)),
                    }
                }
                passed
            })
        })
        .collect();
    let passed: usize = clients.into_iter().map(|client| client.join().expect("it ends")).sum();
    // 13 * 7 = 91, and then a reserve of ten has no room.
    assert_eq!((passed, tester.world.received()), (13, 13));
}
