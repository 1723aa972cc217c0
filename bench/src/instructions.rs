//! How many instructions Envoy's worker needs for a request, above no filter.
//!
//! Unlike time they are nearly the same in each run, on busy machines too, so that a change of a few percent shows.

use std::collections::BTreeMap;

use crate::benches::{self, Bench};
use crate::callgrind::Callgrind;
use crate::envoy::Envoy;
use crate::load::Connections;
use crate::statistics::Sample;
use crate::{Outcome, Run, answers};

/// The benches whose requests are looked at: the ways that most requests go, and nothing that is new each time.
const WAYS: [&str; 7] = ["subdomain", "excluded", "quota", "stack", "refused_404", "held", "token_seen"];
/// How many requests come before any is counted: V8 compiles functions when they are first called, tables fill.
const WARM_UP: usize = 150;
/// How many requests are counted together, and how often; the median counts.
const SLICE: usize = 100;
const SLICES: usize = 3;
/// How many tokens are seen again and again, so that the warm-up has seen each of them.
const KINDS: usize = 50;

/// Instructions a request, by bench.
pub type Instructions = BTreeMap<String, f64>;

pub async fn count(run: &Run) -> Outcome<Instructions> {
    // Each VM reserves ten gigabytes of addresses, of which valgrind has few, so each variant has an Envoy of its own.
    let mut variants: BTreeMap<&str, Vec<Bench>> = BTreeMap::new();
    for bench in benches::all(&run.keys).into_iter().filter(|bench| WAYS.contains(&bench.name)) {
        variants.entry(bench.ours).or_default().push(bench);
    }
    let mut instructions = Instructions::new();
    for (variant, benches) in variants {
        let setup = run.setup([benches::BASELINE, variant].map(str::to_owned).into(), 1);
        let callgrind = Callgrind::new()?;
        let envoy = Envoy::start(callgrind.running(&run.envoy), &setup).await?;
        let counted = count_all(&callgrind, &envoy, &benches).await;
        instructions.extend(counted.map_err(|fault| envoy.with_log(&*fault))?);
    }
    Ok(instructions)
}

async fn count_all(callgrind: &Callgrind, envoy: &Envoy, benches: &[Bench]) -> Outcome<Instructions> {
    for bench in benches {
        answers::ready(envoy.listener(bench.ours)?, &(bench.request)(0), bench.status).await?;
    }
    callgrind.count(envoy.id()).await?;
    let mut instructions = Instructions::new();
    for bench in benches {
        let ours = each(callgrind, envoy, bench, bench.ours, bench.status).await?;
        let none = each(callgrind, envoy, bench, benches::BASELINE, 200).await?;
        instructions.insert(bench.name.to_owned(), ours - none);
    }
    Ok(instructions)
}

/// What one of its requests takes, sent one after the other.
async fn each(callgrind: &Callgrind, envoy: &Envoy, bench: &Bench, variant: &str, status: u16) -> Outcome<f64> {
    let connections = Connections::some(envoy.listener(variant)?, 1).await?;
    let requests = |count: usize| (0..count).map(|number| (bench.request)(number % KINDS)).collect();
    connections.in_turn(requests(WARM_UP), status).await?;
    let mut slices = Vec::new();
    let mut before = callgrind.counted(envoy.id()).await?;
    for _ in 0..SLICES {
        connections.in_turn(requests(SLICE), status).await?;
        let after = callgrind.counted(envoy.id()).await?;
        // The worker is the thread that has run most.
        let most = after.iter().zip(&before).map(|(after, before)| after.saturating_sub(*before)).max();
        let most = u32::try_from(most.unwrap_or_default())?;
        slices.push(f64::from(most) / f64::from(u32::try_from(SLICE)?));
        before = after;
    }
    Ok(Sample::of(&slices).median)
}
