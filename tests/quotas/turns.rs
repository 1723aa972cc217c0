//! What the calendar, a plan and a cost do to a count: one step after the other, with the answers known beforehand.

use serde_json::{Value, json};

use crate::core::{Core, Event, Fate, Kind, Rule};
use crate::settle::{quiet, settle};
use crate::stage::{Stage, Straight};
use crate::walk::config;

/// Two workers of one proxy, which take turns.
struct Bench {
    stage: Stage,
    last: u32,
    config: Value,
}

impl Bench {
    fn new(quotas: Value, rules: Vec<Rule>, limit: u64, epoch: i64) -> Self {
        let stage = Stage::new(4);
        let mut core = Core::new(1, 4, epoch);
        rules.iter().for_each(|rule| core.set_limit(rule.key, limit));
        core.rules = rules;
        stage.reset(core);
        let bench = Self { stage, last: 0, config: config(&quotas) };
        bench.hire(0);
        bench.hire(1);
        bench
    }

    fn edge(quota: Value, limit: u64, epoch: i64) -> Self {
        Self::new(json!([quota]), vec![Rule { key: "api", kind: Kind::Edge, cost: 1, strict: true }], limit, epoch)
    }

    fn hire(&self, slot: usize) {
        self.stage.core(|core| core.hire(slot, 0, self.config.clone()));
        self.stage.run(Box::new(Straight));
    }

    /// Sets all clocks to this second.
    fn at(&self, second: i64) {
        self.stage.core(|core| {
            let ahead = second * 1000 - core.now();
            // The clock that nobody sets goes on with time, and doesn't go back with it.
            match u64::try_from(ahead) {
                Ok(ahead) => core.time += ahead,
                Err(_) => core.proxies[0].ahead = ahead,
            }
        });
        assert_eq!(self.stage.core(|core| core.violation.take()), None);
    }

    fn send(&mut self, slot: usize) -> (u32, Fate) {
        self.last += 1;
        self.stage.give(slot, Event::Request(self.last));
        quiet(&self.stage);
        assert_eq!(self.stage.core(|core| core.violation.take()), None);
        (self.last, self.stage.core(|core| core.requests[&self.last].fate))
    }

    /// How many of so many pass, by turns.
    fn pass(&mut self, sent: usize) -> usize {
        (0..sent).filter(|number| self.send(number % 2).1 == Fate::Passed).count()
    }

    fn taken(&self, key: &str) -> u64 {
        self.stage.core(|core| core.pool(0, key).0)
    }
}

/// A moment by the clocks of Berlin, in Unix seconds.
fn berlin(day: (i16, i8, i8), time: (i8, i8, i8)) -> i64 {
    let zone = jiff::tz::TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap();
    let civil = jiff::civil::date(day.0, day.1, day.2).at(time.0, time.1, time.2, 0);
    zone.to_timestamp(civil).unwrap().as_second()
}

#[test]
fn a_count_begins_anew_at_the_exact_second() {
    let utc = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_second();
    let rows = [
        ("second", "UTC", utc("2027-01-15T08:00:07Z")),
        ("minute", "UTC", utc("2027-01-15T08:01:00Z")),
        ("hour", "UTC", utc("2027-01-15T09:00:00Z")),
        ("day", "UTC", utc("2027-01-16T00:00:00Z")),
        ("month", "UTC", utc("2027-02-01T00:00:00Z")),
        ("month", "UTC", utc("2028-01-01T00:00:00Z")),
        // The day after the 28th is a leap day, and the month ends after it.
        ("day", "UTC", utc("2028-02-29T00:00:00Z")),
        ("month", "UTC", utc("2028-03-01T00:00:00Z")),
        ("day", "Europe/Berlin", berlin((2027, 3, 29), (0, 0, 0))),
        ("day", "Europe/Berlin", berlin((2027, 11, 1), (0, 0, 0))),
        ("month", "Europe/Berlin", berlin((2027, 4, 1), (0, 0, 0))),
    ];
    for (period, zone, ends) in rows {
        let quota = json!({"quotaKey": "api", "period": period, "timezone": zone, "limit": 3});
        let mut bench = Bench::edge(quota, 3, ends - 1);
        assert_eq!(bench.pass(5), 3, "{period} {zone}");
        bench.stage.core(|core| core.time += 999);
        assert_eq!(bench.pass(3), 0, "a millisecond before the {period} is over");
        bench.at(ends);
        assert_eq!(bench.pass(5), 3, "{period} {zone}");
        // A clock that is set back begins nothing anew, for a worker that begins then neither.
        bench.stage.core(|core| core.proxies[0].ahead = -2000);
        bench.hire(0);
        assert_eq!(bench.pass(5), 0, "{period} {zone}");
    }
}

