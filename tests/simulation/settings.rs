//! What a seed decides once: the workers, their configuration, and how unreliable everything is.

use serde_json::{Value, json};

use crate::random::Random;
use crate::truth::Time;
use crate::world::Mutation;

/// The tenant that the configuration itself lists.
pub const HOUSE: &str = "house";
pub const BASE: &str = "app.example.com";

pub struct Settings {
    pub workers: usize,
    /// Tenants first, then domains.
    pub services: [Ages; 2],
    pub first_wins: bool,
    /// Of 100 callouts to a service that is up, so many fail all the same.
    pub flaky: u64,
    /// Every how many seconds a snapshot of the tenants is read, if at all.
    pub snapshot: Option<u64>,
    /// Whether the workers' clock is set, now and then.
    pub clock_jumps: bool,
}

/// A service's settings, in milliseconds.
#[derive(Debug)]
pub struct Ages {
    pub timeout: Time,
    pub cache: Time,
    pub stale: Time,
    pub negative: Time,
    pub max_in_flight: usize,
    pub allow: bool,
}

impl Settings {
    pub fn new(random: &mut Random) -> Self {
        let services = [Ages::new(random), Ages::new(random)];
        let longest = services[0].cache / 1000;
        Self {
            workers: usize::try_from(random.between(2, 3)).unwrap(),
            snapshot: (longest >= 2 && random.percent(50)).then(|| random.between(1, longest - 1)),
            services,
            first_wins: random.percent(20),
            flaky: *random.pick(&[0, 5, 5, 30]),
            clock_jumps: random.percent(40),
        }
    }

    pub fn config(&self, mutation: Mutation) -> Value {
        let service = |ages: &Ages, path: &str| {
            let wrong = |with: Mutation, add: u64| if mutation == with { add } else { 0 };
            json!({
                "cluster": "directory",
                "path": path,
                "timeoutMs": ages.timeout,
                "cacheSeconds": ages.cache / 1000 + wrong(Mutation::StaleAsFresh, ages.stale / 1000),
                "staleSeconds": ages.stale / 1000,
                "negativeSeconds": ages.negative / 1000 + wrong(Mutation::LongNegative, 60),
                "maxInFlight": ages.max_in_flight + usize::try_from(wrong(Mutation::WideInFlight, 1)).unwrap(),
                "onError": if ages.allow { "allow" } else { "deny" },
            })
        };
        let mut config = json!({
            "isolation": {
                "resolution": ["header", "subdomain", "custom_domain"],
                "agreement": if self.first_wins { "first" } else { "consistent" },
                "baseDomain": BASE,
                "domainLookup": service(&self.services[1], "/domains/{domain}"),
            },
            "tenants": [{"id": HOUSE}],
            "lookupTenant": service(&self.services[0], "/tenants/{tenantId}"),
        });
        if let Some(interval) = self.snapshot {
            config["lookupTenant"]["snapshot"] = json!({"path": "/snapshot", "intervalSeconds": interval});
        }
        config
    }

    /// The service that is asked for a key; 2 for a page of a snapshot, which no request waits for.
    pub fn service(key: &str) -> usize {
        match key {
            key if key.starts_with("/tenants/") => 0,
            key if key.starts_with("/domains/") => 1,
            _ => 2,
        }
    }
}

impl Ages {
    fn new(random: &mut Random) -> Self {
        Self {
            timeout: *random.pick(&[50, 200, 500, 2000]),
            cache: *random.pick(&[0, 1000, 2000, 5000, 10_000, 60_000]),
            stale: *random.pick(&[0, 3000, 10_000, 60_000]),
            negative: *random.pick(&[0, 1000, 5000, 20_000]),
            max_in_flight: *random.pick(&[1, 2, 4, 64]),
            allow: random.percent(20),
        }
    }
}
