//! Many requests over few connections, faster than a curl for each, for what only shows under load.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A connection that is kept, and made anew where it broke.
pub struct Client {
    stream: Option<BufReader<TcpStream>>,
    to: SocketAddr,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What came of many requests.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many got 200.
    pub good: usize,
    /// The statuses of all others.
    pub others: Vec<u16>,
    /// How long each took.
    pub times: Vec<Duration>,
}

impl Client {
    pub fn connect(to: SocketAddr) -> Self {
        Self { stream: Some(connect(to).expect("Envoy takes connections")), to }
    }

    /// One that connects with its first request.
    pub fn new(to: SocketAddr) -> Self {
        Self { stream: None, to }
    }

    /// Asks for a tenant's page by header, and gives the status.
    pub fn get(&mut self, tenant: &str) -> u16 {
        self.ask(&[("x-tenant-id", tenant)]).expect("a response comes").status
    }

    /// Sends a request with these headers. The error is that of the connection, which is another one with the next request.
    pub fn ask(&mut self, headers: &[(&str, &str)]) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.to)?,
        };
        send(&mut stream, headers)?;
        let answer = receive(&mut stream)?;
        if answer.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    /// Sends a request, and leaves it to the caller when to hang up.
    pub fn begin(to: SocketAddr, headers: &[(&str, &str)]) -> TcpStream {
        let mut stream = connect(to).expect("Envoy takes connections");
        send(&mut stream, headers).expect("the request is sent");
        stream.into_inner()
    }
}

impl Answer {
    /// A header's value, if it is there once or more.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

fn connect(to: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

fn send(stream: &mut BufReader<TcpStream>, headers: &[(&str, &str)]) -> io::Result<()> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    stream.get_mut().write_all(format!("GET / HTTP/1.1\r\nhost: any.example\r\n{lines}\r\n").as_bytes())
}

fn receive(stream: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    let mut line = || {
        let mut line = String::new();
        match stream.read_line(&mut line)? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(line.trim_end().to_owned()),
        }
    };
    let first = line()?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let mut headers = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    answer.body.resize(length, 0);
    stream.read_exact(&mut answer.body)?;
    Ok(answer)
}

impl Tally {
    pub fn note(&mut self, status: u16, time: Duration) {
        match status {
            200 => self.good += 1,
            other => self.others.push(other),
        }
        self.times.push(time);
    }

    /// The time that so many of a hundred requests took at most.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default()
    }
}

/// Sends so many requests a second for these tenants in turn, over two connections, for a time.
pub fn steady(to: SocketAddr, tenants: &'static [&'static str], per_second: u32, time: Duration) -> JoinHandle<Tally> {
    let one = move || {
        let mut client = Client::connect(to);
        let mut tally = Tally::default();
        let (start, interval) = (Instant::now(), Duration::from_secs(2) / per_second);
        for (number, tenant) in (0_u32..).zip(tenants.iter().cycle()) {
            let due = start + interval * number;
            if due > start + time {
                break;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            let status = client.get(tenant);
            tally.note(status, sent.elapsed());
        }
        tally
    };
    std::thread::spawn(move || {
        let other = std::thread::spawn(one);
        let mut tally = one();
        let other = other.join().expect("the other connection's thread ends");
        tally.good += other.good;
        tally.others.extend(other.others);
        tally.times.extend(other.times);
        tally
    })
}