#[test]
fn days_are_as_long_as_the_clocks_make_them() {
    for (day, next, hours) in [((2027, 3, 28), (2027, 3, 29), 23), ((2027, 10, 31), (2027, 11, 1), 25)] {
        let (begins, ends) = (berlin(day, (0, 0, 0)), berlin(next, (0, 0, 0)));
        assert_eq!(ends - begins, hours * 3600);
        let quota = json!({"quotaKey": "api", "period": "day", "timezone": "Europe/Berlin", "limit": 30});
        let mut bench = Bench::edge(quota, 30, begins);
        for hour in 0..hours {
            bench.at(begins + hour * 3600);
            assert_eq!(bench.pass(1), 1, "hour {hour}");
        }
        let left = usize::try_from(30 - hours).unwrap();
        assert_eq!(bench.pass(left + 1), left);
        bench.at(ends - 1);
        assert_eq!(bench.pass(1), 0);
        bench.at(ends);
        assert_eq!(bench.pass(31), 30);
    }
}

#[test]
fn a_limit_that_changes_changes_no_count() {
    let quota = |limit: u64| json!([{"quotaKey": "api", "period": "month", "limit": limit}]);
    let rule = vec![Rule { key: "api", kind: Kind::Edge, cost: 1, strict: true }];
    let mut bench = Bench::new(quota(300), rule, 300, 1_800_000_000);
    // Enough that workers hold leases.
    assert_eq!(bench.pass(100), 100);
    for (limit, more) in [(400, 300), (250, 0), (0, 0), (401, 1), (u64::MAX >> 1, 50)] {
        bench.stage.core(|core| core.set_limit("api", limit));
        bench.config = config(&quota(limit));
        for slot in [0, 1] {
            bench.stage.give(slot, Event::Close);
            bench.hire(slot);
        }
        let sent = if limit == 400 { 320 } else { 50 };
        assert_eq!(bench.pass(sent), more, "{limit}");
    }
}

#[test]
fn limits_at_both_ends_and_costs_that_do_not_fit() {
    for (limit, cost, sent, passes) in
        [(0, 1, 3, 0), (1, 1, 3, 1), (1, 2, 3, 0), (10, 4, 5, 2), (10, 10, 2, 1), (u64::MAX >> 1, 1, 5, 5)]
    {
        for period in ["minute", "none"] {
            let kind = if period == "none" { Kind::Level } else { Kind::Edge };
            let quota = json!([{"quotaKey": "api", "period": period, "limit": limit, "cost": cost}]);
            let mut bench =
                Bench::new(quota, vec![Rule { key: "api", kind, cost, strict: true }], limit, 1_800_000_000);
            assert_eq!(bench.pass(sent), passes, "{cost} of {limit} in {period}");
        }
    }
    // The largest cost fits once into the largest limit, and nothing overflows.
    let largest = u64::MAX >> 1;
    let quota = json!([{"quotaKey": "api", "period": "minute", "limit": largest, "cost": largest}]);
    let rules = vec![Rule { key: "api", kind: Kind::Edge, cost: largest, strict: true }];
    assert_eq!(Bench::new(quota, rules, largest, 1_800_000_000).pass(3), 1);
}

#[test]
fn what_a_response_costs_is_what_counts() {
    let quota = json!({
        "quotaKey": "api", "period": "minute", "limit": 100, "cost": {"responseHeader": "x-cost", "reserve": 10},
    });
    let rules = vec![Rule { key: "api", kind: Kind::Edge, cost: 10, strict: false }];
    let mut bench = Bench::new(json!([quota]), rules, 100, 1_800_000_000);
    let settles = |bench: &mut Bench, cost: Option<u64>| {
        let (id, fate) = bench.send(0);
        assert_eq!(fate, Fate::Passed);
        bench.stage.give(0, Event::Response(id, cost));
        bench.stage.give(0, Event::End(id));
    };
    for (cost, taken) in [(Some(10), 10), (Some(3), 13), (Some(0), 13), (None, 23), (Some(30), 53)] {
        settles(&mut bench, cost);
        settle(&bench.stage, 2);
        assert_eq!(bench.taken("api"), taken, "{cost:?}");
    }
    // One is under way as the minute ends: what it turns out to have cost is the old minute's, and no unit of the new one.
    let (id, _) = bench.send(1);
    bench.at(1_800_000_060);
    settles(&mut bench, Some(1));
    bench.stage.give(1, Event::Response(id, Some(99)));
    settle(&bench.stage, 2);
    assert_eq!(bench.taken("api"), 1);
    // The reserve has to fit; what is more than it, need not.
    settles(&mut bench, Some(88));
    settles(&mut bench, Some(50));
    assert_eq!(bench.taken("api"), 139);
    assert_eq!(bench.send(0).1, Fate::Refused);
}

