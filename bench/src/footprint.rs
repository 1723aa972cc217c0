//! What the filter takes by being there: memory, time to start, and the first request of a fresh worker.
//!
//! In each round a fresh Envoy starts with each of the variants in random order; a figure is the median over the rounds of a difference
//! of two of them in the same round.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::benches::{BASELINE, active, by_host, many_others};
use crate::envoy::Envoy;
use crate::load::Connections;
use crate::statistics::Sample;
use crate::{Outcome, Run, answers};

/// What `make bench BENCH=` calls it.
pub const NAME: &str = "footprint";
/// How long Envoy rests before its memory is read. The filter does its first errands a second after its start.
const REST: Duration = Duration::from_millis(1500);
/// The request that is compared with the first one.
const LATER: usize = 10;
/// By how many thousands of tenants the two directories differ.
const MORE_THOUSANDS: f64 = 99.99;
/// How many thousands a worker remembers, and an inline list has.
const TEN_THOUSAND: f64 = 10.0;
const KIB_A_MIB: f64 = 1024.0;

/// A variant: its file, how many workers, and whether it is sent so many tenants that its memory is full.
struct Variant {
    file: &'static str,
    workers: u32,
    fill: bool,
}

const fn variant(file: &'static str, workers: u32) -> Variant {
    Variant { file, workers, fill: false }
}

const VARIANTS: [Variant; 7] = [
    variant(BASELINE, 1),
    variant(BASELINE, 2),
    variant("subdomain.tenancy", 1),
    variant("subdomain.tenancy", 2),
    variant("inline.tenancy", 1),
    variant("few.tenancy", 1),
    Variant { file: "many.tenancy", workers: 1, fill: true },
];

/// A quantity that is told, and how it is made of the starts of one round, which are in the order of [`VARIANTS`].
struct Figure {
    what: &'static str,
    unit: &'static str,
    decimals: usize,
    of: fn([Start; VARIANTS.len()]) -> f64,
}

const fn figure(
    what: &'static str,
    unit: &'static str,
    decimals: usize,
    of: fn([Start; VARIANTS.len()]) -> f64,
) -> Figure {
    Figure { what, unit, decimals, of }
}

const FIGURES: [Figure; 12] = [
    figure("memory: the filter with one worker, at rest", "MiB", 1, |[none, _, filter, ..]| {
        (filter.resident - none.resident) / KIB_A_MIB
    }),
    figure("memory: each further worker's VM", "MiB", 1, |[none, none_twice, filter, filter_twice, ..]| {
        ((filter_twice.resident - none_twice.resident) - (filter.resident - none.resident)) / KIB_A_MIB
    }),
    figure("memory: 1,000 tenants inline, one worker", "KiB", 0, |[_, _, filter, _, inline, ..]| {
        (inline.resident - filter.resident) / TEN_THOUSAND
    }),
    figure("memory: 1,000 tenants of a snapshot, for all workers", "KiB", 0, |[.., few, many]| {
        (many.resident - few.resident) / MORE_THOUSANDS
    }),
    figure("memory: 1,000 tenants that a worker remembers", "KiB", 0, |[.., many]| {
        (many.filled - many.resident) / TEN_THOUSAND
    }),
    figure("start: Envoy without a filter", "ms", 0, |[none, ..]| none.live),
    figure("start: more with the filter", "ms", 0, |[none, _, filter, ..]| filter.live - none.live),
    figure("start: more with the filter and 10,000 tenants inline", "ms", 0, |[none, _, _, _, inline, ..]| {
        inline.live - none.live
    }),
    figure("latency: the first request, no filter", "µs", 0, |[none, ..]| none.first),
    figure("latency: the tenth request, no filter", "µs", 0, |[none, ..]| none.later),
    figure("latency: the first request, the filter", "µs", 0, |[_, _, filter, ..]| filter.first),
    figure("latency: the tenth request, the filter", "µs", 0, |[_, _, filter, ..]| filter.later),
];

/// What one start has shown.
#[derive(Clone, Copy, Default)]
struct Start {
    /// Until Envoy was live, in milliseconds.
    live: f64,
    /// The latency of the first request and of a later one, in microseconds.
    first: f64,
    later: f64,
    /// Resident memory at rest, in KiB, and where the worker's memory was filled, then.
    resident: f64,
    filled: f64,
}

/// What was measured.
pub struct Footprint {
    rounds: u32,
    /// One for each of [`FIGURES`].
    samples: Vec<Sample>,
}

pub async fn run(run: &Run, rounds: u32) -> Outcome<Footprint> {
    println!("{NAME}: {rounds} rounds");
    // An Envoy that starts compiles on whichever cores there are.
    run.cores.unpin()?;
    let mut random = fastrand::Rng::with_seed(run.seed);
    let mut turns: Vec<(usize, &Variant)> = VARIANTS.iter().enumerate().collect();
    let mut values = vec![Vec::new(); FIGURES.len()];
    for _ in 0..rounds {
        random.shuffle(&mut turns);
        let mut starts = [Start::default(); VARIANTS.len()];
        for &(place, variant) in &turns {
            let shown = start(run, variant).await.map_err(|fault| format!("{}: {fault}", variant.file))?;
            if let Some(start) = starts.get_mut(place) {
                *start = shown;
            }
        }
        for (figure, values) in FIGURES.iter().zip(&mut values) {
            values.push((figure.of)(starts));
        }
    }
    Ok(Footprint { rounds, samples: values.iter().map(|rounds| Sample::of(rounds)).collect() })
}

async fn start(run: &Run, variant: &Variant) -> Outcome<Start> {
    let setup = run.setup(BTreeSet::from([variant.file.to_owned()]), variant.workers);
    let envoy = Envoy::start(run.envoy(), &setup).await?;
    let listener = envoy.listener(variant.file)?;
    let request = by_host(active(0));
    let connections = Connections::open(listener).await?;
    let mut latencies = Vec::new();
    for _ in 0..LATER {
        let sent = Instant::now();
        connections.one(request.clone()).await?;
        latencies.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    answers::ready(listener, &request, 200).await.map_err(|fault| envoy.with_log(&*fault))?;
    tokio::time::sleep(REST).await;
    let resident = resident(&envoy)?;
    let mut filled = resident;
    if variant.fill {
        connections.send(many_others(), Some(200)).await?;
        filled = self::resident(&envoy)?;
    }
    let latency = |latency: Option<&f64>| latency.copied().unwrap_or(f64::NAN);
    let (first, later) = (latency(latencies.first()), latency(latencies.last()));
    Ok(Start { live: envoy.started_in.as_secs_f64() * 1e3, first, later, resident, filled })
}

/// Envoy's resident memory, in KiB.
fn resident(envoy: &Envoy) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", envoy.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the kernel tells no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

impl Footprint {
    /// For people.
    pub fn markdown(&self) -> String {
        let mut text =
            String::from("What the filter takes by being there\n\n| what | median (quartiles) |\n|---|---|\n");
        for (figure, sample) in FIGURES.iter().zip(&self.samples) {
            text.push_str(&format!("| {}, {} | {} |\n", figure.what, figure.unit, sample.shown(figure.decimals)));
        }
        text.push_str(&format!("\nOf {} starts of each variant; memory is what is resident of Envoy.\n", self.rounds));
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let one = |(figure, sample): (&Figure, &Sample)| json!({"what": figure.what, "unit": figure.unit, "value": sample.json()});
        json!({"rounds": self.rounds, "figures": FIGURES.iter().zip(&self.samples).map(one).collect::<Vec<Value>>()})
    }
}
