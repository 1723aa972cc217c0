//! The places where usage and leases are kept, so that a test can be run in each.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::Tenancyd;

/// Starts a server with these arguments whose counts are somewhere.
pub type Start = fn(&[&str]) -> Kept;

/// A running server, and what it needs.
pub struct Kept {
    server: Tenancyd,
    _redis: Option<Redis>,
    _folder: Option<TempDir>,
}

impl Deref for Kept {
    type Target = Tenancyd;
    fn deref(&self) -> &Tenancyd {
        &self.server
    }
}

impl DerefMut for Kept {
    fn deref_mut(&mut self) -> &mut Tenancyd {
        &mut self.server
    }
}

pub fn in_memory(arguments: &[&str]) -> Kept {
    let server = Tenancyd::start(&[&["--database", ":memory:"], arguments].concat());
    Kept { server, _redis: None, _folder: None }
}

pub fn in_a_file(arguments: &[&str]) -> Kept {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.db");
    let server = Tenancyd::start(&[&["--database", file.to_str().unwrap()], arguments].concat());
    Kept { server, _redis: None, _folder: Some(folder) }
}

pub fn in_redis(arguments: &[&str]) -> Kept {
    let redis = Redis::start();
    let server = Tenancyd::start(&[&["--database", ":memory:", "--redis", &redis.url], arguments].concat());
    Kept { server, _redis: Some(redis), _folder: None }
}

/// The named functions as tests, in each of the places.
macro_rules! in_every_keeper {
    ($($test:ident),* $(,)?) => {
        mod in_memory { $(#[test] fn $test() { super::$test($crate::keepers::in_memory); })* }
        mod in_a_file { $(#[test] fn $test() { super::$test($crate::keepers::in_a_file); })* }
        mod in_redis { $(#[test] fn $test() { super::$test($crate::keepers::in_redis); })* }
    };
}
pub(crate) use in_every_keeper;

/// A Redis that keeps what it has. It is killed when it is dropped.
pub struct Redis {
    process: Child,
    folder: TempDir,
    port: u16,
    /// Where it is.
    pub url: String,
}

impl Redis {
    /// One behind a socket in a folder of its own.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("unix://{}", folder.path().join("socket").to_str().unwrap());
        let mut started = Self { process: spawn(folder.path(), 0), folder, port: 0, url };
        started.wait();
        started
    }

    /// One behind a port.
    pub fn on_a_port() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("redis://127.0.0.1:{free}/0");
        let mut started = Self { process: spawn(folder.path(), free), folder, port: free, url };
        started.wait();
        started
    }

    /// A connection of one's own.
    pub fn connect(&self) -> redis::Connection {
        redis::Client::open(self.url.as_str()).unwrap().get_connection().unwrap()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        // It would be taken for that of the next one.
        let _ = std::fs::remove_file(self.folder.path().join("socket"));
    }

    /// Starts it again, with what it had.
    pub fn again(&mut self) {
        self.process = spawn(self.folder.path(), self.port);
        self.wait();
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn wait(&mut self) {
        let socket = self.folder.path().join("socket");
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(self.process.try_wait().unwrap().is_none() && Instant::now() < deadline, "no Redis came up");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &Path, port: u16) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--bind", "127.0.0.1"]);
    command.args(["--port", &port.to_string()]).arg("--unixsocket").arg(folder.join("socket"));
    command.arg("--dir").arg(folder).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("redis-server, of Debian's package of that name, is needed: {error}"))
}
