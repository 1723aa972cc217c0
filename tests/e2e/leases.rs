//! Quotas that several Envoys share by leases from real tenancyd processes, while everything is killed in turn.
//!
//! The service's own count is the truth. Never more than the limit may arrive; what arrives less must be what those that were
//! killed had in their hands.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use upstream::Upstream;

use crate::bootstrap::{Bootstrap, structure};
use crate::envoy::{Envoy, needed, refusing};
use crate::flood::{Flood, Statuses, send, settled, until};
use crate::load::Client;
use crate::quotas_under_load::config;
use crate::tenancyd::{PROXY_TOKEN, Redis, Tenancyd, Usage};

const TENANT: &str = "plain";
const TOKEN_NAME: &str = "PROXY_TOKEN";
const FILTER: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config";

/// An Envoy that can be killed, and comes back at the same address.
struct Edge {
    bootstrap: Value,
    at: SocketAddr,
    envoy: Option<Envoy>,
}

fn quota(limit: u64, max_units: u64) -> Value {
    json!({
        "quotaKey": "api", "period": "month", "limit": limit,
        "count": {"lease": {
            "cluster": "directory", "path": "/tenants/{tenantId}/leases/{quotaKey}", "maxUnits": max_units,
            "token": {"env": TOKEN_NAME},
        }},
    })
}

impl Edge {
    fn start(quota: Value, service: &Upstream, tenancyd: &Tenancyd, token: &str) -> Self {
        let bootstrap = Bootstrap {
            wasm: &needed("TENANCY_WASM"),
            configuration: structure(&config(quota)),
            service: service.addr,
            directory: tenancyd.addr,
            refusing: refusing(),
        };
        let (mut bootstrap, at) = (bootstrap.json(), refusing());
        bootstrap["static_resources"]["listeners"][0]["address"] =
            json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}});
        let filter = bootstrap.pointer_mut(FILTER).expect("the bootstrap has the filter");
        filter["vm_config"]["environment_variables"]["key_values"][TOKEN_NAME] = json!(token);
        let envoy = Some(Envoy::start(&bootstrap));
        Self { bootstrap, at, envoy }
    }

    fn kill(&mut self) {
        // What it wrote is of no interest where the test ends well.
        drop(self.envoy.take());
    }

    fn again(&mut self) {
        self.envoy = Some(Envoy::start(&self.bootstrap));
    }

    fn flood(&self, connections: usize, pace: u64) -> Flood {
        Flood::start(self.at, TENANT, connections, Duration::from_millis(pace))
    }

    fn log(&self) -> String {
        self.envoy.as_ref().map(Envoy::log).unwrap_or_default()
    }
}

fn only(statuses: &Statuses, expected: &[u16]) {
    assert!(statuses.keys().all(|status| expected.contains(status)), "{statuses:?}");
}

#[test]
fn two_envoys_let_exactly_the_limit_pass() {
    let (service, tenancyd) = (Upstream::start("service").expect("it starts"), Tenancyd::start(&[TENANT], None));
    let edges = [0, 1].map(|_| Edge::start(quota(2000, 1000), &service, &tenancyd, PROXY_TOKEN));
    let began = Instant::now();
    let floods = edges.each_ref().map(|edge| edge.flood(24, 0));
    until(
        Duration::from_secs(20),
        || service.received() >= 2000,
        || format!("{} arrived; {:?}", service.received(), tenancyd.usage(TENANT)),
    );
    let took = began.elapsed();
    let received = settled(&service, Duration::from_millis(1200));
    let statuses = floods.map(Flood::end);
    println!("limit 2000, two Envoys: {received} arrived, the last after {took:?}; {statuses:?}");
    assert_eq!(received, 2000);
    statuses.iter().for_each(|statuses| only(statuses, &[200, 429]));
    for edge in &edges {
        only(&send(edge.at, TENANT, 8, 5), &[429]);
    }
    // All that was used is said.
    let all = Usage { usage: 2000, leased: 0, abandoned: 0 };
    until(Duration::from_secs(12), || tenancyd.usage(TENANT) == all, || format!("{:?}", tenancyd.usage(TENANT)));
    assert_eq!(service.received(), 2000);
}

#[test]
fn without_tenancyd_what_is_leased_passes_and_no_more() {
    let (service, mut tenancyd) = (Upstream::start("service").expect("it starts"), Tenancyd::start(&[TENANT], None));
    let edge = Edge::start(quota(300, 40), &service, &tenancyd, PROXY_TOKEN);
    let mut client = Client::connect(edge.at);
    let mut passes = |most: usize| {
        let (mut passed, mut last) = (0, None);
        while passed < most {
            let answer = client.ask(&[("x-tenant-id", TENANT)]).expect("an answer");
            if answer.status != 200 {
                last = Some((answer.status, answer.header("retry-after").map(str::to_owned)));
                break;
            }
            passed += 1;
        }
        (passed, last)
    };
    assert_eq!(passes(100), (100, None));
    tenancyd.kill();
    let (held, refusal) = passes(100);
    println!("without tenancyd {held} of at most 40 leased units passed, then {refusal:?}");
    assert!((1..=40).contains(&held), "{held}");
    assert_eq!(refusal, Some((503, Some("5".to_owned()))));
    assert_eq!(service.received(), 100 + held);
    tenancyd.again();
    let begins = || Client::connect(edge.at).get(TENANT) == 200;
    until(Duration::from_secs(8), begins, || edge.log());
    let (rest, refusal) = passes(300);
    assert_eq!((100 + held + 1 + rest, refusal.map(|(status, _)| status)), (300, Some(429)));
    assert_eq!(service.received(), 300);
}

