//! What a request costs with the filter and with its peer, as ratios.
//!
//! One Envoy with one worker has a listener for every variant. Small slices of requests go to all of them in random order, round after
//! round, and the kernel tells how long the worker computed for each slice. What a variant costs is the median over the rounds
//! of the difference to the same slice through no filter in the same round; a result is a ratio of two of these. So whatever else the
//! machine does, it does to both sides of a ratio.

use std::time::Duration;

use crate::benches::{self, Bench};
use crate::bootstrap::Setup;
use crate::cpu::{self, Workers};
use crate::envoy::Envoy;
use crate::load::Connections;
use crate::report::Row;
use crate::statistics::Sample;
use crate::{Outcome, Run, answers};

/// Checks that each variant does what its peer does, and measures all of them.
pub async fn run(run: &Run, benches: &[Bench], rounds: u32) -> Outcome<Vec<Row>> {
    if run.cores.count() == 1 {
        println!("This machine has one core: Envoy and its load share it, so expect more noise.");
    }
    // What starts now inherits the core.
    cpu::pin(run.cores.first)?;
    let setup = Setup { telling: true, ..run.setup(benches.iter().flat_map(Bench::listeners).collect(), 1) };
    let envoy = Envoy::start(run.envoy(), &setup).await?;
    cpu::pin(run.cores.second)?;
    println!("{rounds} rounds, SEED={}", run.seed);
    check_and_measure(benches, &envoy, rounds, run.seed).await.map_err(|fault| envoy.with_log(&*fault))
}

async fn check_and_measure(benches: &[Bench], envoy: &Envoy, rounds: u32, seed: u64) -> Outcome<Vec<Row>> {
    for bench in benches {
        answers::check(bench, envoy).await?;
    }
    println!("Each variant answers as its peer does.");
    measure(benches, envoy, rounds, seed).await
}

/// A variant's turn: which bench it belongs to, and which of its [`benches::SIDES`] it is.
#[derive(Clone, Copy)]
struct Turn {
    bench: usize,
    side: usize,
}

async fn measure(benches: &[Bench], envoy: &Envoy, rounds: u32, seed: u64) -> Outcome<Vec<Row>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let workers = Workers::of(envoy.id())?;
    let mut connections = Vec::new();
    for bench in benches {
        let mut sides = Vec::new();
        for side in bench.listeners() {
            sides.push(Connections::open(envoy.listener(&side)?).await?);
        }
        connections.push(sides);
    }

    for (bench, sides) in benches.iter().zip(&connections) {
        for side in sides {
            side.send(bench.fill.clone(), None).await?;
        }
    }

    let mut turns: Vec<Turn> = Vec::new();
    for bench in 0..benches.len() {
        turns.extend((0..benches::SIDES).map(|side| Turn { bench, side }));
    }
    // Microseconds per request of each side in each round.
    let mut costs = vec![vec![Vec::new(); benches::SIDES]; benches.len()];
    let mut sent = vec![vec![0; benches::SIDES]; benches.len()];
    // V8 and Lua compile, tables fill, tenants are looked up: the first rounds count for nothing.
    for round in 0..rounds + benches::WARM_UP_ROUNDS {
        random.shuffle(&mut turns);
        for &Turn { bench: index, side } in &turns {
            let missing = "a turn is of a bench that isn't there";
            let bench = benches.get(index).ok_or(missing)?;
            let sides = connections.get(index).and_then(|sides| sides.get(side)).ok_or(missing)?;
            let next = sent.get_mut(index).and_then(|sides| sides.get_mut(side)).ok_or(missing)?;
            let requests: Vec<_> = (*next..*next + bench.slice).map(|number| (bench.request)(number)).collect();
            *next += bench.slice;
            let expected = if side == benches::NO_FILTER { 200 } else { bench.status };

            let before = workers.settled().await?;
            sides
                .send(requests, Some(expected))
                .await
                .map_err(|fault| format!("{}, side {side}: {fault}", bench.name))?;
            let took: Duration = workers.settled().await?.saturating_sub(before);
            if round >= benches::WARM_UP_ROUNDS {
                let each = took.as_secs_f64() * 1e6 / f64::from(u32::try_from(bench.slice)?);
                costs.get_mut(index).and_then(|sides| sides.get_mut(side)).ok_or(missing)?.push(each);
            }
        }
    }
    let mut rows = Vec::new();
    for (bench, costs) in benches.iter().zip(&costs) {
        let [none, ours, peer] = costs.as_slice() else { return Err("a bench has three sides".into()) };
        rows.push(Row::new(bench, Sample::of(none), Sample::above(ours, none), Sample::above(peer, none)));
    }
    Ok(rows)
}
