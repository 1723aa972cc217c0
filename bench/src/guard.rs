//! The instructions of a request, held against the figures of a file that is committed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use serde_json::{Value, json};

use crate::instructions::{self, Instructions};
use crate::{Outcome, Run};

/// By how much a figure may differ from the file's.
const TOLERANCE: f64 = 0.05;

#[derive(Args)]
pub struct Guard {
    /// The committed figures
    #[arg(long, value_name = "FILE", default_value = "bench/instructions.json")]
    figures: PathBuf,
    /// The compiler that has built the filter, as it calls itself
    #[arg(long, value_name = "VERSION")]
    compiler: String,
    /// Writes what is counted into the file, instead of holding it against it
    #[arg(long)]
    accept: bool,
}

/// What decides how many instructions something takes, beside the filter's source. Figures of other tools can't be compared.
type Tools = BTreeMap<String, String>;

struct Figures {
    tools: Tools,
    instructions: Instructions,
}

impl Guard {
    pub async fn run(&self, run: &Run) -> Outcome<()> {
        let tools = self.tools(run)?;
        // A file that can't be read is told of at once.
        let accepted = if self.accept { None } else { Some(Figures::read(&self.figures)?) };
        let counted = Figures { tools, instructions: instructions::count(run).await? };
        let Some(accepted) = accepted else {
            std::fs::write(&self.figures, counted.json())?;
            println!("{}{} has these figures now.", table(&counted.instructions, None), self.figures.display());
            return Ok(());
        };
        println!("{}", table(&counted.instructions, Some(&accepted.instructions)));
        let other = differences(&counted.tools, &accepted.tools);
        if !other.is_empty() {
            println!(
                "The figures of the file are of other tools, so nothing is held against them:\n{}",
                other.join("\n")
            );
            return Ok(());
        }
        let faults = faults(&counted.instructions, &accepted.instructions);
        if faults.is_empty() {
            return Ok(());
        }
        Err(format!(
            "instructions a request are no longer those of {}:\n{}\nIf that is meant, `make instructions ACCEPT=1` writes the new figures; commit them with their reason.",
            self.figures.display(),
            faults.join("\n")
        )
        .into())
    }

    fn tools(&self, run: &Run) -> Outcome<Tools> {
        // V8 and the C library choose their code by what the processor can do; valgrind shows them no more than AVX2 of it.
        let avx2 = std::fs::read_to_string("/proc/cpuinfo")?.split_whitespace().any(|word| word == "avx2");
        let processor = format!("{}{}", std::env::consts::ARCH, if avx2 { " with AVX2" } else { "" });
        let envoy = version(run.envoy().arg("--version"))?;
        // path/to/envoy  version: COMMIT/VERSION/Clean/RELEASE/BoringSSL
        let envoy = envoy.rsplit("version: ").next().unwrap_or_default().to_owned();
        let valgrind = version(Command::new("valgrind").arg("--version"))?;
        let tools =
            [("compiler", self.compiler.clone()), ("envoy", envoy), ("valgrind", valgrind), ("processor", processor)];
        Ok(tools.map(|(tool, version)| (tool.to_owned(), version)).into())
    }
}

fn version(command: &mut Command) -> Outcome<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Figures {
    fn read(path: &PathBuf) -> Outcome<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text).ok_or_else(|| format!("{} doesn't have such figures", path.display()).into())
    }

    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let tools = value.get("tools")?.as_object()?.iter();
        let tools =
            tools.map(|(tool, version)| Some((tool.clone(), version.as_str()?.to_owned()))).collect::<Option<_>>()?;
        let instructions = value.get("instructions")?.as_object()?.iter();
        let instructions =
            instructions.map(|(name, count)| Some((name.clone(), count.as_f64()?))).collect::<Option<_>>()?;
        Some(Self { tools, instructions })
    }

    fn json(&self) -> String {
        // A hundredth of the tolerance is less than any figure is sure of.
        let whole: BTreeMap<&String, Value> = self
            .instructions
            .iter()
            .map(|(name, count)| (name, format!("{count:.0}").parse().unwrap_or_default()))
            .collect();
        format!("{:#}\n", json!({"tools": self.tools, "instructions": whole}))
    }
}

