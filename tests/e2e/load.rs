//! Many requests over few connections, faster than a curl for each, for what only shows under load.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A connection that is kept.
pub struct Client {
    stream: BufReader<TcpStream>,
    to: SocketAddr,
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
        let stream = TcpStream::connect(to).expect("Envoy takes connections");
        stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a bound on every wait");
        stream.set_nodelay(true).expect("no delay");
        Self { stream: BufReader::new(stream), to }
    }

    /// Asks for a tenant's page by header, and gives the status.
    pub fn get(&mut self, tenant: &str) -> u16 {
        let head = format!("GET / HTTP/1.1\r\nhost: any.example\r\nx-tenant-id: {tenant}\r\n\r\n");
        self.stream.get_mut().write_all(head.as_bytes()).expect("the request is sent");
        let (mut status, mut length, mut closes) = (0, 0, false);
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a response comes");
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().expect("a status");
            }
            if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().expect("a length");
            }
            closes |= line == "connection: close";
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("the body comes");
        if closes {
            *self = Self::connect(self.to);
        }
        status
    }
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
