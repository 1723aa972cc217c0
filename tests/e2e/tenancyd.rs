//! Real `tenancyd` and Redis processes, which a test may kill and start again where they were.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::envoy::{folder, http_get, needed, refusing};
use crate::flood::until;

/// How long one of them may take to answer.
const START: Duration = Duration::from_secs(20);
/// What proxies show for leases.
pub const PROXY_TOKEN: &str = "proxies-only-0123456789abcdef0123456789";

/// What writers show.
pub const WRITE_TOKEN: &str = "writers-only-0123456789abcdef0123456789";
/// What Envoy shows where it brings connections.
pub const CONNECTIONS_SECRET: &str = "between-us-0123456789abcdef0123456789abc";

/// A `tenancyd` with a database and a port of its own. Its process ends when it is dropped.
pub struct Tenancyd {
    pub addr: SocketAddr,
    /// Where it takes WebSocket connections, if it does.
    pub connections: Option<SocketAddr>,
    folder: PathBuf,
    redis: Option<SocketAddr>,
    process: Option<Child>,
}

/// A Redis that writes everything before it answers.
pub struct Redis {
    pub addr: SocketAddr,
    folder: PathBuf,
    process: Option<Child>,
}

impl Tenancyd {
    /// One that knows these tenants, by their ids, and counts in its database, or in that Redis.
    pub fn start(tenants: &[&str], redis: Option<SocketAddr>) -> Self {
        Self::start_with(tenants, redis, None)
    }

    /// One that takes writes, and WebSocket connections.
    pub fn start_with_connections(tenants: &[&str]) -> Self {
        Self::start_with(tenants, None, Some(refusing()))
    }

    fn start_with(tenants: &[&str], redis: Option<SocketAddr>, connections: Option<SocketAddr>) -> Self {
        let folder = folder();
        let tenants: Vec<Value> = tenants.iter().map(|id| json!({"id": id})).collect();
        let seed = json!({"tenants": tenants, "domains": {}}).to_string();
        std::fs::write(folder.join("seed.json"), seed).expect("the seed is written");
        let mut tenancyd = Self { addr: refusing(), connections, folder, redis, process: None };
        tenancyd.again();
        tenancyd
    }

    /// Kills the process, so that it ends without a word.
    pub fn kill(&mut self) {
        kill(&mut self.process);
    }

    /// Starts it again where it was, with what it had.
    pub fn again(&mut self) {
        let mut command = Command::new(needed("TENANCYD_BIN"));
        command.args(["--listen", &self.addr.to_string(), "--lease-seconds", "1", "--log", "warn"]);
        command.arg("--database").arg(self.folder.join("tenancyd.db"));
        command.arg("--seed").arg(self.folder.join("seed.json"));
        command.env("TENANCYD_PROXY_TOKEN", PROXY_TOKEN).env_remove("TENANCYD_TOKEN").env_remove("TENANCYD_REDIS");
        if let Some(redis) = self.redis {
            command.env("TENANCYD_REDIS", format!("redis://{redis}/0"));
        }
        if let Some(connections) = self.connections {
            command.args(["--connections", &connections.to_string()]);
            command.env("TENANCYD_TOKEN", WRITE_TOKEN).env("TENANCYD_CONNECTIONS_SECRET", CONNECTIONS_SECRET);
        }
        self.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("tenancyd runs"));
        until(START, || http_get(self.addr, "/readyz").starts_with("HTTP/1.1 200"), || "no tenancyd".to_owned());
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// What it tells of a tenant's one quota.
    pub fn usage(&self, tenant: &str) -> Usage {
        usage(self.addr, tenant)
    }
}

/// What tenancyd tells of one count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Units used, as far as proxies have said.
    pub usage: u64,
    /// Units that lie with proxies.
    pub leased: u64,
    /// Those of them that lie with silent ones.
    pub abandoned: u64,
}

/// What the tenancyd at an address tells of a tenant's one quota; nothing of all where it doesn't answer.
pub fn usage(at: SocketAddr, tenant: &str) -> Usage {
    let answer = http_get(at, &format!("/tenants/{tenant}/usage"));
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let figure = |name: &str| value["usage"][0][name].as_u64().unwrap_or(0);
    Usage { usage: figure("usage"), leased: figure("leased"), abandoned: figure("abandoned") }
}

impl Redis {
    pub fn start() -> Self {
        let mut redis = Self { addr: refusing(), folder: folder(), process: None };
        redis.again();
        redis
    }

    pub fn kill(&mut self) {
        kill(&mut self.process);
    }

    pub fn again(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
        command.args(["--bind", &self.addr.ip().to_string(), "--port", &self.addr.port().to_string()]);
        command.arg("--dir").arg(&self.folder).stdin(Stdio::null()).stdout(Stdio::null());
        self.process = Some(
            command.spawn().unwrap_or_else(|error| panic!("redis-server, of Debian's package of that name: {error}")),
        );
        let answers = || std::net::TcpStream::connect(self.addr).is_ok();
        until(START, answers, || "no Redis".to_owned());
    }
}

impl Drop for Tenancyd {
    fn drop(&mut self) {
        clear(&mut self.process, &self.folder);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        clear(&mut self.process, &self.folder);
    }
}

fn kill(process: &mut Option<Child>) {
    if let Some(mut process) = process.take() {
        process.kill().expect("it can be killed");
        process.wait().expect("it ends");
    }
}

fn clear(process: &mut Option<Child>, folder: &Path) {
    if let Some(mut process) = process.take() {
        // It may have ended by itself.
        let _ = process.kill();
        let _ = process.wait();
    }
    let _ = std::fs::remove_dir_all(folder);
}
