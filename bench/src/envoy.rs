//! The Envoy that is measured.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::bootstrap::Setup;

/// How long Envoy may take to start: it compiles the filter twice for every variant.
const START: Duration = Duration::from_secs(120);
/// How often a start is looked at. It is the precision of its time, too.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A running Envoy. It is ended when it is dropped.
pub struct Envoy {
    child: Child,
    folder: PathBuf,
    listeners: BTreeMap<String, SocketAddr>,
    /// How long it took from its start until it was live.
    pub started_in: Duration,
}

impl Envoy {
    /// Starts it; `program` is Envoy, or what runs it.
    pub async fn start(mut program: Command, setup: &Setup<'_>) -> Outcome<Self> {
        let folder = scratch("envoy");
        std::fs::create_dir_all(&folder)?;
        let (file, admin_file) = (folder.join("envoy.yaml"), folder.join("admin"));
        std::fs::write(&file, setup.yaml()?)?;
        let log = File::create(folder.join("envoy.log"))?;
        let begun = Instant::now();
        let child = program
            .arg("--concurrency")
            .arg(setup.workers.to_string())
            .args(["--use-dynamic-base-id", "--log-level", "warning", "--config-path"])
            .arg(&file)
            .arg("--admin-address-path")
            .arg(&admin_file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        // From here on it is ended, whatever comes.
        let mut envoy = Self { child, folder, listeners: BTreeMap::new(), started_in: Duration::ZERO };
        let deadline = begun + START;
        loop {
            if let Some(status) = envoy.child.try_wait()? {
                return Err(format!("Envoy ended with {status}\n{}", envoy.log()).into());
            }
            let admin = std::fs::read_to_string(&admin_file).ok().and_then(|text| text.trim().parse().ok());
            if let Some(admin) = admin
                && admin_get(admin, "/ready").contains("LIVE")
            {
                envoy.started_in = begun.elapsed();
                envoy.listeners = listeners(&admin_get(admin, "/listeners"));
                if !envoy.listeners.is_empty() {
                    return Ok(envoy);
                }
            }
            if Instant::now() > deadline {
                return Err(format!("Envoy isn't ready after {START:?}\n{}", envoy.log()).into());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where a variant listens.
    pub fn listener(&self, name: &str) -> Outcome<SocketAddr> {
        let address = self.listeners.get(name).copied();
        Ok(address.ok_or_else(|| format!("Envoy has no listener {name}"))?)
    }

    /// A fault, and what Envoy wrote.
    pub fn with_log(&self, fault: &dyn std::error::Error) -> Box<dyn std::error::Error> {
        format!("{fault}\n{}", self.log()).into()
    }

    /// The last of what Envoy wrote.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("envoy.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(20)).copied().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A folder that no other run has, under the system's own for what is temporary.
pub fn scratch(purpose: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tenancy-bench-{purpose}-{}", std::process::id()))
}

fn listeners(text: &str) -> BTreeMap<String, SocketAddr> {
    let one = |line: &str| {
        let (name, address) = line.trim().split_once("::")?;
        Some((name.to_owned(), address.parse().ok()?))
    };
    text.lines().filter_map(one).collect()
}

fn admin_get(admin: SocketAddr, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(admin) else { return String::new() };
    let mut text = Vec::new();
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").as_bytes());
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}
