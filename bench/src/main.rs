//! What the filter costs in Envoy, side by side with what people would use instead. `make bench` and `make instructions` run it.

#![allow(
    clippy::arithmetic_side_effects,
    reason = "a measurement that overflows may end; no request of anybody depends on it"
)]

mod answers;
mod benches;
mod bootstrap;
mod callgrind;
mod cpu;
mod envoy;
mod footprint;
mod guard;
mod instructions;
mod latency;
mod load;
mod open_loop;
mod picture;
mod ratios;
mod report;
mod service;
mod statistics;
mod tokens;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::rc::Rc;

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::bootstrap::Setup;
use crate::cpu::Cores;
use crate::report::Results;
use crate::service::Service;
use crate::tokens::Keys;

/// What may go wrong is told in words, and ends the run.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Measures what the filter costs in Envoy.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The Envoy to run
    #[arg(long, env = "ENVOY_BIN", value_name = "FILE")]
    envoy: PathBuf,
    /// Repeats the order of an earlier run
    #[arg(long, env = "SEED", value_name = "N")]
    seed: Option<u64>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// CPU time as ratios to what people would use instead, latency, and what the filter takes by being there
    Measure(Measure),
    /// Instructions of a request, held against the figures that are committed
    Instructions(guard::Guard),
}

#[derive(Args)]
struct Measure {
    /// Measure this alone: one of the ratios, latency, or footprint; without it, all
    #[arg(value_name = "BENCH")]
    only: Option<String>,
    /// How many times each variant has its turn: 100 for ratios, 16 for latency, 5 for footprint. With all it is for ratios alone
    #[arg(long, env = "ROUNDS", value_name = "N", value_parser = clap::value_parser!(u32).range(4..=10_000))]
    rounds: Option<u32>,
    /// The folder that gets results.json, results.md and results.svg
    #[arg(long, env = "RESULTS", value_name = "FOLDER", default_value = "target/bench")]
    results: PathBuf,
}

/// What all measurements need.
pub struct Run {
    envoy: PathBuf,
    seed: u64,
    cores: Cores,
    keys: Rc<Keys>,
    service: Service,
}

impl Run {
    /// The command that starts Envoy.
    pub fn envoy(&self) -> Command {
        Command::new(&self.envoy)
    }

    /// The configuration of an Envoy with those variants and so many workers.
    fn setup(&self, variants: BTreeSet<String>, workers: u32) -> Setup<'_> {
        Setup { variants, telling: false, service: self.service.address, keys: &self.keys, workers }
    }
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
    let cores = Cores::of_this_process()?;
    // The service has the core of the load.
    cpu::pin(cores.second)?;
    let service = Service::start()?;
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..=u64::from(u32::MAX)));
    let run = Run { envoy: arguments.envoy, seed, cores, keys, service };

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let work = async {
            match &arguments.what {
                What::Measure(measure) => measure.run(&run).await,
                What::Instructions(guard) => guard.run(&run).await,
            }
        };
        tokio::select! {
            outcome = work => outcome,
            // Then Envoy, too, is ended before this is.
            stopped = stopped() => Err(stopped),
        }
    })
}

impl Measure {
    async fn run(&self, run: &Run) -> Outcome<()> {
        let mut ratios = benches::all(&run.keys);
        let (mut latency, mut footprint) = (true, true);
        if let Some(only) = &self.only {
            let names: Vec<&str> =
                ratios.iter().map(|bench| bench.name).chain([latency::NAME, footprint::NAME]).collect();
            if !names.contains(&only.as_str()) {
                return Err(format!("there is no bench {only}; there are {}, rooms", names.join(", ")).into());
            }
            ratios.retain(|bench| bench.name == only);
            (latency, footprint) = (only == latency::NAME, only == footprint::NAME);
        }
        // Whoever wants more rounds of all wants better ratios, not hours of starts.
        let alone = self.only.as_ref().and(self.rounds);
        let mut results = Results { seed: run.seed, ..Results::default() };
        if !ratios.is_empty() {
            let rounds = self.rounds.unwrap_or(100);
            results.rounds = rounds;
            results.rows = ratios::run(run, &ratios, rounds).await?;
        }
        if latency {
            results.latency = Some(latency::run(run, alone.unwrap_or(16)).await?);
        }
        if footprint {
            results.footprint = Some(footprint::run(run, alone.unwrap_or(5)).await?);
        }
        println!("\n{}", results.table());
        write(&self.results, "results.json", &results.json())?;
        write(&self.results, "results.md", &results.manual())?;
        if !results.rows.is_empty() {
            write(&self.results, "results.svg", &picture::draw(&results.rows))?;
        }
        Ok(())
    }
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
