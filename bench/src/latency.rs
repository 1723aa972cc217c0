//! Latency at 70 % of what saturates, with two workers: the filter by subdomain, the Lua script that does the same, and no filter.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::benches::{ACTIVE, BASELINE, active, by_host};
use crate::envoy::Envoy;
use crate::open_loop::Load;
use crate::statistics::{Sample, quantiles};
use crate::{Outcome, Run, answers};

/// What `make bench BENCH=` calls it.
pub const NAME: &str = "latency";
/// The variants, and what the table calls them.
const VARIANTS: [(&str, &str); 3] = [
    (BASELINE, "no filter"),
    ("subdomain.lua", "Lua, by subdomain"),
    ("subdomain.tenancy", "the filter, by subdomain"),
];
/// The places of the peer and of the filter among them.
const PEER: usize = 1;
const OURS: usize = 2;
const WORKERS: u32 = 2;
/// The share of what saturates the slower of filter and peer that all are offered.
const SHARE: f64 = 0.7;
/// The shares of requests that are faster than the latency that is told.
const QUANTILES: [(f64, &str); 3] = [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")];
/// How often saturation is looked for.
const SATURATIONS: usize = 3;
/// How long a variant's turn is, and the first one, which counts for nothing.
const TURN: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_secs(1);

/// What was measured.
pub struct Latencies {
    rounds: u32,
    /// Requests a second that were offered to each.
    offered: f64,
    rows: Vec<Row>,
    /// Whether the load had cores that Envoy's workers didn't need.
    apart: bool,
}

struct Row {
    title: &'static str,
    /// Requests a second.
    saturation: Sample,
    /// Microseconds, by quantile.
    latencies: Vec<Sample>,
}

pub async fn run(run: &Run, rounds: u32) -> Outcome<Latencies> {
    run.cores.unpin()?;
    let setup = run.setup(VARIANTS.iter().map(|(variant, _)| (*variant).to_owned()).collect(), WORKERS);
    let envoy = Envoy::start(run.envoy(), &setup).await?;
    let spare = run.cores.count().saturating_sub(WORKERS);
    let requests: Arc<[_]> = (0..ACTIVE.len()).map(|number| by_host(active(number))).collect();
    let mut loads = Vec::new();
    for (variant, _) in VARIANTS {
        let to = envoy.listener(variant)?;
        for request in requests.iter() {
            answers::ready(to, request, 200).await?;
        }
        loads.push(Load { threads: spare.clamp(1, 4), to, requests: Arc::clone(&requests) });
    }
    let measured = measure(&loads, rounds, run.seed).await.map_err(|fault| envoy.with_log(&*fault))?;
    Ok(Latencies { apart: spare > 0, ..measured })
}

async fn measure(loads: &[Load], rounds: u32, seed: u64) -> Outcome<Latencies> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut turns: Vec<usize> = (0..loads.len()).collect();
    let mut saturations = vec![Vec::new(); loads.len()];
    for _ in 0..SATURATIONS {
        for ((_, title), (load, saturations)) in VARIANTS.iter().zip(loads.iter().zip(&mut saturations)) {
            saturations.push(load.saturation().await.map_err(|fault| format!("{title}: {fault}"))?);
        }
    }
    let saturations: Vec<Sample> = saturations.iter().map(|rates| Sample::of(rates)).collect();
    let compared = [PEER, OURS].into_iter().filter_map(|side| saturations.get(side));
    let offered = SHARE * compared.map(|sample| sample.median).fold(f64::INFINITY, f64::min);
    println!("{NAME}: {rounds} rounds, {offered:.0} requests a second");

    // By variant and quantile.
    let mut latencies = vec![vec![Vec::new(); QUANTILES.len()]; loads.len()];
    for round in 0..=rounds {
        random.shuffle(&mut turns);
        for &turn in &turns {
            let missing = "a turn is of a variant that isn't there";
            let load = loads.get(turn).ok_or(missing)?;
            let length = if round == 0 { WARM_UP } else { TURN };
            let measured = load.latencies(offered, length).await?;
            if round > 0 {
                let found = quantiles(&measured, QUANTILES.map(|(share, _)| share));
                for (all, one) in latencies.get_mut(turn).ok_or(missing)?.iter_mut().zip(found) {
                    all.push(one);
                }
            }
        }
    }
    let rows = VARIANTS.iter().zip(saturations).zip(latencies).map(|(((_, title), saturation), latencies)| Row {
        title,
        saturation,
        latencies: latencies.iter().map(|rounds| Sample::of(rounds)).collect(),
    });
    Ok(Latencies { rounds, offered, rows: rows.collect(), apart: false })
}

impl Latencies {
    /// For people.
    pub fn markdown(&self) -> String {
        let mut text =
            format!("Latency at {:.0} requests a second, {:.0} % of saturation\n\n", self.offered, SHARE * 100.0);
        text.push_str("| variant | p50, µs (quartiles) | p99, µs (quartiles) | p99.9, µs (quartiles) | saturation, requests a second |\n");
        text.push_str("|---|---|---|---|---|\n");
        for row in &self.rows {
            let latencies: Vec<String> = row.latencies.iter().map(|sample| sample.shown(0)).collect();
            text.push_str(&format!("| {} | {} | {:.0} |\n", row.title, latencies.join(" | "), row.saturation.median));
        }
        let cores = match self.apart {
            true => "load and workers have cores of their own",
            false => "load and workers share the cores, so saturation is that of both together",
        };
        text.push_str(&format!("\nTwo workers, {} rounds; {cores}.", self.rounds));
        if let Some((ratio, error)) = self.p99_to_peer() {
            text.push_str(&format!(" p99 of the filter to that of Lua: {ratio:.2} ± {error:.2}."));
        }
        text.push('\n');
        text
    }

    fn p99_to_peer(&self) -> Option<(f64, f64)> {
        let place = QUANTILES.iter().position(|(_, name)| *name == "p99")?;
        let of = |side: usize| self.rows.get(side)?.latencies.get(place);
        Some(of(OURS)?.ratio(of(PEER)?))
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            let latencies: serde_json::Map<String, Value> = QUANTILES
                .iter()
                .zip(&row.latencies)
                .map(|((_, name), sample)| ((*name).to_owned(), sample.json()))
                .collect();
            json!({"variant": row.title, "microseconds": latencies, "saturationPerSecond": row.saturation.json()})
        };
        let ratio = self.p99_to_peer().map(|(value, error)| json!({"value": value, "standardError": error}));
        json!({
            "rounds": self.rounds, "workers": WORKERS, "offeredPerSecond": self.offered, "shareOfSaturation": SHARE,
            "loadHasCoresOfItsOwn": self.apart, "variants": self.rows.iter().map(row).collect::<Vec<Value>>(),
            "p99FilterToLua": ratio,
        })
    }
}
