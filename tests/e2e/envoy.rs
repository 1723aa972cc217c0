//! Real Envoy with two workers, for one test.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use upstream::Upstream;

use crate::bootstrap::{Bootstrap, structure};
use crate::curl::{self, Response};
use crate::scenarios::world::{Arrived, Asked, Directory, Outcome, Reply, Request, World};
use crate::scripted::Scripted;

/// How long Envoy may take to start: it compiles the filter three times, on a machine that may be busy.
const START: Duration = Duration::from_secs(60);

pub struct EnvoyWorld {
    pub envoy: Envoy,
    pub service: Upstream,
    directory: Scripted,
}

/// A running Envoy. It is ended when it is dropped.
pub struct Envoy {
    child: Child,
    folder: PathBuf,
    pub listener: SocketAddr,
    admin: SocketAddr,
}

/// A file that the test needs, by the environment variable that `make` sets.
pub fn needed(variable: &str) -> String {
    let path = std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests with make e2e or make test"));
    assert!(Path::new(&path).is_file(), "{variable}: {path} is not a file");
    path
}

/// A folder of this test's own.
pub fn folder() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("tenancy-e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
    folder
}

/// An address where nobody listens: the port was free a moment ago, and is far from those given out next.
pub fn refusing() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.9:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

impl World for EnvoyWorld {
    fn start(config: Value, directory: Directory) -> Self {
        Self::start_with(structure(&config), directory)
    }

    fn send_all(&mut self, requests: &[Request]) -> Vec<Outcome> {
        let sent: Vec<_> = requests.iter().map(|request| curl::send(request, self.envoy.listener)).collect();
        sent.into_iter().zip(requests).map(|(sent, request)| outcome(request, sent.response())).collect()
    }

    fn asked(&mut self) -> Vec<Asked> {
        self.directory.asked()
    }

    fn script(&mut self, path: &str, reply: Reply) {
        self.directory.script(path, reply);
    }

    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}

impl EnvoyWorld {
    /// Starts it with the plugin's `configuration` as it is.
    pub fn start_with(configuration: Value, directory: Directory) -> Self {
        Self::start_changed(configuration, directory, |_| {})
    }

    /// The same, with a change to Envoy's own configuration.
    pub fn start_changed(configuration: Value, directory: Directory, change: impl FnOnce(&mut Value)) -> Self {
        let service = Upstream::start("service").expect("the service starts");
        let directory = Scripted::start(directory);
        let bootstrap = Bootstrap {
            wasm: &needed("TENANCY_WASM"),
            configuration,
            service: service.addr,
            directory: directory.service.addr,
            refusing: refusing(),
        };
        let mut bootstrap = bootstrap.json();
        change(&mut bootstrap);
        Self { envoy: Envoy::start(&bootstrap), service, directory }
    }

    /// The directory takes no connections any more.
    pub fn stop_directory(&mut self) {
        self.directory.service.stop();
    }

    /// How many requests the service received.
    pub fn received(&self) -> usize {
        self.service.received()
    }
}

impl Envoy {
    pub fn start(bootstrap: &Value) -> Self {
        Self::start_text(&bootstrap.to_string())
    }

    /// Starts with a configuration as YAML or JSON. Its listener is called `edge`, and it has an admin address.
    pub fn start_text(bootstrap: &str) -> Self {
        Self::start_command(bootstrap, Command::new(needed("ENVOY_BIN")))
    }

