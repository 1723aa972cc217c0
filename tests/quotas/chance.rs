//! Long runs by chance, all of it from one seed: workers and proxies that crash, messages that are lost, late or doubled, clocks
//! that are set, limits that change, and in the end order, in which everything has to come right again.

use std::collections::BTreeMap;
use std::time::Instant;

use envoy_tenancy::host::Answer;
use serde_json::{Value, json};

use crate::core::{Core, Event, Fate, Kind, LONGEST_WAIT, Mutation, Request, Rule, Worker};
use crate::random::Random;
use crate::settle::settle;
use crate::stage::{Director, Order, Stage, Straight, timed_out};

/// What may happen in a run.
#[derive(Debug, Clone)]
struct Settings {
    proxies: usize,
    workers: usize,
    kind: Kind,
    period: &'static str,
    limit: u64,
    cost: u64,
    /// Whether what passes may be more than the limit: in shadow mode, or where the service's silence lets requests pass.
    lenient: Option<&'static str>,
    /// Whether the tenant is looked up, so that a new limit comes with a new record of it.
    looked_up: bool,
    crashes: bool,
    proxy_crashes: bool,
    lost: bool,
    slow: bool,
    jumps: bool,
    raises: bool,
    steps: usize,
}

impl Settings {
    fn new(random: &mut Random) -> Self {
        let kind = *random.pick(&[Kind::Edge, Kind::Edge, Kind::Lease, Kind::Lease, Kind::Lease, Kind::Level]);
        let period = match kind {
            Kind::Level => "none",
            _ => *random.pick(&["second", "minute", "minute", "hour"]),
        };
        let limit = *random.pick(&[0, 1, 2, 3, 10, 70, 200, 1000]);
        let limit = if kind == Kind::Level { limit.min(10) } else { limit };
        let calm = random.percent(30);
        let lenient = match kind {
            Kind::Lease if random.percent(30) => Some(*random.pick(&["shadow", "allow"])),
            Kind::Edge if random.percent(10) => Some("shadow"),
            _ => None,
        };
        Self {
            proxies: if kind == Kind::Lease { index(random.between(1, 3)) } else { 1 },
            workers: index(random.between(1, 3)),
            kind,
            period,
            limit,
            cost: if random.percent(70) { 1 } else { random.between(2, 5) },
            lenient,
            looked_up: random.percent(40),
            crashes: !calm && random.percent(50),
            // What a proxy has let pass that nobody granted is lost with it, so then there is no proof that no count is.
            proxy_crashes: !calm && lenient.is_none() && random.percent(40),
            lost: !calm && random.percent(60),
            slow: random.percent(50),
            jumps: !calm && random.percent(50),
            raises: random.percent(40),
            steps: 1500,
        }
    }

    fn key(&self) -> &'static str {
        "api"
    }

    fn config(&self, limit: u64) -> Value {
        let mut quota = json!({"quotaKey": "api", "period": self.period, "limit": limit, "cost": self.cost});
        if self.kind == Kind::Lease {
            quota["count"] = json!({"lease": {"cluster": "leases", "path": "/tenants/{tenantId}/leases/{quotaKey}"}});
        }
        match self.lenient {
            Some("shadow") => quota["mode"] = json!("shadow"),
            Some(_) => quota["onError"] = json!("allow"),
            None => {}
        }
        let mut config = crate::walk::config(&json!([quota]));
        if self.looked_up {
            config["tenants"] = json!([]);
            config["lookupTenant"] =
                json!({"cluster": "directory", "path": "/tenants/{tenantId}", "cacheSeconds": 2, "staleSeconds": 5});
        }
        config
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("few")
}

/// Chance as a director.
struct Chance {
    random: Random,
    settings: Settings,
    steps: usize,
    next_request: u32,
    /// Until when no client sends a proxy anything.
    lulls: Vec<u64>,
}