#[test]
fn what_one_quota_refuses_is_charged_to_none() {
    let edge = |key, cost| Rule { key, kind: Kind::Edge, cost, strict: true };
    let level = Rule { key: "slots", kind: Kind::Level, cost: 1, strict: true };
    let quotas = json!([
        {"quotaKey": "first", "period": "hour", "limit": 6},
        {"quotaKey": "slots", "period": "none", "limit": 6},
        {"quotaKey": "last", "period": "minute", "limit": 6, "cost": 2},
    ]);
    let rules = vec![edge("first", 1), level, edge("last", 2)];
    let mut bench = Bench::new(quotas, rules, 6, 1_800_000_000);
    let counts = |bench: &Bench| ["first", "slots", "last"].map(|key| bench.taken(key));
    assert_eq!(bench.pass(8), 3);
    assert_eq!(counts(&bench), [3, 3, 6]);
    bench.at(1_800_000_060);
    assert_eq!(bench.pass(8), 3);
    assert_eq!(counts(&bench), [6, 6, 6]);
    // Now the first refuses, and the level as well.
    bench.at(1_800_000_120);
    assert_eq!(bench.pass(3), 0);
    assert_eq!(counts(&bench)[..2], [6, 6]);
    assert_eq!(bench.stage.core(|core| core.passed.values().sum::<u64>()), 6 + 6 + 12);
}

#[test]
fn units_of_the_dead_come_back_after_their_silence() {
    let quota = json!([{"quotaKey": "slots", "period": "none", "limit": 2}]);
    let rules = vec![Rule { key: "slots", kind: Kind::Level, cost: 1, strict: true }];
    let mut bench = Bench::new(quota, rules, 2, 1_800_000_000);
    assert_eq!(bench.pass(2), 2);
    bench.stage.core(|core| core.workers[0].crashes = true);
    bench.stage.run(Box::new(CrashNow));
    for _ in 0..5 {
        settle(&bench.stage, 1);
        assert_eq!(bench.send(1).1, Fate::Refused);
    }
    settle(&bench.stage, 1);
    assert_eq!(bench.send(1).1, Fate::Passed);
    assert_eq!(bench.send(1).1, Fate::Refused);
}

/// Lets those that are to crash do so.
struct CrashNow;

impl crate::stage::Director for CrashNow {
    fn next(&mut self, core: &mut Core) -> crate::stage::Order {
        core.workers
            .iter()
            .position(|worker| worker.crashes)
            .map_or(crate::stage::Order::Done, crate::stage::Order::Run)
    }
}

#[test]
fn what_lies_unused_goes_back() {
    // In a worker's hands: to the pool, within two seconds.
    let quota = json!({"quotaKey": "api", "period": "hour", "limit": 10_000});
    let mut bench = Bench::edge(quota, 10_000, 1_800_000_000);
    assert_eq!(bench.pass(20), 20);
    assert!(bench.taken("api") > 20, "nobody holds a lease");
    settle(&bench.stage, 2);
    assert_eq!(bench.taken("api"), 20);
    // In a proxy: to the service, within five.
    let lease = json!({"lease": {"cluster": "leases", "path": "/tenants/{tenantId}/leases/{quotaKey}"}});
    let quota = json!([{"quotaKey": "api", "period": "hour", "limit": 10_000, "count": lease}]);
    let rules = vec![Rule { key: "api", kind: Kind::Lease, cost: 1, strict: true }];
    let mut bench = Bench::new(quota, rules, 10_000, 1_800_000_000);
    assert_eq!(bench.pass(20), 20);
    assert!(bench.stage.core(|core| core.service.leased()) > 0);
    settle(&bench.stage, 5);
    assert_eq!(bench.stage.core(|core| (core.service.used(), core.service.leased())), (20, 0));
    // And then there is nothing more to say.
    let said = bench.stage.core(|core| core.seen["callouts"]);
    settle(&bench.stage, 5);
    assert_eq!(bench.stage.core(|core| core.seen["callouts"]), said);
}

