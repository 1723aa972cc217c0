//! How a world comes to rest: all that is under way arrives, and time goes on.

use crate::core::{Core, Event};
use crate::stage::{Stage, Straight};

/// Lets so many seconds pass, each with its ticks, with everything delivered at once.
pub fn settle(stage: &Stage, seconds: u64) {
    quiet(stage);
    for _ in 0..seconds {
        stage.core(|core| core.time += 1000);
        let slots = stage.core(|core| core.workers.len());
        for slot in 0..slots {
            if stage.core(|core| core.workers[slot].alive) {
                stage.give(slot, Event::Tick);
            }
        }
        quiet(stage);
    }
    stage.core(Core::judge_waits);
}

/// Delivers all that is under way.
pub fn quiet(stage: &Stage) {
    stage.run(Box::new(Straight));
    while deliver(stage) {
        stage.run(Box::new(Straight));
    }
}

/// Delivers something, if there is anything under way.
fn deliver(stage: &Stage) -> bool {
    stage.core(|core| {
        if core.violation.is_some() {
            return false;
        }
        if let Some(slot) = core.workers.iter().position(|worker| worker.alive && !worker.letters.is_empty()) {
            let letter = core.workers[slot].letters.pop_front().expect("a letter");
            core.give(slot, Event::Letter(letter));
            return true;
        }
        if core.calls.is_empty() {
            return false;
        }
        core.hear(0);
        let answer = core.calls[0].answer.take().expect("an answer");
        if let Some((slot, event)) = core.take_answer(0, answer) {
            core.give(slot, event);
        }
        true
    })
}