impl Chance {
    /// Something that happens outside of what workers are in the midst of; whether a worker has to move now.
    fn happen(&mut self, core: &mut Core) -> Option<usize> {
        let slot = self.random.index(core.workers.len());
        let free = core.workers[slot].alive && !core.workers[slot].is_busy();
        let busy = core.workers.iter().any(Worker::is_busy);
        match self.random.below(1000) {
            0..330 if free && !core.workers[slot].drains && core.time >= self.lulls[core.workers[slot].proxy] => {
                self.next_request += 1;
                core.give(slot, Event::Request(self.next_request));
                Some(slot)
            }
            330..500 if free => self.letter(core, slot),
            500..700 => self.callout(core),
            700..800 if free => {
                let of = |request: &Request| request.slot == slot;
                let open = |fate: Fate| matches!(fate, Fate::Passed | Fate::Waits);
                let ids = core.requests.iter().filter(|(_, request)| of(request) && open(request.fate));
                let ids: Vec<u32> = ids.map(|(id, _)| *id).collect();
                let waits = |id: &u32| core.requests[id].fate == Fate::Waits;
                let id = (!ids.is_empty()).then(|| *self.random.pick(&ids))?;
                // Few give up while they wait.
                if waits(&id) && !self.random.percent(5) {
                    return None;
                }
                core.give(slot, Event::End(id));
                Some(slot)
            }
            800..900 => {
                self.time(core, busy);
                None
            }
            900..910 if self.settings.crashes && core.workers[slot].alive => {
                core.calm = false;
                core.count("crashes");
                core.workers[slot].crashes = true;
                Some(slot)
            }
            910..940 if !core.workers[slot].alive && !core.workers[slot].is_busy() => {
                let config = self.settings.config(core.limit(self.settings.key()));
                core.hire(slot, core.workers[slot].proxy, config);
                Some(slot)
            }
            940..944 if free => {
                // A new configuration: this worker ends with its last request, and another one begins beside it.
                core.workers[slot].drains = true;
                None
            }
            944..947 if self.settings.proxy_crashes && !busy => {
                let proxy = core.workers[slot].proxy;
                core.calm = false;
                core.count("proxy crashes");
                core.proxies[proxy].shared.clear();
                // What the edge counts by itself begins anew then.
                core.passed.retain(|(scope, ..), _| *scope != Some(proxy));
                for worker in core.workers.iter_mut().filter(|worker| worker.proxy == proxy && worker.alive) {
                    worker.crashes = true;
                }
                Some(slot).filter(|slot| core.workers[*slot].crashes)
            }
            947..955 if self.settings.raises => {
                let limit = self.random.between(self.settings.limit / 2, self.settings.limit * 2);
                core.set_limit(self.settings.key(), limit);
                core.count("limits");
                None
            }
            955..960 if self.settings.jumps => {
                core.count("clocks set");
                let by = i64::try_from(self.random.below(100_000)).expect("a time") - 50_000;
                match self.random.index(core.proxies.len() + 1) {
                    0 => core.service.ahead += by,
                    proxy => core.proxies[proxy - 1].ahead += by,
                }
                None
            }
            960..963 => {
                core.count("lulls");
                self.lulls[core.workers[slot].proxy] = core.time + self.random.between(1000, 6000);
                None
            }
            963..1000 if free => self.drained(core, slot),
            _ => None,
        }
    }

    fn letter(&mut self, core: &mut Core, slot: usize) -> Option<usize> {
        let letter = core.workers[slot].letters.pop_front()?;
        core.give(slot, Event::Letter(letter));
        Some(slot)
    }

    /// A worker whose configuration is over ends with its last request.
    fn drained(&mut self, core: &mut Core, slot: usize) -> Option<usize> {
        let open = |request: &Request| request.slot == slot && matches!(request.fate, Fate::Passed | Fate::Waits);
        if !core.workers[slot].drains || core.requests.values().any(open) {
            return None;
        }
        core.give(slot, Event::Close);
        Some(slot)
    }