#[test]
fn only_who_shows_the_token_gets_units() {
    let (service, tenancyd) = (Upstream::start("service").expect("it starts"), Tenancyd::start(&[TENANT], None));
    let edge = Edge::start(quota(300, 40), &service, &tenancyd, "somebody-elses-0123456789abcdef0123456789");
    assert_eq!(Client::connect(edge.at).get(TENANT), 503);
    assert_eq!(service.received(), 0);
    assert!(edge.log().contains("the service that counts api answered 401"), "{}", edge.log());
    assert!(!edge.log().contains("somebody-elses"), "a token is in the log");
}

/// Lets two Envoys use up a limit while `kills` happen, and holds the sum against it.
fn used_up_though(
    limit: usize,
    envoys_killed: u64,
    edges: &mut [Edge; 2],
    service: &Upstream,
    kills: impl FnOnce(&mut [Edge; 2]),
    usage: impl Fn() -> Usage,
) {
    let began = Instant::now();
    let floods = edges.each_ref().map(|edge| edge.flood(4, 12));
    std::thread::sleep(Duration::from_millis(1500));
    kills(edges);
    // Else the last ones killed had nothing to lose.
    let (before, killing) = (service.received(), began.elapsed());
    assert!(before < limit, "all was used before the last was killed");
    let units = |units: usize| u64::try_from(units).expect("it is small");
    // What isn't abandoned is used in the end: everything that the service behind the leases knows of, is.
    let all_is_used = || {
        let Usage { usage, leased, abandoned } = usage();
        usage + abandoned == units(limit) && leased == abandoned
    };
    until(
        Duration::from_secs(60),
        || service.received() + usize::try_from(usage().abandoned).expect("small") >= limit,
        || format!("{} arrived; {:?}", service.received(), usage()),
    );
    let used_up = began.elapsed();
    let received = settled(service, Duration::from_millis(1500));
    let statuses = floods.map(Flood::end);
    until(Duration::from_secs(15), all_is_used, || format!("{received} arrived; {:?}", usage()));
    let (usage, received_now) = (usage(), service.received());
    println!(
        "limit {limit}: {before} arrived while all was killed, for {killing:?}, {received} in {used_up:?}, {} short; {usage:?}; {statuses:?}",
        limit - received
    );
    assert_eq!(received, received_now, "nothing more after it was quiet");
    assert!(received <= limit);
    // What a killed Envoy had used and not said is abandoned to tenancyd, and has arrived all the same.
    assert!(units(received) >= usage.usage && units(limit - received) <= usage.abandoned, "{received}: {usage:?}");
    assert!(usage.abandoned <= envoys_killed * MAX_UNITS, "{usage:?}");
    statuses.iter().for_each(|statuses| only(statuses, &[0, 200, 429, 503]));
}

/// How many unused units an Envoy may hold where everything is killed.
const MAX_UNITS: u64 = 60;

#[test]
fn never_over_though_envoy_and_tenancyd_are_killed() {
    let (service, mut tenancyd) = (Upstream::start("service").expect("it starts"), Tenancyd::start(&[TENANT], None));
    let mut edges = [0, 1].map(|_| Edge::start(quota(6000, MAX_UNITS), &service, &tenancyd, PROXY_TOKEN));
    let at = tenancyd.addr;
    let kills = |edges: &mut [Edge; 2]| {
        edges[0].kill();
        std::thread::sleep(Duration::from_millis(300));
        edges[0].again();
        std::thread::sleep(Duration::from_millis(500));
        tenancyd.kill();
        std::thread::sleep(Duration::from_millis(500));
        tenancyd.again();
        std::thread::sleep(Duration::from_millis(500));
        edges[1].kill();
        tenancyd.kill();
        tenancyd.again();
        edges[1].again();
    };
    used_up_though(6000, 2, &mut edges, &service, kills, || crate::tenancyd::usage(at, TENANT));
}

#[test]
fn never_over_though_redis_and_all_around_it_are_killed() {
    let (service, mut redis) = (Upstream::start("service").expect("it starts"), Redis::start());
    let mut tenancyds = [0, 1].map(|_| Tenancyd::start(&[TENANT], Some(redis.addr)));
    let edge = |tenancyd: &Tenancyd| Edge::start(quota(6000, MAX_UNITS), &service, tenancyd, PROXY_TOKEN);
    let mut edges = tenancyds.each_ref().map(edge);
    let at = tenancyds[1].addr;
    let kills = |edges: &mut [Edge; 2]| {
        redis.kill();
        std::thread::sleep(Duration::from_millis(500));
        redis.again();
        std::thread::sleep(Duration::from_millis(800));
        tenancyds[0].kill();
        edges[0].kill();
        edges[0].again();
        tenancyds[0].again();
        std::thread::sleep(Duration::from_millis(500));
        redis.kill();
        tenancyds[1].kill();
        redis.again();
        tenancyds[1].again();
    };
    used_up_though(6000, 1, &mut edges, &service, kills, || crate::tenancyd::usage(at, TENANT));
}
