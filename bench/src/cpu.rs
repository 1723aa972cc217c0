//! Which core a thread runs on, and how long threads have computed.

use std::path::PathBuf;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Outcome;

/// The cores that this process may use.
pub struct Cores {
    all: CpuSet,
    pub first: usize,
    /// Another one, or where there is only one, the same.
    pub second: usize,
}

impl Cores {
    pub fn of_this_process() -> Outcome<Self> {
        let all = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
        let first = cores.next().ok_or("this process may use no core")?;
        Ok(Self { all, first, second: cores.next().unwrap_or(first) })
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.all.count()
    }

    /// Lets this thread, and all that it starts from now on, run on any of them again.
    pub fn unpin(&self) -> Outcome<()> {
        Ok(sched_setaffinity(None, &self.all)?)
    }
}

/// Keeps this thread, and all that it starts from now on, on one core.
pub fn pin(core: usize) -> Outcome<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// The worker threads of an Envoy.
pub struct Workers(Vec<PathBuf>);

impl Workers {
    /// Finds them by the names that Envoy gives its threads.
    pub fn of(process: u32) -> Outcome<Self> {
        let mut workers = Vec::new();
        for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
            let task = task?.path();
            if std::fs::read_to_string(task.join("comm"))?.starts_with("wrk:worker_") {
                workers.push(task.join("schedstat"));
            }
        }
        if workers.is_empty() { Err("Envoy has no thread called wrk:worker_0".into()) } else { Ok(Self(workers)) }
    }

    /// How long they have computed, once they have come to rest: a request ends for its client before Envoy has cleaned up after it, and
    /// the kernel counts a running thread's time only now and then, but a sleeping one's to the nanosecond.
    pub async fn settled(&self) -> Outcome<Duration> {
        let mut before = self.computed()?;
        // An idle worker wakes now and then by itself; it need not be still for ever.
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let now = self.computed()?;
            if now == before {
                break;
            }
            before = now;
        }
        Ok(before)
    }

    fn computed(&self) -> Outcome<Duration> {
        let mut sum = 0;
        for path in &self.0 {
            let text = std::fs::read_to_string(path)?;
            let first = text.split_whitespace().next().ok_or("the kernel keeps no schedstat")?;
            sum += first.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(sum))
    }
}