#[test]
fn units_that_go_back_to_the_service_are_used_by_nobody_meanwhile() {
    let lease = json!({"lease": {"cluster": "leases", "path": "/tenants/{tenantId}/leases/{quotaKey}"}});
    let quota = json!([{"quotaKey": "api", "period": "hour", "limit": 20, "count": lease}]);
    let rules = vec![Rule { key: "api", kind: Kind::Lease, cost: 1, strict: true }];
    let mut bench = Bench::new(quota, rules, 20, 1_800_000_000);
    assert_eq!(bench.pass(2), 2);
    let leased = bench.stage.core(|core| core.service.leased());
    assert!(leased > 0);
    // Ticks until the report is on its way, and the service hears it.
    while bench.stage.core(|core| core.calls.is_empty()) {
        bench.stage.core(|core| core.time += 1000);
        bench.stage.give(0, Event::Tick);
        bench.stage.give(1, Event::Tick);
    }
    bench.stage.core(|core| core.hear(0));
    assert_eq!(bench.stage.core(|core| core.service.leased()), 0);
    // Another proxy may have all of that now; so nothing of it may pass here before the answer has come.
    let passed = |bench: &Bench| bench.stage.core(|core| core.passed.values().sum::<u64>());
    let before = passed(&bench);
    for id in 1000..1010 {
        bench.stage.give(0, Event::Request(id));
    }
    assert_eq!(passed(&bench), before, "what the service has back is used here");
    quiet(&bench.stage);
    settle(&bench.stage, 3);
    assert_eq!(passed(&bench), before + 10);
}

#[test]
fn reports_come_to_an_end() {
    let lease = json!({"lease": {"cluster": "leases", "path": "/tenants/{tenantId}/leases/{quotaKey}"}});
    let quota = json!([{"quotaKey": "api", "period": "hour", "limit": 100_000, "count": lease}]);
    let rules = vec![Rule { key: "api", kind: Kind::Lease, cost: 1, strict: true }];
    let mut bench = Bench::new(quota, rules, 100_000, 1_800_000_000);
    // Until a question has reported as used what workers hold in their hands.
    assert_eq!(bench.pass(300), 300);
    let callouts = |bench: &Bench| bench.stage.core(|core| core.seen["callouts"]);
    loop {
        let before = callouts(&bench);
        assert_eq!(bench.pass(1), 1);
        if callouts(&bench) > before && bench.stage.core(|core| core.pool(0, "api").1) > 0 {
            break;
        }
    }
    settle(&bench.stage, 8);
    let passed = bench.stage.core(|core| core.passed.values().sum::<u64>());
    let (used, leased) = bench.stage.core(|core| (core.service.used(), core.service.leased()));
    assert!(used > passed && used < passed + 2 * 64 && leased == 0, "{used} used of {passed}, {leased} leased");
    let said = bench.stage.core(|core| core.seen["callouts"]);
    settle(&bench.stage, 60);
    assert_eq!(bench.stage.core(|core| core.seen["callouts"]), said);
    assert_eq!(bench.pass(10), 10);
}

#[test]
fn a_service_whose_clock_is_set_back_still_grants() {
    let lease = json!({"lease": {"cluster": "leases", "path": "/tenants/{tenantId}/leases/{quotaKey}"}});
    let quota = json!([{"quotaKey": "api", "period": "minute", "limit": 10, "count": lease}]);
    let rules = vec![Rule { key: "api", kind: Kind::Lease, cost: 1, strict: true }];
    let mut bench = Bench::new(quota, rules, 10, 1_800_000_000);
    bench.at(1_800_000_055);
    assert_eq!(bench.pass(2), 2);
    // It is the same minute for longer than was said before.
    bench.stage.core(|core| core.service.ahead = -30_000);
    bench.at(1_800_000_061);
    assert_eq!(bench.pass(12), 8);
    bench.at(1_800_000_090);
    assert_eq!(bench.pass(12), 10);
}
