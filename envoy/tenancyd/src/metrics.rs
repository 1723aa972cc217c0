//! Counters of requests, and the text in which Prometheus reads them and the rest.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::connections::Connections;
use crate::counts::Outcomes;
use crate::store::Health;

/// The type of that text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The histogram's upper bounds: in microseconds, and as Prometheus writes them.
const BUCKETS: [(u128, &str); 10] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (100_000, "0.1"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (5_000_000, "5"),
];

/// What the requests so far came to. Its labels are few, whatever clients send: routes by template, known methods.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    by_status: BTreeMap<(String, &'static str, Option<u16>), u64>,
    durations: BTreeMap<(String, &'static str), Durations>,
}

#[derive(Debug, Default)]
struct Durations {
    /// Each has those that fit no smaller one.
    buckets: [u64; BUCKETS.len()],
    count: u64,
    micros: u128,
}

/// What the database says about itself when it is asked.
#[derive(Debug)]
pub struct Contents {
    /// How many tenants have each status.
    pub tenants: Vec<(String, i64)>,
    /// How many deletions are remembered.
    pub tombstones: i64,
    /// The revision of the last change.
    pub revision: i64,
}

/// What proxies' messages came to.
#[derive(Debug)]
pub struct Counted<'a> {
    /// By what came of them.
    pub outcomes: &'a Outcomes,
    /// How often Redis failed, if there is one.
    pub redis_failures: Option<u64>,
}

impl Metrics {
    /// Counts a request. One whose client went away has no status.
    pub fn request(&self, route: &str, method: &'static str, status: Option<u16>, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let count = requests.by_status.entry((route.to_owned(), method, status)).or_default();
        *count = count.saturating_add(1);
        let durations = requests.durations.entry((route.to_owned(), method)).or_default();
        let micros = took.as_micros();
        durations.count = durations.count.saturating_add(1);
        durations.micros = durations.micros.saturating_add(micros);
        let fitting = BUCKETS.iter().zip(&mut durations.buckets).find(|((bound, _), _)| micros <= *bound);
        if let Some((_, bucket)) = fitting {
            *bucket = bucket.saturating_add(1);
        }
    }

    /// All of it as text. Where the database gives no answer, what it would have said is left out.
    pub fn text(
        &self,
        health: &Health,
        counts: &Counted,
        connections: &Connections,
        contents: Option<&Contents>,
    ) -> String {
        let mut text = Text::default();
        text.family("tenancyd_info", "gauge", "Which tenancyd this is.");
        text.sample(&format!("tenancyd_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1);
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).write(&mut text);

        counts.write(&mut text);
        write_connections(connections, &mut text);
        text.family("tenancyd_database_errors_total", "counter", "Jobs of the database that failed.");
        text.sample("tenancyd_database_errors_total{kind=\"unavailable\"}", health.unavailable);
        text.sample("tenancyd_database_errors_total{kind=\"internal\"}", health.broken);
        text.family("tenancyd_database_queue_length", "gauge", "Jobs that wait for a connection to the database.");
        text.sample("tenancyd_database_queue_length{queue=\"reads\"}", health.reads_waiting);
        text.sample("tenancyd_database_queue_length{queue=\"writes\"}", health.writes_waiting);
        if let Some(contents) = contents {
            text.family("tenancyd_tenants", "gauge", "Tenants.");
            for status in ["active", "suspended", "inactive"] {
                let count = contents.tenants.iter().find(|(name, _)| name == status).map_or(0, |(_, count)| *count);
                text.sample(&format!("tenancyd_tenants{{status=\"{status}\"}}"), count);
            }
            text.family("tenancyd_tombstones", "gauge", "Deleted tenants that readers are still told of.");
            text.sample("tenancyd_tombstones", contents.tombstones);
            text.family("tenancyd_revision", "gauge", "The number of the last change.");
            text.sample("tenancyd_revision", contents.revision);
        }
        text.0
    }
}

impl Requests {
    fn write(&self, text: &mut Text) {
        text.family("tenancyd_requests_total", "counter", "Requests; status is none where the client went away.");
        for ((route, method, status), count) in &self.by_status {
            let status = status.map_or("none".to_owned(), |status| status.to_string());
            let labels = format!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
            text.sample(&format!("tenancyd_requests_total{{{labels}}}"), count);
        }
        let name = "tenancyd_request_duration_seconds";
        text.family(name, "histogram", "How long requests took.");
        for ((route, method), durations) in &self.durations {
            let labels = format!("route=\"{route}\",method=\"{method}\"");
            let mut within = 0_u64;
            for ((_, bound), count) in BUCKETS.iter().zip(&durations.buckets) {
                within = within.saturating_add(*count);
                text.sample(&format!("{name}_bucket{{{labels},le=\"{bound}\"}}"), within);
            }
            text.sample(&format!("{name}_bucket{{{labels},le=\"+Inf\"}}"), durations.count);
            let (seconds, micros) = (durations.micros / 1_000_000, durations.micros % 1_000_000);
            text.sample(&format!("{name}_sum{{{labels}}}"), format_args!("{seconds}.{micros:06}"));
            text.sample(&format!("{name}_count{{{labels}}}"), durations.count);
        }
    }
}

impl Counted<'_> {
    fn write(&self, text: &mut Text) {
        let outcomes = self.outcomes;
        text.family("tenancyd_leases_total", "counter", "Messages of proxies about their leases.");
        for (outcome, count) in
            [("granted", &outcomes.granted), ("refused", &outcomes.refused), ("settled", &outcomes.settled)]
        {
            let count = count.load(Ordering::Relaxed);
            text.sample(&format!("tenancyd_leases_total{{outcome=\"{outcome}\"}}"), count);
        }
        text.family("tenancyd_leased_units_total", "counter", "Units that were granted to proxies.");
        text.sample("tenancyd_leased_units_total", outcomes.units.load(Ordering::Relaxed));
        if let Some(failures) = self.redis_failures {
            text.family(
                "tenancyd_redis_errors_total",
                "counter",
                "Scripts to which Redis gave no answer, or a wrong one.",
            );
            text.sample("tenancyd_redis_errors_total", failures);
        }
    }
}

