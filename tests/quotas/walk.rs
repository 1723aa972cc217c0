//! Small cases, walked through in every order of steps.
//!
//! A case is what each worker is given to do. A path is one order of all their steps, each read and each write of shared data,
//! each letter and each crash; the walk goes over all paths, by beginning anew for each one. Orders that differ only in steps
//! that don't touch each other are walked once (by sleep sets): of two such steps it makes no difference which comes first.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::core::{Core, Event, Fate, Kind, Mutation, Op, Rule};
use crate::settle::{quiet, settle};
use crate::stage::{Director, Order, Stage};

/// What a case is about.
#[derive(Clone)]
pub struct Case {
    pub name: &'static str,
    pub quotas: Value,
    pub rules: Vec<Rule>,
    pub limit: u64,
    /// When it begins, in Unix seconds.
    pub epoch: i64,
    /// What comes before, in one order.
    pub before: Vec<(usize, Event)>,
    /// What each worker is given to do. One whose first is a start isn't there before.
    pub scripts: Vec<Vec<Event>>,
    /// How many workers crash, at most.
    pub crashes: usize,
    /// How often time goes on by this many milliseconds.
    pub pauses: usize,
    pub pause: u64,
    /// How many units pass at the end where nobody crashes and every one is sent for in one period.
    pub passes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Resume(Op),
    Letter,
    /// The next of its script; whether that is an end.
    Next(bool),
    Crash,
    Pause,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Choice {
    slot: usize,
    what: What,
}

impl Choice {
    /// Whether it makes no difference which of two comes first.
    fn is_apart_from(&self, other: &Self, addresses: &[u32], level: bool) -> bool {
        use What::*;
        if self.slot == other.slot {
            return false;
        }
        match (&self.what, &other.what) {
            (Pause, _) | (_, Pause) | (Crash, Crash) => false,
            // What is under way of a level is judged at every step.
            (Next(true) | Crash, Resume(_)) | (Resume(_), Next(true) | Crash) if level => false,
            (Resume(Op::Post(to)), Crash) => addresses[other.slot] != to.0,
            (Crash, Resume(Op::Post(to))) => addresses[self.slot] != to.0,
            (Resume(Op::Post(one)), Resume(Op::Post(another))) => one != another,
            (Resume(Op::Read(one)), Resume(Op::Write(another)))
            | (Resume(Op::Write(one)), Resume(Op::Read(another) | Op::Write(another))) => one != another,
            _ => true,
        }
    }
}

struct Node {
    options: Vec<Choice>,
    asleep: Vec<Choice>,
    taken: usize,
    addresses: Vec<u32>,
}

/// All that was chosen on the path, and what is yet to be walked.
#[derive(Default)]
struct Tree {
    nodes: Vec<Node>,
    depth: usize,
    level: bool,
    /// Nothing is left here that another path doesn't have.
    pruned: bool,
}

impl Tree {
    fn choose(&mut self, options: Vec<Choice>, addresses: Vec<u32>) -> Option<Choice> {
        if let Some(node) = self.nodes.get(self.depth) {
            assert_eq!(node.options, options, "the same choices lead elsewhere");
        } else {
            let asleep = match self.nodes.last() {
                None => Vec::new(),
                Some(node) => {
                    let taken = &node.options[node.taken];
                    let before = node.options[..node.taken].iter().filter(|option| !node.asleep.contains(option));
                    let asleep = node.asleep.iter().chain(before);
                    asleep.filter(|one| one.is_apart_from(taken, &node.addresses, self.level)).cloned().collect()
                }
            };
            let Some(taken) = options.iter().position(|option| !asleep.contains(option)) else {
                self.pruned = true;
                return None;
            };
            self.nodes.push(Node { options, asleep, taken, addresses });
        }
        let node = &self.nodes[self.depth];
        self.depth += 1;
        Some(node.options[node.taken].clone())
    }

