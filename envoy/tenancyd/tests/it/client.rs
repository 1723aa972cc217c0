//! A running `tenancyd`, and a client of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The token of every server here that has one.
pub const TOKEN: &str = "s3cret-token";

/// The binary with these arguments, as it will be started.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenancyd"));
    command
        .args(arguments)
        .env_remove("TENANCYD_TOKEN")
        .env_remove("TENANCYD_PROXY_TOKEN")
        .env_remove("TENANCYD_REDIS")
        .env_remove("TENANCYD_CONNECTIONS_SECRET")
        .stdin(Stdio::null());
    command
}

/// What a start says that is expected to fail; one that doesn't is ended.
pub fn failed_start(command: &mut Command) -> String {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it started");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

/// A running server. It is killed when it is dropped.
pub struct Tenancyd {
    child: Child,
    /// Where it listens.
    pub address: String,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    agent: ureq::Agent,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
    /// Asserts that this is a refusal as every refusal has to be, and gives its details.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let json = self.json();
        let error = json.get("error").unwrap().as_object().unwrap();
        assert_eq!(json.as_object().unwrap().len(), 1);
        assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "details", "message"], "{self:?}");
        assert_eq!(error["code"], code, "{self:?}");
        assert!(!error["message"].as_str().unwrap().is_empty() && error["details"].is_object(), "{self:?}");
        error["details"].clone()
    }
}

impl Tenancyd {
    /// One with nothing in it, and with a token.
    pub fn empty() -> Self {
        Self::start(&["--database", ":memory:"])
    }

    /// One whose database is this file.
    pub fn on(database: &Path) -> Self {
        Self::start(&["--database", database.to_str().unwrap()])
    }

    /// One with these arguments, a free port and a token.
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(command(arguments).args(["--listen", "127.0.0.1:0"]).env("TENANCYD_TOKEN", TOKEN))
    }

    /// One that is started like this.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut all = String::new();
        let address = loop {
            let mut line = String::new();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it ended at the start: {all}");
            all.push_str(&line);
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "listening" {
                break line["address"].as_str().unwrap().to_owned();
            }
        };
        let log = Arc::new(Mutex::new(all));
        let reader = std::thread::spawn({
            let log = log.clone();
            move || {
                for line in lines.lines().map_while(Result::ok) {
                    *log.lock().unwrap() += &(line + "\n");
                }
            }
        });
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(15)))
            .build();
        Self { child, address, log, reader: Some(reader), agent: config.into() }
    }

    /// A request without a token.
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None, &[])
    }

    /// A request with the token.
    pub fn put(&self, path: &str, body: &str) -> Answer {
        self.call("PUT", path, Some(body), &[("authorization", &format!("Bearer {TOKEN}"))])
    }

    /// A request with the token.
    pub fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None, &[("authorization", &format!("Bearer {TOKEN}"))])
    }

    /// A request with the token.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.call("POST", path, Some(body), &[("authorization", &format!("Bearer {TOKEN}"))])
    }

    /// A request.
    pub fn call(&self, method: &str, path: &str, body: Option<&str>, headers: &[(&str, &str)]) -> Answer {
        self.try_call(method, path, body, headers).unwrap()
    }

    /// A request to a server that may be ended meanwhile.
    pub fn try_get(&self, path: &str) -> Option<Answer> {
        self.try_call("GET", path, None, &[]).ok()
    }

    /// A request to a server that may be ended meanwhile.
    pub fn try_post(&self, path: &str, body: &str) -> Option<Answer> {
        self.try_call("POST", path, Some(body), &[]).ok()
    }

    fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = match body {
            Some(body) => self.agent.run(request.body(body).unwrap()),
            None => self.agent.run(request.body(()).unwrap()),
        }?;
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.body_mut().read_to_string()?,
        })
    }

    /// A connection for bytes that no client would send. It gives up before the test does.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream
    }

    /// What comes back for these bytes until the server closes.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Where clients connect.
    pub fn door(&self) -> String {
        self.logged("listening for connections")["address"].as_str().unwrap().to_owned()
    }

    /// Waits until the metrics say this.
    #[track_caller]
    pub fn counted(&self, line: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let text = self.get("/metrics").text;
            if text.lines().any(|found| found == line) {
                return;
            }
            assert!(Instant::now() < deadline, "no {line} in {text}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The first line with this message, once it is there.
    pub fn logged(&self, message: &str) -> Value {
        self.logged_with("message", message)
    }

    /// The first line with this value of this field, once it is there.
    pub fn logged_with(&self, field: &str, value: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let log = self.log();
            let mut lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            if let Some(line) = lines.find(|line| line[field] == value) {
                return line;
            }
            assert!(Instant::now() < deadline, "no {field} {value:?} in {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end.
    pub fn ended(mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Tenancyd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