    fn callout(&mut self, core: &mut Core) -> Option<usize> {
        if core.calls.is_empty() {
            return None;
        }
        let at = self.random.index(core.calls.len());
        let slot = core.calls[at].slot;
        let late = core.time - core.calls[at].sent_at >= 500;
        if core.calls[at].answer.is_none() && !(late && self.settings.lost && self.random.percent(50)) {
            if self.settings.lost && self.random.percent(10) {
                // It never arrives, or much later.
                return None;
            }
            core.hear(at);
            if self.settings.lost && self.random.percent(10) {
                core.count("heard twice");
                core.hear(at);
            }
            return None;
        }
        if !core.calm && self.settings.slow && !late && self.random.percent(85) {
            // The longer an answer is on its way, the more happens meanwhile.
            return None;
        }
        let gone = core.workers[slot].address != core.calls[at].address;
        if core.workers[slot].is_busy() && !gone {
            return None;
        }
        let lost = late && self.settings.lost && self.random.percent(50);
        let answer = core.calls[at].answer.clone().filter(|_| !lost);
        let answer = answer.unwrap_or_else(|| {
            core.count("lost");
            if self.random.percent(50) { timed_out() } else { Answer::Failed { why: "no connection" } }
        });
        let (slot, event) = core.take_answer(at, answer)?;
        core.give(slot, event);
        Some(slot)
    }

    /// Time goes on; where it is calm, only after everything of this moment is done.
    fn time(&mut self, core: &mut Core, busy: bool) {
        let pending = busy || core.workers.iter().any(|worker| !worker.letters.is_empty());
        let most = match self.random.below(100) {
            _ if core.calm && pending => 1,
            _ if self.lulls.iter().any(|until| core.time < *until) => 400,
            0..60 => 40,
            60..90 => 400,
            _ => 1000,
        };
        core.time += self.random.between(0, if busy { most.min(100) } else { most });
    }

    /// A worker whose tick is due.
    fn due(&self, core: &Core) -> Option<usize> {
        let is_due = |worker: &Worker| worker.alive && !worker.is_busy() && core.time - worker.ticked_at >= 1000;
        core.workers.iter().position(is_due)
    }
}

impl Director for Chance {
    fn next(&mut self, core: &mut Core) -> Order {
        // What has begun goes on to its first step, and what is to die does so before anything else.
        if let Some(slot) = core.workers.iter().position(|worker| worker.event.is_some() || worker.crashes) {
            return Order::Run(slot);
        }
        loop {
            if core.violation.is_some() || self.steps == 0 {
                return Order::Done;
            }
            let busy: Vec<usize> = (0..core.workers.len()).filter(|slot| core.workers[*slot].is_busy()).collect();
            if !busy.is_empty() && self.random.percent(70) {
                return Order::Run(*self.random.pick(&busy));
            }
            self.steps -= 1;
            core.judge_waits();
            if let Some(slot) = self.due(core) {
                core.give(slot, Event::Tick);
                return Order::Run(slot);
            }
            if let Some(slot) = self.happen(core) {
                return Order::Run(slot);
            }
        }
    }
}

/// A run of one seed.
pub struct Run {
    pub violation: Option<String>,
    pub trace: Vec<String>,
    pub seen: BTreeMap<&'static str, u64>,
    pub longest_wait: u64,
}

pub fn run(seed: u64, mutation: Mutation, traces: bool) -> Run {
    let mut random = Random::new(seed);
    let settings = Settings::new(&mut random);
    let slots = settings.proxies * settings.workers;
    let stage = Stage::new(slots);
    let mut core = Core::new(settings.proxies, slots, 1_800_000_000 + 3570);
    core.rules =
        vec![Rule { key: "api", kind: settings.kind, cost: settings.cost, strict: settings.lenient.is_none() }];
    core.set_limit("api", settings.limit);
    (core.mutation, core.traces) = (mutation, traces);
    core.calm = !settings.crashes && !settings.lost && !settings.jumps && settings.lenient.is_none();
    // Who waits for a letter that is lost takes its sender for dead.
    core.calm &= mutation != Mutation::LostLetters;
    core.service.forgets = mutation == Mutation::ForgetfulService;
    if settings.jumps {
        core.service.ahead = i64::try_from(random.below(4000)).expect("a time") - 2000;
    }
    for slot in 0..slots {
        core.workers[slot].proxy = slot % settings.proxies;
    }
    core.note(|| format!("{settings:?}"));
    stage.reset(core);
    for slot in 0..slots {
        stage.core(|core| core.hire(slot, core.workers[slot].proxy, settings.config(settings.limit)));
        stage.run(Box::new(Straight));
    }
    for _ in 0..2 {
        let steps = settings.steps;
        let next_request = stage.core(|core| core.requests.last_key_value().map_or(0, |(id, _)| *id));
        let chance = Random::new(random.next());
        stage.run(Box::new(Chance {
            random: chance,
            settings: settings.clone(),
            steps,
            next_request,
            lulls: vec![0; settings.proxies],
        }));
        order(&stage, &settings);
    }
    stage.core(|core| Run {
        violation: core.violation.take(),
        trace: std::mem::take(&mut core.trace),
        seen: std::mem::take(&mut core.seen),
        longest_wait: core.longest_wait,
    })
}