fn write_connections(connections: &Connections, text: &mut Text) {
    let tally = &connections.tally;
    text.family("tenancyd_connections", "gauge", "Clients' connections.");
    text.sample("tenancyd_connections", tally.open());
    text.family("tenancyd_connections_opened_total", "counter", "Connections that were opened.");
    text.sample("tenancyd_connections_opened_total", tally.opened.load(Ordering::Relaxed));
    text.family(
        "tenancyd_connections_closed_total",
        "counter",
        "Connections that ended; slow_reader: messages were dropped.",
    );
    for (reason, count) in tally.ends() {
        text.sample(&format!("tenancyd_connections_closed_total{{reason=\"{reason}\"}}"), count);
    }
    text.family("tenancyd_connection_messages_total", "counter", "Clients' messages, and those written to clients.");
    text.sample("tenancyd_connection_messages_total{direction=\"in\"}", tally.received.load(Ordering::Relaxed));
    text.sample("tenancyd_connection_messages_total{direction=\"out\"}", tally.sent.load(Ordering::Relaxed));
    if connections.relays() {
        let relayed = &tally.relayed;
        text.family("tenancyd_relay_lost_total", "counter", "Messages that may not have reached the other instances.");
        text.sample("tenancyd_relay_lost_total", relayed.lost.load(Ordering::Relaxed));
    }
    if tally.relayed.wanted.load(Ordering::Relaxed) {
        let relayed = &tally.relayed;
        text.family("tenancyd_relay_breaks_total", "counter", "How often other instances could no longer be heard.");
        text.sample("tenancyd_relay_breaks_total", relayed.breaks.load(Ordering::Relaxed));
        text.family("tenancyd_relay_listening", "gauge", "Whether other instances are heard.");
        text.sample("tenancyd_relay_listening", u8::from(relayed.listening.load(Ordering::Relaxed)));
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name_and_labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name_and_labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::Bounds;

    #[test]
    fn a_histogram_adds_up() {
        let metrics = Metrics::default();
        for micros in [1, 500, 501, 2_000_000, 60_000_000] {
            metrics.request("/tenants", "GET", Some(200), Duration::from_micros(micros));
        }
        metrics.request("/tenants", "GET", None, Duration::from_micros(1));
        let second = Duration::from_secs(1);
        let bounds = Bounds { connections: 1, message_bytes: 1, idle: second, auth: second };
        let connections = Connections::new(bounds, None, None).unwrap();
        let health = Health { unavailable: 3, broken: 0, reads_waiting: 2, writes_waiting: 0 };
        let text = metrics.text(
            &health,
            &Counted { outcomes: &Outcomes::default(), redis_failures: Some(4) },
            &connections,
            None,
        );
        for line in [
            r#"tenancyd_requests_total{route="/tenants",method="GET",status="200"} 5"#,
            r#"tenancyd_requests_total{route="/tenants",method="GET",status="none"} 1"#,
            r#"tenancyd_request_duration_seconds_bucket{route="/tenants",method="GET",le="0.0005"} 3"#,
            r#"tenancyd_request_duration_seconds_bucket{route="/tenants",method="GET",le="0.001"} 4"#,
            r#"tenancyd_request_duration_seconds_bucket{route="/tenants",method="GET",le="1"} 4"#,
            r#"tenancyd_request_duration_seconds_bucket{route="/tenants",method="GET",le="5"} 5"#,
            r#"tenancyd_request_duration_seconds_bucket{route="/tenants",method="GET",le="+Inf"} 6"#,
            r#"tenancyd_request_duration_seconds_sum{route="/tenants",method="GET"} 62.001003"#,
            r#"tenancyd_request_duration_seconds_count{route="/tenants",method="GET"} 6"#,
            r#"tenancyd_database_errors_total{kind="unavailable"} 3"#,
            r#"tenancyd_database_queue_length{queue="reads"} 2"#,
            "tenancyd_redis_errors_total 4",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
        assert!(!text.contains("tenancyd_tenants"));
    }
}
