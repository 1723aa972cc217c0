//! What the filter costs in Envoy, side by side with what people would use instead. `make bench` runs it.
//!
//! One Envoy with one worker has a listener for every variant. Small slices of requests go to all of them in random order, round after
//! round, and the kernel tells how long the worker computed for each slice. What a variant costs is the median over the rounds
//! of the difference to the same slice through no filter in the same round; a result is a ratio of two of these. So whatever else the
//! machine does, it does to both sides of a ratio.

#![allow(
    clippy::arithmetic_side_effects,
    reason = "a measurement that overflows may end; no request of anybody depends on it"
)]

mod answers;
mod benches;
mod cpu;
mod envoy;
mod load;
mod picture;
mod report;
mod service;
mod statistics;
mod tokens;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::benches::Bench;
use crate::cpu::Workers;
use crate::envoy::Envoy;
use crate::load::Connections;
use crate::report::Row;
use crate::service::Service;
use crate::statistics::Sample;
use crate::tokens::Keys;

/// What may go wrong is told in words, and ends the run.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Measures CPU of an Envoy's worker per request, above no filter, as ratios to what people would use instead.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Measure this alone, with its peer; without it, all
    #[arg(value_name = "BENCH")]
    only: Option<String>,
    /// The Envoy to run
    #[arg(long, env = "ENVOY_BIN", value_name = "FILE")]
    envoy: PathBuf,
    /// How many times each variant has its turn
    #[arg(long, env = "ROUNDS", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(4..=10_000))]
    rounds: u32,
    /// Repeats the order of an earlier run
    #[arg(long, env = "SEED", value_name = "N")]
    seed: Option<u64>,
    /// The folder that gets results.json, results.md and results.svg
    #[arg(long, env = "RESULTS", value_name = "FOLDER", default_value = "target/bench")]
    results: PathBuf,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("bench: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Outcome<()> {
    let keys = Rc::new(Keys::new()?);
    let mut benches = benches::all(&keys);
    if let Some(only) = &arguments.only {
        let names: Vec<&str> = benches.iter().map(|bench| bench.name).collect();
        let fault = format!("there is no bench {only}; there are {}", names.join(", "));
        benches.retain(|bench| bench.name == only);
        if benches.is_empty() {
            return Err(fault.into());
        }
    }
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..=u64::from(u32::MAX)));
    println!("{} rounds, SEED={seed}", arguments.rounds);

    let (envoy_core, our_core) = cpu::two_cores()?;
    if envoy_core == our_core {
        println!("This machine has one core: Envoy and its load share it, so expect more noise.");
    }
    // Whatever starts now inherits the core: first Envoy, then the service and the load.
    cpu::pin(our_core)?;
    let service = Service::start()?;
    cpu::pin(envoy_core)?;
    let config = envoy::Config { benches: &benches, service: service.address, keys: &keys };
    let envoy = Envoy::start(&arguments.envoy, &config)?;
    cpu::pin(our_core)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = runtime.block_on(async {
        tokio::select! {
            rows = check_and_measure(&benches, &envoy, arguments.rounds, seed) => rows,
            // Then Envoy, too, is ended before this is.
            stopped = stopped() => Err(stopped),
        }
    });
    let rows = rows.map_err(|fault| format!("{fault}\n{}", envoy.log()))?;

    println!("\n{}", report::table(&rows));
    write(&arguments.results, "results.json", &report::json(&rows, arguments.rounds, seed))?;
    write(&arguments.results, "results.md", &report::ratios(&rows))?;
    write(&arguments.results, "results.svg", &picture::draw(&rows))
}

fn write(folder: &Path, name: &str, text: &str) -> Outcome<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(name), text)?;
    println!("{}", folder.join(name).display());
    Ok(())
}

/// Waits until somebody stops this run, and says so.
async fn stopped() -> Box<dyn std::error::Error> {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else { return std::future::pending().await };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    "stopped".into()
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
            sides.send(requests, expected).await.map_err(|fault| format!("{}, side {side}: {fault}", bench.name))?;
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