/// Everything that is under way arrives, and a while passes in which nothing breaks.
fn order(stage: &Stage, settings: &Settings) {
    if stage.core(|core| core.violation.is_some()) {
        return;
    }
    stage.core(|core| core.note(|| "order".to_owned()));
    settle(stage, 12);
    if settings.kind == Kind::Lease {
        touch(stage, settings);
    }
    stage.core(|core| {
        let waits = core.requests.values().filter(|request| request.fate == Fate::Waits).count();
        if waits > 0 {
            core.violate(format!("{waits} still wait after 12 seconds of order"));
        }
    });
    // All that are under way end.
    let open: Vec<(u32, usize)> = stage.core(|core| {
        let open = core.requests.iter().filter(|(_, request)| request.fate == Fate::Passed);
        open.map(|(id, request)| (*id, request.slot)).collect()
    });
    for (id, slot) in open {
        if stage.core(|core| core.violation.is_none() && core.workers[slot].alive) {
            stage.give(slot, Event::End(id));
        }
    }
    stage.core(|core| {
        for proxy in 0..core.proxies.len() {
            let (taken, held) = core.pool(proxy, settings.key());
            match settings.kind {
                // What the dead held comes back when somebody looks, so it is looked at below.
                Kind::Level if core.calm && taken > 0 => {
                    core.violate(format!("{taken} of a level are left, of nobody"))
                }
                Kind::Edge | Kind::Lease if core.calm && held > 0 => {
                    core.violate(format!("{held} are held in the end"))
                }
                _ => {}
            }
        }
        if settings.kind == Kind::Lease && !settings.proxy_crashes {
            let passed: u64 = core.passed.values().sum();
            let used = core.service.used();
            if used < passed {
                let (passes, rows) = (core.passed.clone(), core.service.counts());
                core.violate(format!("{passed} have passed, and the service knows of {used}: {passes:?}, {rows:?}"));
            }
        }
    });
    if settings.kind == Kind::Level && settings.limit > 0 && !settings.raises && settings.lenient.is_none() {
        full_again(stage, settings);
    }
}

/// Has a worker of each proxy see the tenant once more: one that knows nothing of a tenant can't report what others, who have
/// died since, have used.
fn touch(stage: &Stage, settings: &Settings) {
    let mut id = stage.core(|core| core.requests.last_key_value().map_or(0, |(id, _)| *id));
    for proxy in 0..settings.proxies {
        let of = |worker: &Worker| worker.proxy == proxy;
        let alive = |worker: &Worker| worker.alive && !worker.drains;
        let slot = stage.core(|core| core.workers.iter().position(|worker| of(worker) && alive(worker)));
        let slot = slot.unwrap_or_else(|| {
            stage.core(|core| {
                let slot = core.workers.iter().position(of).expect("a slot");
                core.hire(slot, proxy, settings.config(core.limit("api")));
                slot
            })
        });
        stage.run(Box::new(Straight));
        id += 1;
        stage.give(slot, Event::Request(id));
    }
    settle(stage, 12);
}