    /// Starts with so many KiB of address space, and no more.
    pub fn start_within(bootstrap: &Value, kibibytes: u64) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -v "$0" && exec "$@""#, &kibibytes.to_string(), &needed("ENVOY_BIN")]);
        Self::start_command(&bootstrap.to_string(), command)
    }

    /// Starts with so many seconds in which a listener that was replaced drains.
    pub fn start_draining(bootstrap: &Value, seconds: u32) -> Self {
        let mut command = Command::new(needed("ENVOY_BIN"));
        command.args(["--drain-time-s", &seconds.to_string()]);
        Self::start_command(&bootstrap.to_string(), command)
    }

    fn start_command(bootstrap: &str, mut command: Command) -> Self {
        let folder = folder();
        let (config, log, admin_file) = (folder.join("envoy.yaml"), folder.join("envoy.log"), folder.join("admin"));
        std::fs::write(&config, bootstrap).expect("the configuration is written");
        let log_file = File::create(&log).expect("the log is written");
        let mut child = command
            .args(["--concurrency", "2", "--use-dynamic-base-id", "--log-level", "warning", "--config-path"])
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin_file)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().expect("the log is shared"))
            .stderr(log_file)
            .spawn()
            .expect("Envoy runs");
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = child.try_wait().expect("Envoy can be waited for") {
                panic!("Envoy ended with {status}: {}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            let admin = std::fs::read_to_string(&admin_file).ok().and_then(|text| text.trim().parse().ok());
            if let Some(admin) = admin
                && http_get(admin, "/ready").contains("LIVE")
                && let Some(listener) = listener(admin)
            {
                return Self { child, folder, listener, admin };
            }
            assert!(
                Instant::now() < deadline,
                "Envoy isn't ready: {}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most address space that it has had, in KiB.
    pub fn address_space(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("Envoy runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("Linux tells it");
        peak.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// What Envoy wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("envoy.log")).unwrap_or_default()
    }

    /// All of Envoy's metrics.
    pub fn stats(&self) -> String {
        http_get(self.admin, "/stats")
    }

    /// A counter or gauge of Envoy's, by its full name; 0 where it isn't there.
    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.stats();
        let value = stats.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("Envoy's log: {}", self.log());
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn listener(admin: SocketAddr) -> Option<SocketAddr> {
    let listeners = http_get(admin, "/listeners");
    let line = listeners.lines().find_map(|line| line.trim().strip_prefix("edge::"))?;
    line.trim().parse().ok()
}

/// The whole answer to a GET, or nothing where nobody answers.
pub fn http_get(to: SocketAddr, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(to) else { return String::new() };
    let mut text = Vec::new();
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes());
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn outcome(request: &Request, response: Response) -> Outcome {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let value = |name: &str| response.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    let details = value("x-details");
    let mut log = BTreeMap::new();
    for field in ["id", "slug", "plan", "decision"] {
        // Envoy writes a field that isn't there as a dash.
        log.extend(
            value(&format!("x-log-{field}")).filter(|value| value != "-").map(|value| (field.to_owned(), value)),
        );
    }
    let arrived = match (&details, response.status) {
        (Some(_), _) => None,
        // An upgrade is answered with its own first message: a frame with the JSON of what arrived.
        (None, 101) => Some(arrived(request, frame(&response.body))),
        (None, 200) if request.method != "HEAD" => Some(arrived(request, &response.body)),
        (None, _) => None,
    };
    Outcome { status: response.status, body: text(&response.body), headers: response.headers, details, arrived, log }
}

/// The payload of an unmasked frame.
fn frame(bytes: &[u8]) -> &[u8] {
    match bytes {
        [_, 126, high, low, rest @ ..] => &rest[..usize::from(u16::from_be_bytes([*high, *low]))],
        [_, length, rest @ ..] => &rest[..usize::from(*length)],
        _ => panic!("the service sent no message: {bytes:?}"),
    }
}

fn arrived(request: &Request, body: &[u8]) -> Arrived {
    let echo: Value = serde_json::from_slice(body)
        .unwrap_or_else(|error| panic!("{request:?}: {error}: {}", String::from_utf8_lossy(body)));
    let mut headers = Vec::new();
    for (name, values) in echo["headers"].as_object().expect("the service lists headers") {
        for value in values.as_array().expect("each with its values") {
            headers.push((name.clone(), value.as_str().expect("as text").to_owned()));
        }
    }
    Arrived {
        target: echo["path"].as_str().expect("the service tells the path").to_owned(),
        headers,
        body_bytes: usize::try_from(echo["bodyBytes"].as_u64().expect("and the body's size")).expect("which is small"),
    }
}
