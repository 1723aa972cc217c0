//! Requests by the curl command, as a user would send them.

use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::process::{Child, Command, Stdio};

use crate::scenarios::world::Request;

/// What curl received.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A request under way.
pub struct Sent(Child);

/// Sends a request; it is under way until [`Sent::response`].
pub fn send(request: &Request, to: SocketAddr) -> Sent {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--path-as-is", "--max-time", "15", "--output", "-"]);
    command.arg(if request.http2 { "--http2-prior-knowledge" } else { "--http1.1" });
    match request.method {
        "HEAD" => drop(command.arg("--head")),
        method => drop(command.args(["--request", method])),
    }
    let header = |name: &[u8], value: &[u8]| {
        // A semicolon is how curl is told that an empty header is meant.
        let separator: &[u8] = if value.is_empty() { b";" } else { b": " };
        OsString::from_vec([name, separator, value].concat())
    };
    command.arg("--header").arg(header(b"Host", &request.authority));
    command.args(["--header", "User-Agent:", "--header", "Accept:", "--header", "Expect:"]);
    if !request.headers.iter().any(|(name, _)| name == "content-type") {
        command.args(["--header", "Content-Type:"]);
    }
    for (name, value) in &request.headers {
        command.arg("--header").arg(header(name.as_bytes(), value));
    }
    if !request.body.is_empty() {
        command.args(["--data-binary", "@-"]);
    }
    command.arg(format!("http://{to}{}", request.target));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("curl runs");
    let (mut stdin, body) = (child.stdin.take().expect("stdin is piped"), request.body.clone());
    // Curl may answer before it has read all: a refusal comes while the body is still on its way.
    std::thread::spawn(move || stdin.write_all(&body));
    Sent(child)
}

impl Sent {
    /// Waits for the response.
    pub fn response(self) -> Response {
        let output = self.0.wait_with_output().expect("curl ends");
        let mut rest = output.stdout.as_slice();
        loop {
            let end = rest.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| {
                panic!("curl: {}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout))
            });
            let head = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest = &rest[end + 4..];
            let mut lines = head.split("\r\n");
            let status: u16 = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|s| s.parse().ok()).expect("a status");
            // 101 is the last head of an upgrade; a 100 only comes before the real one.
            if status == 100 {
                continue;
            }
            let headers = lines.filter_map(|line| line.split_once(':'));
            let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
            return Response { status, headers, body: rest.to_vec() };
        }
    }
}