    /// Goes on to the next path; whether there is one.
    fn turn(&mut self) -> bool {
        self.depth = 0;
        self.pruned = false;
        while let Some(node) = self.nodes.last_mut() {
            let next = (node.taken + 1..node.options.len()).find(|next| !node.asleep.contains(&node.options[*next]));
            if let Some(next) = next {
                node.taken = next;
                return true;
            }
            self.nodes.pop();
        }
        false
    }
}

struct Walker {
    tree: Arc<Mutex<Tree>>,
    scripts: Vec<Vec<Event>>,
    at: Vec<usize>,
    crashes: usize,
    pauses: usize,
    pause: u64,
}

impl Walker {
    fn options(&self, core: &Core) -> Vec<Choice> {
        let mut options = Vec::new();
        for (slot, worker) in core.workers.iter().enumerate() {
            let mut option = |what| options.push(Choice { slot, what });
            let next = self.scripts[slot].get(self.at[slot]);
            if let Some(op) = &worker.op {
                option(What::Resume(op.clone()));
            } else {
                if !worker.letters.is_empty() {
                    option(What::Letter);
                }
                match next {
                    Some(Event::Start(_)) => option(What::Next(false)),
                    Some(event) if worker.alive => option(What::Next(matches!(event, Event::End(_)))),
                    _ => {}
                }
            }
            if self.crashes > 0 && worker.alive {
                option(What::Crash);
            }
        }
        if !options.is_empty() && self.pauses > 0 {
            options.push(Choice { slot: usize::MAX, what: What::Pause });
        }
        options
    }
}

impl Director for Walker {
    fn next(&mut self, core: &mut Core) -> Order {
        // An event's beginning, up to its first step that others can notice, is nobody else's business.
        if let Some(slot) = core.workers.iter().position(|worker| worker.event.is_some() || worker.crashes) {
            return Order::Run(slot);
        }
        loop {
            let options = self.options(core);
            if core.violation.is_some() || options.is_empty() {
                return Order::Done;
            }
            let addresses = core.workers.iter().map(|worker| worker.address).collect();
            let choice = self.tree.lock().expect("a tree").choose(options, addresses);
            let Some(Choice { slot, what }) = choice else { return Order::Done };
            match what {
                What::Resume(_) => {}
                What::Letter => {
                    let letter = core.workers[slot].letters.pop_front().expect("a letter");
                    core.give(slot, Event::Letter(letter));
                }
                What::Next(_) => {
                    let event = self.scripts[slot][self.at[slot]].clone();
                    self.at[slot] += 1;
                    match event {
                        Event::Start(config) => core.hire(slot, core.workers[slot].proxy, config),
                        // Its request has been lost with an earlier worker, or has been refused.
                        Event::End(id) if core.requests[&id].fate != Fate::Passed => continue,
                        event => core.give(slot, event),
                    }
                }
                What::Crash => {
                    self.crashes -= 1;
                    core.calm = false;
                    core.workers[slot].crashes = true;
                }
                What::Pause => {
                    self.pauses -= 1;
                    core.time += self.pause;
                    continue;
                }
            }
            return Order::Run(slot);
        }
    }
}

/// What a walk has seen.
#[derive(Debug, Default)]
pub struct Walked {
    pub paths: u64,
    pub pruned: u64,
    pub longest: usize,
    pub violation: Option<String>,
}

/// Walks a case through, up to the first path on which something is wrong.
pub fn walk(case: &Case, mutation: Mutation) -> Walked {
    let stage = Stage::new(case.scripts.len());
    let config = config(&case.quotas);
    let level = case.rules.iter().any(|rule| rule.kind == Kind::Level);
    let tree = Arc::new(Mutex::new(Tree { level, ..Tree::default() }));
    let mut walked = Walked::default();
    let mut again = true;
    while again {
        run(case, &config, mutation, &stage, &tree, false);
        let (pruned, length) = {
            let tree = tree.lock().expect("a tree");
            (tree.pruned, tree.depth)
        };
        walked.longest = walked.longest.max(length);
        *(if pruned { &mut walked.pruned } else { &mut walked.paths }) += 1;
        if !pruned && stage.core(|core| core.violation.is_none()) {
            end(case, &stage);
        }
        if let Some(violation) = stage.core(|core| core.violation.take()) {
            // Once more, and this time it tells what happens.
            tree.lock().expect("a tree").depth = 0;
            run(case, &config, mutation, &stage, &tree, true);
            if stage.core(|core| core.violation.is_none()) {
                end(case, &stage);
            }
            let trace = stage.core(|core| core.trace.join("\n"));
            walked.violation = Some(format!("{}: {violation}\n{trace}", case.name));
            return walked;
        }
        again = tree.lock().expect("a tree").turn();
    }
    walked
}

fn run(case: &Case, config: &Value, mutation: Mutation, stage: &Stage, tree: &Arc<Mutex<Tree>>, traces: bool) {
    let mut core = Core::new(1, case.scripts.len(), case.epoch);
    // A worker that is called and takes a second to answer is taken for dead.
    let is_calm = case.pauses == 0 || case.pause < 1000;
    (core.rules, core.mutation, core.calm, core.traces) = (case.rules.clone(), mutation, is_calm, traces);
    for rule in &case.rules {
        core.set_limit(rule.key, case.limit);
    }
    stage.reset(core);
    for (slot, script) in case.scripts.iter().enumerate() {
        if !matches!(script.first(), Some(Event::Start(_))) {
            stage.core(|core| core.hire(slot, 0, config.clone()));
            stage.run(Box::new(crate::stage::Straight));
            // Its word that it lives is in no one's way.
            stage.give(slot, Event::Tick);
        }
    }
    for (slot, event) in &case.before {
        stage.give(*slot, event.clone());
    }
    let scripts =
        case.scripts.iter().map(|script| script.iter().map(|event| started(event, config)).collect()).collect();
    let at = vec![0; case.scripts.len()];
    let (crashes, pauses, pause) = (case.crashes, case.pauses, case.pause);
    stage.run(Box::new(Walker { tree: Arc::clone(tree), scripts, at, crashes, pauses, pause }));
}

fn started(event: &Event, config: &Value) -> Event {
    match event {
        Event::Start(_) => Event::Start(config.clone()),
        event => event.clone(),
    }
}

/// What has to be so in the end, whatever happened.
fn end(case: &Case, stage: &Stage) {
    let crashed = stage.core(|core| !core.calm);
    quiet(stage);
    let rests = stage.core(|core| {
        let waits = core.requests.values().any(|request| request.fate == Fate::Waits);
        !waits && core.rules.iter().all(|rule| rule.kind == Kind::Level || core.pool(0, rule.key).1 == 0)
    });
    if !rests {
        settle(stage, 4);
    }
    stage.core(|core| {
        let waits = core.requests.values().filter(|request| request.fate == Fate::Waits).count();
        if waits > 0 {
            core.violate(format!("{waits} still wait"));
        }
        for rule in case.rules.clone() {
            let (taken, held) = core.pool(0, rule.key);
            let passed: u64 = core.passed.values().copied().max().unwrap_or(0);
            match rule.kind {
                Kind::Level => {
                    let under_way = core.requests.values().filter(|request| request.fate == Fate::Passed).count();
                    if !crashed && taken != u64::try_from(under_way).expect("few") {
                        core.violate(format!("{taken} of a level are taken by {under_way}"));
                    }
                }
                _ if crashed => {}
                _ => {
                    if held > 0 {
                        core.violate(format!("{held} are held in the end"));
                    }
                    let passes = case.passes.unwrap_or(passed);
                    if passed != passes {
                        core.violate(format!("{passed} have passed in the end, not {passes}"));
                    }
                }
            }
        }
    });
}

/// A configuration with these quotas, and with nothing in the way.
pub fn config(quotas: &Value) -> Value {
    serde_json::json!({
        "isolation": {"resolution": "header"},
        "tenants": [{"id": "acme"}],
        "quotas": quotas,
        "rateLimitHeaders": {"style": "draft", "when": "all"},
    })
}