/// A level has all of its units again, whoever has died meanwhile.
fn full_again(stage: &Stage, settings: &Settings) {
    let Some(slot) = stage.core(|core| core.workers.iter().position(|worker| worker.alive && !worker.drains)) else {
        return;
    };
    let fits = settings.limit / settings.cost;
    let first = stage.core(|core| core.requests.last_key_value().map_or(0, |(id, _)| *id)) + 1;
    let ids = first..first + u32::try_from(fits).expect("few");
    for id in ids.clone() {
        if stage.core(|core| core.violation.is_none()) {
            stage.give(slot, Event::Request(id));
            crate::settle::quiet(stage);
        }
    }
    for id in ids {
        stage.core(|core| match core.requests.get(&id).map(|request| request.fate) {
            Some(Fate::Passed) | None => {}
            Some(fate) => core.violate(format!("after everybody has gone, {id} is {fate:?}")),
        });
        if stage.core(|core| core.violation.is_none()) {
            stage.give(slot, Event::End(id));
        }
    }
    stage.core(|core| {
        let (taken, _) = core.pool(0, settings.key());
        if taken > 0 {
            core.violate(format!("{taken} are taken of a level that nobody uses"));
        }
    });
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn chance_breaks_no_promise() {
    let started = Instant::now();
    let one = number("QUOTA_SEED");
    let seeds = one.map_or(0..number("QUOTA_SEEDS").unwrap_or(80), |seed| seed..seed + 1);
    let many = seeds.end - seeds.start;
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut failed, mut longest) = (BTreeMap::new(), 0);
    for seed in seeds {
        let run = run(seed, Mutation::None, one.is_some());
        if one.is_some() {
            eprintln!("{}", run.trace.join("\n"));
        }
        run.seen.iter().for_each(|(what, count)| *seen.entry(what).or_default() += count);
        longest = longest.max(run.longest_wait);
        if let Some(violation) = run.violation {
            failed.insert(seed, violation);
        }
    }
    eprintln!("{many} seeds in {:?}, longest wait {longest} of {LONGEST_WAIT} ms: {seen:#?}", started.elapsed());
    for (seed, violation) in failed.iter().take(20) {
        eprintln!("QUOTA_SEED={seed}: {violation}");
    }
    assert!(failed.is_empty(), "{} of {many} seeds fail", failed.len());
    if many >= 80 {
        let all = [
            "clocks set",
            "crashes",
            "heard twice",
            "letters",
            "limits",
            "lost",
            "lulls",
            "others were first",
            "passed",
            "proxy crashes",
            "refusals that were judged",
            "unavailable",
            "waited",
        ];
        for what in all {
            assert!(seen.get(what).is_some_and(|count| *count > 20), "hardly ever seen: {what}");
        }
    }
}

#[test]
fn what_is_wrong_is_noticed() {
    for mutation in [Mutation::BlindReplace, Mutation::LostWrites, Mutation::ForgetfulService, Mutation::DeafToLife] {
        let noticed = (0..100).find(|seed| run(*seed, mutation, false).violation.is_some());
        eprintln!("{mutation:?}: seed {noticed:?}");
        assert!(noticed.is_some(), "{mutation:?} goes unnoticed in 100 seeds");
    }
}

#[test]
fn letters_that_are_lost_cost_nothing_but_time() {
    let mut longest = 0;
    for seed in 0..15 {
        let run = run(seed, Mutation::LostLetters, false);
        assert_eq!(run.violation, None, "seed {seed}");
        longest = longest.max(run.longest_wait);
    }
    eprintln!("longest wait: {longest} ms");
}

#[test]
fn a_seed_always_gives_the_same_run() {
    // A proxy's name is its own random one, and the only thing that may differ.
    let plain = |trace: Vec<String>| {
        let line = |line: String| match line.split_once("\"proxy\":\"") {
            Some((before, after)) => format!("{before}{}", after.split_once('"').map_or("", |(_, rest)| rest)),
            None => line,
        };
        trace.into_iter().filter(|line| !line.contains("tenancy:1:proxy")).map(line).collect::<Vec<_>>()
    };
    for seed in 0..5 {
        let (one, other) = (plain(run(seed, Mutation::None, true).trace), plain(run(seed, Mutation::None, true).trace));
        let differ = one.iter().zip(&other).find(|(one, other)| one != other);
        assert_eq!(differ, None, "seed {seed}");
    }
}
