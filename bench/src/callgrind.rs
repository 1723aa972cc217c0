//! Envoy under valgrind's callgrind, which counts the instructions of each thread.
//!
//! It starts without counting, ten times as fast. What it has counted it is asked for by `vgdb`, which comes with it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::timeout;

use crate::Outcome;
use crate::envoy::scratch;

/// How long callgrind may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a callgrind and those that ask it meet. What it leaves behind is removed when this is dropped.
pub struct Callgrind {
    folder: PathBuf,
}

impl Callgrind {
    pub fn new() -> Outcome<Self> {
        let callgrind = Self { folder: scratch("callgrind") };
        std::fs::create_dir_all(&callgrind.folder)?;
        Ok(callgrind)
    }

    /// The command that runs a program under callgrind, with what arguments follow.
    pub fn running(&self, program: &std::path::Path) -> Command {
        let mut valgrind = Command::new("valgrind");
        valgrind
            .args(["--quiet", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes"])
            .arg(self.option("--callgrind-out-file=", "out"))
            .arg(self.meeting_place())
            .arg(program);
        valgrind
    }

    /// Begins to count.
    pub async fn count(&self, process: u32) -> Outcome<()> {
        self.ask(process, &["instrumentation", "on"]).await.map(drop)
    }

    /// How many instructions each thread has run since.
    pub async fn counted(&self, process: u32) -> Outcome<Vec<u64>> {
        let status = self.ask(process, &["status", "internal"]).await?;
        let counted = by_thread(&status);
        if counted.is_empty() { Err(format!("callgrind tells no events: {status}").into()) } else { Ok(counted) }
    }

    async fn ask(&self, process: u32, words: &[&str]) -> Outcome<String> {
        let vgdb = tokio::process::Command::new("vgdb")
            .arg(self.meeting_place())
            .arg(format!("--pid={process}"))
            .args(words)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output =
            timeout(PATIENCE, vgdb).await.map_err(|_| format!("callgrind says nothing for {PATIENCE:?}"))??;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("vgdb failed: {}", String::from_utf8_lossy(&output.stderr)).into())
        }
    }

    fn meeting_place(&self) -> OsString {
        self.option("--vgdb-prefix=", "vgdb")
    }

    fn option(&self, name: &str, file: &str) -> OsString {
        let mut option = OsString::from(name);
        option.push(self.folder.join(file));
        option
    }
}

impl Drop for Callgrind {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The figures of a status, which has a line `events-THREAD: COUNT` for each thread, and below it others for its stack.
fn by_thread(status: &str) -> Vec<u64> {
    let count = |line: &str| {
        let (thread, count) = line.strip_prefix("events-")?.split_once(": ")?;
        thread.parse::<u32>().ok()?;
        count.trim().parse().ok()
    };
    status.lines().filter_map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::by_thread;

    #[test]
    fn a_status_has_a_figure_for_each_thread() {
        let status =
            "distinct-calls: 2\nevents: Ir\nthreads: 1 2\nevents-1: 5767\nframes-1: 2\nevents-1-0: 584\nevents-2: 26\n";
        assert_eq!(by_thread(status), [5767, 26]);
        assert_eq!(by_thread("events: Ir\n"), [0; 0]);
    }
}