fn table(counted: &Instructions, accepted: Option<&Instructions>) -> String {
    let mut text = String::from(
        "Instructions of Envoy's worker a request, above no filter\n\n| bench | now | accepted | difference |\n|---|---|---|---|\n",
    );
    for (name, now) in counted {
        let before = accepted.and_then(|accepted| accepted.get(name));
        let (before, difference) = before.map_or_else(Default::default, |before| {
            (format!("{before:.0}"), format!("{:+.1} %", 100.0 * change(*now, *before)))
        });
        text.push_str(&format!("| `{name}` | {now:.0} | {before} | {difference} |\n"));
    }
    text
}

fn change(now: f64, before: f64) -> f64 {
    now / before - 1.0
}

fn differences(now: &Tools, then: &Tools) -> Vec<String> {
    let none = "unknown".to_owned();
    let differ =
        now.iter().map(|(tool, now)| (tool, now, then.get(tool).unwrap_or(&none))).filter(|(_, now, then)| now != then);
    differ.map(|(tool, now, then)| format!("  {tool}: {now} here, {then} there")).collect()
}

/// A gain that isn't written down could be lost again unseen, so it is a fault, too.
fn faults(counted: &Instructions, accepted: &Instructions) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, now) in counted {
        match accepted.get(name) {
            None => faults.push(format!("  {name}: {now:.0}, and the file has no figure")),
            Some(before) if change(*now, *before).abs() <= TOLERANCE => {}
            Some(before) => {
                let change = 100.0 * change(*now, *before);
                let word = if change > 0.0 { "dearer" } else { "cheaper" };
                faults.push(format!(
                    "  {name}: {now:.0} instead of {before:.0}, {:.1} % {word}, where {:.0} % are tolerated",
                    change.abs(),
                    100.0 * TOLERANCE
                ));
            }
        }
    }
    faults.extend(
        accepted
            .keys()
            .filter(|name| !counted.contains_key(*name))
            .map(|name| format!("  {name}: is no longer counted")),
    );
    faults
}

#[cfg(test)]
mod tests {
    use super::{Figures, Instructions, Tools, differences, faults};

    fn of(figures: &[(&str, f64)]) -> Instructions {
        figures.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_figure_may_differ_by_the_tolerance_and_no_more() {
        let accepted = of(&[("quota", 10_000.0)]);
        for (now, fault) in [
            (10_000.0, None),
            (10_499.0, None),
            (9_501.0, None),
            (10_510.0, Some("  quota: 10510 instead of 10000, 5.1 % dearer, where 5 % are tolerated")),
            (9_490.0, Some("  quota: 9490 instead of 10000, 5.1 % cheaper, where 5 % are tolerated")),
        ] {
            assert_eq!(faults(&of(&[("quota", now)]), &accepted).first().map(String::as_str), fault, "{now}");
        }
    }

    #[test]
    fn a_figure_that_only_one_side_has_is_a_fault() {
        assert_eq!(faults(&of(&[("new", 1.0)]), &of(&[])), ["  new: 1, and the file has no figure"]);
        assert_eq!(faults(&of(&[]), &of(&[("old", 1.0)])), ["  old: is no longer counted"]);
    }

    #[test]
    fn figures_are_of_the_tools_that_they_name() {
        let tools = |compiler: &str| Tools::from([("compiler".to_owned(), compiler.to_owned())]);
        assert_eq!(differences(&tools("1.95"), &tools("1.95")), [""; 0]);
        assert_eq!(differences(&tools("1.96"), &tools("1.95")), ["  compiler: 1.96 here, 1.95 there"]);
        assert_eq!(differences(&tools("1.96"), &Tools::new()), ["  compiler: 1.96 here, unknown there"]);
    }

    #[test]
    fn the_file_says_what_was_written() {
        let figures =
            Figures { tools: Tools::from([("valgrind".into(), "3".into())]), instructions: of(&[("a", 7.4)]) };
        let read = Figures::parse(&figures.json()).unwrap();
        assert_eq!((read.tools, read.instructions), (figures.tools, of(&[("a", 7.0)])));
        assert!(Figures::parse("{}").is_none());
    }
}
