//! Periods of a second, by real clocks: in each one, no more than the limit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bootstrap::structure;
use crate::envoy::EnvoyWorld;
use crate::load::Client;
use crate::quotas_under_load::config;
use crate::scenarios::world::*;

const LIMIT: usize = 40;
const ROUTE: &str =
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/0";

/// Between which seconds the filter decided on a request: when Envoy had its head, and when the service had it.
type Span = (i64, i64);

fn span(body: &[u8]) -> Span {
    let echo: Value = serde_json::from_slice(body).expect("JSON");
    let began = echo["headers"]["x-began"][0].as_str().and_then(|text| text.parse().ok()).expect("Envoy's time");
    (began, echo["receivedAt"].as_i64().expect("the service's time") / 1000)
}

#[test]
fn in_each_second_no_more_than_the_limit_pass_and_in_the_next_again() {
    let quota = json!({"quotaKey": "api", "period": "second", "limit": LIMIT});
    let world = EnvoyWorld::start_changed(structure(&config(quota)), Directory::default(), |bootstrap| {
        let route = bootstrap.pointer_mut(ROUTE).expect("the bootstrap has a route");
        route["request_headers_to_add"] = json!([{"header": {"key": "x-began", "value": "%START_TIME(%s)%"}}]);
    });
    let at = world.envoy.listener;
    let end = Instant::now() + Duration::from_millis(5500);
    let clients: Vec<_> = (0..6)
        .map(|_| {
            std::thread::spawn(move || {
                let (mut client, mut spans) = (Client::connect(at), Vec::new());
                while Instant::now() < end {
                    let answer = client.ask(&[("x-tenant-id", "plain")]).expect("an answer");
                    match answer.status {
                        200 => spans.push(span(&answer.body)),
                        429 => {
                            let retry_after = answer.header("retry-after").map(str::to_owned);
                            assert_eq!(retry_after.as_deref(), Some("1"));
                            std::thread::sleep(Duration::from_millis(4));
                        }
                        other => panic!("{other}"),
                    }
                }
                spans
            })
        })
        .collect();
    let spans: Vec<Span> = clients.into_iter().flat_map(|client| client.join().expect("it ends")).collect();
    let first = spans.iter().map(|span| span.0).min().expect("some passed");
    let last = spans.iter().map(|span| span.1).max().expect("some passed");
    // Each request was decided in a second of its span. That no second need have had more than the limit is so if and only if
    // no range of seconds has the whole spans of more than its seconds allow.
    for from in first..=last {
        for to in from..=last {
            let within = spans.iter().filter(|span| from <= span.0 && span.1 <= to).count();
            let most = LIMIT * usize::try_from(to - from + 1).expect("small");
            assert!(within <= most, "{within} from {from} to {to}: {spans:?}");
        }
    }
    let mut seconds = BTreeMap::new();
    spans.iter().for_each(|span| *seconds.entry(span.1 - first).or_insert(0) += 1);
    println!("limit {LIMIT} a second: by arrival {seconds:?}");
    // There was demand all the time, so that each whole second had its limit.
    let whole = usize::try_from(last - first - 1).expect("small");
    assert!(whole >= 4 && spans.len() >= whole * LIMIT, "{} in {whole} whole seconds", spans.len());
    assert_eq!(world.received(), spans.len());
}
