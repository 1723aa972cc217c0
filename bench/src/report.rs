//! What the measurements say, for people and for programs.

use serde_json::{Value, json};

use crate::benches::{Bench, Goal};
use crate::footprint::{self, Footprint};
use crate::latency::{self, Latencies};
use crate::statistics::Sample;

/// One bench's result.
pub struct Row {
    pub name: &'static str,
    pub title: &'static str,
    pub against: &'static str,
    pub goal: Goal,
    /// Without any filter.
    pub none: Sample,
    /// The filter, above that.
    pub ours: Sample,
    /// The peer, above that.
    pub peer: Sample,
}

/// Whether a goal is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    Yes,
    No,
    /// The goal lies within two standard errors.
    Unclear,
}

impl Met {
    pub fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unclear => "unclear",
        }
    }
}

impl Row {
    pub fn new(bench: &Bench, none: Sample, ours: Sample, peer: Sample) -> Self {
        let Bench { name, title, against, goal, .. } = *bench;
        Self { name, title, against, goal, none, ours, peer }
    }

    /// What the goal is about, and its standard error.
    pub fn reached(&self) -> (f64, f64) {
        match self.goal {
            Goal::Times(_) => self.ours.ratio(&self.peer),
            Goal::More(_) => (self.ours.median - self.peer.median, self.ours.error.hypot(self.peer.error)),
        }
    }

    pub fn met(&self) -> Met {
        let (Goal::Times(goal) | Goal::More(goal)) = self.goal;
        let (value, error) = self.reached();
        if value + 2.0 * error <= goal {
            Met::Yes
        } else if value - 2.0 * error > goal {
            Met::No
        } else {
            Met::Unclear
        }
    }
}

/// The ratios in Markdown, with what they are made of.
fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| bench | what | against | filter, µs (quartiles) | peer, µs (quartiles) | ratio | goal | met |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    for row in rows {
        let costs = format!("{} | {} | {}", row.against, row.ours.shown(1), row.peer.shown(1));
        text.push_str(&format!("| `{}` | {} | {costs} | {} |\n", row.name, row.title, verdict(row)));
    }
    let none = rows.iter().map(|row| row.none.median);
    let (least, most) = none.fold((f64::INFINITY, 0.0_f64), |(least, most), one| (least.min(one), most.max(one)));
    text.push_str(&format!(
        "\nµs of Envoy's worker per request, above the same request through no filter (which takes {least:.1} to {most:.1}); ± is one standard error.\n"
    ));
    text
}

/// What holds on other machines too, in Markdown for the manual.
fn ratios(rows: &[Row]) -> String {
    let mut text = String::from("| bench | what | against | ratio | goal | met |\n|---|---|---|---|---|---|\n");
    for row in rows {
        text.push_str(&format!("| `{}` | {} | {} | {} |\n", row.name, row.title, row.against, verdict(row)));
    }
    text
}

fn verdict(row: &Row) -> String {
    let (value, error) = row.reached();
    let unit = match row.goal {
        Goal::Times(_) => "",
        Goal::More(_) => " µs more",
    };
    let (Goal::Times(goal) | Goal::More(goal)) = row.goal;
    format!("{value:.2} ± {error:.2}{unit} | ≤ {goal:.2}{unit} | {}", row.met().word())
}

/// The same for programs.
fn json(row: &Row) -> Value {
    let (value, error) = row.reached();
    let (kind, goal) = match row.goal {
        Goal::Times(goal) => ("ratio", goal),
        Goal::More(goal) => ("difference", goal),
    };
    json!({
        "bench": row.name, "title": row.title, "against": row.against,
        "microseconds": {
            "none": row.none.json(), "filterAboveNone": row.ours.json(), "peerAboveNone": row.peer.json(),
        },
        "kind": kind, "value": value, "standardError": error, "goal": goal, "met": row.met().word(),
    })
}

/// Everything that a run has measured.
#[derive(Default)]
pub struct Results {
    pub seed: u64,
    /// The rounds of the ratios.
    pub rounds: u32,
    /// The ratios.
    pub rows: Vec<Row>,
    pub latency: Option<Latencies>,
    pub footprint: Option<Footprint>,
}

impl Results {
    /// All of it in Markdown.
    pub fn table(&self) -> String {
        self.sections(table)
    }

    /// In Markdown for the manual: of the ratios what holds on other machines too.
    pub fn manual(&self) -> String {
        self.sections(ratios)
    }

    fn sections(&self, ratios: fn(&[Row]) -> String) -> String {
        let ratios = (!self.rows.is_empty()).then(|| ratios(&self.rows));
        let (latency, footprint) = (self.latency.as_ref(), self.footprint.as_ref());
        let sections = [ratios, latency.map(Latencies::markdown), footprint.map(Footprint::markdown)];
        sections.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    /// All of it for programs.
    pub fn json(&self) -> String {
        let mut all = json!({"seed": self.seed});
        let benches = self.rows.iter().map(json).collect::<Vec<Value>>();
        let ratios = (!benches.is_empty()).then(|| [("rounds", json!(self.rounds)), ("benches", json!(benches))]);
        let latency = self.latency.as_ref().map(|latency| (latency::NAME, latency.json()));
        let footprint = self.footprint.as_ref().map(|footprint| (footprint::NAME, footprint.json()));
        if let Some(all) = all.as_object_mut() {
            let sections = ratios.into_iter().flatten().chain(latency).chain(footprint);
            all.extend(sections.map(|(name, section)| (name.to_owned(), section)));
        }
        format!("{all:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::{Met, Row, table};
    use crate::benches::Goal;
    use crate::statistics::Sample;

    fn row(goal: Goal, ours: f64, peer: f64) -> Row {
        let side = |median| Sample { median, lower: median, upper: median, error: 0.1 };
        Row { name: "a", title: "b", against: "c", goal, none: side(12.0), ours: side(ours), peer: side(peer) }
    }

    #[test]
    fn a_goal_within_two_standard_errors_is_not_called_met_or_missed() {
        for (goal, ours, peer, met) in [
            (Goal::Times(0.9), 8.0, 10.0, Met::Yes),
            (Goal::Times(0.9), 8.9, 10.0, Met::Unclear),
            (Goal::Times(0.9), 9.1, 10.0, Met::Unclear),
            (Goal::Times(0.9), 9.5, 10.0, Met::No),
            (Goal::More(2.5), 12.0, 10.0, Met::Yes),
            (Goal::More(2.5), 12.4, 10.0, Met::Unclear),
            (Goal::More(2.5), 13.0, 10.0, Met::No),
        ] {
            assert_eq!(row(goal, ours, peer).met(), met, "{ours} to {peer}");
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_bench() {
        let text = table(&[row(Goal::Times(0.9), 8.0, 10.0), row(Goal::More(2.5), 3.0, 1.0)]);
        assert!(text.contains("| 8.0 (8.0–8.0) | 10.0 (10.0–10.0) | 0.80 ± 0.01 | ≤ 0.90 | yes |"), "{text}");
        assert!(text.contains("| 2.00 ± 0.14 µs more | ≤ 2.50 µs more | yes |"), "{text}");
    }
}
