//! A run: what clients, operators and time do, by chance.

use std::collections::BTreeMap;

use crate::judge::{LONGEST_PAUSE, Violation};
use crate::random::Random;
use crate::settings::{BASE, HOUSE};
use crate::truth::{Time, domain_key, tenant_key};
use crate::world::{Asked, Mutation, PAGE_TIMEOUT, World};

/// What came of a run.
pub struct Run {
    pub violation: Option<Violation>,
    pub trace: Vec<String>,
    pub seen: BTreeMap<&'static str, u64>,
}

/// Twice disorder, and then order, in which everything has to come right again.
pub fn run(seed: u64, mutation: Mutation) -> Run {
    let mut random = Random::new(seed);
    let world = World::new(seed, mutation, &mut random);
    for _ in 0..2 {
        world.healthy.set(false);
        for _ in 0..STEPS {
            if world.violation.borrow().is_none() {
                step(&world, &mut random);
                world.count("steps");
            }
        }
        if world.violation.borrow().is_none() {
            order(&world);
        }
    }
    Run { violation: world.violation.take(), trace: world.trace.take(), seen: world.seen.take() }
}

const STEPS: usize = 200;

fn step(world: &World, random: &mut Random) {
    let worker = random.index(world.workers.len());
    match random.below(100) {
        0..50 => burst(world, worker, random),
        50..80 => {
            let time = match random.below(100) {
                0..50 => random.between(0, 30),
                50..85 => random.between(30, 1500),
                85..97 => random.between(1500, 12_000),
                _ => random.between(12_000, 130_000),
            };
            world.pass(time);
        }
        80..88 => world.change(random),
        88..93 => {
            let waiting: Vec<_> = world.workers[worker].waiting.borrow().keys().copied().collect();
            if !waiting.is_empty() {
                world.leave(worker, *random.pick(&waiting));
            }
        }
        93..95 => world.reload(worker),
        95..98 => world.outage(random.index(2), random.percent(30)),
        _ if world.settings.clock_jumps => {
            let forward = random.percent(50);
            world.set_clock(forward, random.between(1, if forward { 100_000 } else { 5000 }));
        }
        _ => {}
    }
}

/// Several clients at once, as a rule for the same few tenants.
fn burst(world: &World, worker: usize, random: &mut Random) {
    let count = if random.percent(60) { 1 } else { random.between(2, 8) };
    let first = any(world, random);
    for _ in 0..count {
        let mut asked = if random.percent(50) { first.clone() } else { any(world, random) };
        asked.arrived = world.now.get();
        if world.violation.borrow().is_none() {
            world.request(worker, asked);
        }
    }
}

fn any(world: &World, random: &mut Random) -> Asked {
    let truth = world.truth.borrow();
    let name = |random: &mut Random| match random.below(100) {
        0..50 => truth.names[random.index(4)].clone(),
        50..82 => random.pick(&truth.names).clone(),
        82..85 => HOUSE.to_owned(),
        _ => format!("ghost-{}", random.below(30)),
    };
    let host = |random: &mut Random| match random.below(100) {
        0..85 => random.pick(&truth.hosts).clone(),
        _ => format!("ghost-{}.example.net", random.below(10)),
    };
    let mut asked = Asked::header(&name(random));
    match random.below(100) {
        0..45 => {}
        45..65 => by_subdomain(&mut asked),
        65..80 => by_domain(&mut asked, &host(random)),
        80..88 => {
            let label = name(random);
            asked.keys.push(tenant_key(&label));
            asked.authority = format!("{label}.{BASE}");
        }
        88..94 => {
            let host = host(random);
            asked.keys.push(domain_key(&host));
            asked.authority = host;
        }
        94..96 => {
            asked.header = Some("id-1,id-2".to_owned());
            asked.ambiguous = true;
            asked.keys.clear();
        }
        96..98 => {
            asked.header = Some("no/identifier".to_owned());
            asked.keys.clear();
        }
        _ => {
            asked.header = None;
            asked.keys.clear();
        }
    }
    asked
}

fn by_subdomain(asked: &mut Asked) {
    let name = asked.header.take().unwrap();
    asked.authority = format!("{name}.{BASE}");
}

fn by_domain(asked: &mut Asked, host: &str) {
    asked.header = None;
    asked.keys = vec![domain_key(host)];
    asked.authority = host.to_owned();
}

/// All is well: after the longest time for which anything may be held, every verdict is the truth.
fn order(world: &World) {
    world.heal();
    let longest = |of: fn(&crate::settings::Ages) -> Time| world.settings.services.iter().map(of).max().unwrap();
    let ages = longest(|ages| ages.cache.max(ages.negative));
    // What may have begun before: two callouts of a request, and pauses that look longer to a clock that was set back.
    let interval = world.settings.snapshot.map_or(0, |seconds| seconds * 1000 + 2 * PAGE_TIMEOUT);
    world.pass(ages.max(LONGEST_PAUSE) + interval + 2 * longest(|ages| ages.timeout) + world.set_back.get() + 7000);
    let asked: Vec<Asked> = {
        let truth = world.truth.borrow();
        let names = truth.names.iter().map(|name| Asked::header(name));
        let ghost = Asked::header("ghost-0");
        let hosts = truth.hosts.iter().map(|host| {
            let mut asked = Asked::header(host);
            by_domain(&mut asked, host);
            asked
        });
        names.chain(hosts).chain([ghost]).collect()
    };
    for worker in 0..world.workers.len() {
        for asked in &asked {
            // A question in the background may take all callouts that there are.
            while world.violation.borrow().is_none() && !world.workers[worker].flights.borrow().is_empty() {
                world.pass(10);
            }
            let mut asked = asked.clone();
            asked.arrived = world.now.get();
            asked.must_be_true = true;
            let id = world.request(worker, asked);
            while world.violation.borrow().is_none() && world.workers[worker].waiting.borrow().contains_key(&id) {
                world.pass(10);
            }
            if world.violation.borrow().is_some() {
                return;
            }
        }
    }
}
