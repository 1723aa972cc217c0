//! A crowd of WebSocket connections of many tenants, whose messages never meet: through real Envoy to real tenancyd, while connections
//! are cut, tenants suspended, tenancyd killed, a VM crashed, and the listener replaced.
//!
//! Each broadcast names its tenant and has a number of its own. Every client checks every message, and whoever was connected
//! all the time must have got each broadcast of its tenant, once.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};
use tokio_tungstenite::{WebSocketStream, client_async};
use tungstenite::{ClientRequestBuilder, Message};

use crate::bootstrap::{Bootstrap, structure};
use crate::envoy::{Envoy, http_get, needed, refusing};
use crate::flood::until;
use crate::listeners::Listeners;
use crate::scenarios::make::but;
use crate::scenarios::world::*;
use crate::tenancyd::{CONNECTIONS_SECRET, Tenancyd, WRITE_TOKEN};
use crate::websockets::{auth_by, signed};

/// How many handshakes are under way at once.
const DOORS: usize = 64;
/// How long a client waits to be let in before it tries again. One that was being judged when a VM crashed gets no answer.
const ENTRY: Duration = Duration::from_secs(4);
/// How long a broadcast may take to the last of its tenant's connections, on a machine that has much else to do.
const DELIVERY: Duration = Duration::from_secs(15);
/// How often there is a broadcast.
const PACE: Duration = Duration::from_millis(10);
/// A tenant's record is asked for again after a second, and so is a connection's tenant; a tick and a farewell come on top.
const SUSPENSION: Duration = Duration::from_secs(8);

/// Clients, tenants, and what they have said.
struct Crowd {
    runtime: Runtime,
    envoy: SocketAddr,
    tenancyd: SocketAddr,
    tenants: Vec<String>,
    members: Vec<Arc<Member>>,
    shared: Arc<Shared>,
    next: AtomicU64,
    sent: Mutex<Vec<Broadcast>>,
}

/// What all clients write to.
#[derive(Default)]
struct Shared {
    faults: Mutex<Vec<String>>,
    /// The numbers of broadcasts that anybody has got.
    heard: Mutex<HashSet<u64>>,
    received: AtomicUsize,
    /// How often somebody was told that a recipient isn't there.
    not_found: AtomicUsize,
}

/// One client, which may connect again and again.
struct Member {
    tenant: usize,
    token: String,
    auth: String,
    /// It shows its token at the upgrade already.
    is_early: bool,
    life: Mutex<Life>,
}

/// A connection of a client.
#[derive(Default)]
struct Life {
    number: u32,
    /// Since when it is let in.
    since: Option<Instant>,
    /// How it ended.
    end: Option<String>,
    got: HashSet<u64>,
    orders: Option<UnboundedSender<Order>>,
}

enum Order {
    Say(String),
    /// Goes without a word.
    Cut,
}

struct Broadcast {
    number: u64,
    tenant: usize,
    at: Instant,
    by: By,
}

enum By {
    /// A client, in the life of that number.
    Client(usize, u32),
    /// A POST, and whether it was answered with 200.
    Post(bool),
}

impl Life {
    fn is_open(&self) -> bool {
        self.since.is_some() && self.end.is_none()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panicked")
}

impl Crowd {
    fn new(envoy: SocketAddr, tenancyd: SocketAddr, tenants: &[String], each: usize) -> Arc<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let member = |number: usize| {
            let tenant = number % tenants.len();
            let token = signed(&json!({"tenant_id": tenants[tenant], "sub": format!("{}-{number}", tenants[tenant])}));
            let auth = auth_by(&token, &tenants[tenant]);
            Arc::new(Member { tenant, token, auth, is_early: number.is_multiple_of(7), life: Mutex::default() })
        };
        Arc::new(Self {
            runtime: runtime.expect("a runtime"),
            envoy,
            tenancyd,
            tenants: tenants.to_vec(),
            members: (0..tenants.len() * each).map(member).collect(),
            shared: Arc::default(),
            next: AtomicU64::new(1),
            sent: Mutex::default(),
        })
    }

    /// Those of some tenants.
    fn of(&self, tenants: &[usize]) -> Vec<usize> {
        (0..self.members.len()).filter(|member| tenants.contains(&self.members[*member].tenant)).collect()
    }

    fn all(&self) -> Vec<usize> {
        (0..self.members.len()).collect()
    }

    /// How those ended that aren't connected.
    fn ended(&self, members: &[usize]) -> BTreeMap<String, usize> {
        let mut ends = BTreeMap::new();
        for member in members {
            if let Some(end) = &lock(&self.members[*member].life).end {
                *ends.entry(end.clone()).or_default() += 1;
            }
        }
        ends
    }

    /// Tells a connected client what to do.
    fn order(&self, member: usize, order: Order) {
        let life = lock(&self.members[member].life);
        let told = life.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        assert!(told, "member {member} isn't connected");
    }

    fn is_open(&self, member: usize) -> bool {
        lock(&self.members[member].life).is_open()
    }

    /// Connects those that aren't, and gives how it went where it didn't go well.
    fn connect(&self, members: &[usize]) -> BTreeMap<String, usize> {
        let doors = Arc::new(Semaphore::new(DOORS));
        let entries: Vec<_> = members
            .iter()
            .filter(|member| !self.is_open(**member))
            .map(|member| {
                let (member, shared, doors) = (self.members[*member].clone(), self.shared.clone(), doors.clone());
                let (at, tenant) = (self.envoy, self.tenants[member.tenant].clone());
                self.runtime.spawn(async move {
                    let _door = doors.acquire().await.expect("it stays");
                    let (entered, waiting) = oneshot::channel();
                    let (sender, orders) = unbounded_channel();
                    {
                        let mut life = lock(&member.life);
                        *life = Life { number: life.number + 1, orders: Some(sender), ..Life::default() };
                    }
                    let task = tokio::spawn(live(member.clone(), tenant, shared, at, orders, entered));
                    match tokio::time::timeout(ENTRY, waiting).await {
                        Ok(Ok(())) => None,
                        Ok(Err(_)) => Some(lock(&member.life).end.clone().unwrap_or_default()),
                        Err(_) => {
                            task.abort();
                            let _ = task.await;
                            let mut life = lock(&member.life);
                            life.since = None;
                            life.end.get_or_insert_with(|| "nothing came in time".to_owned());
                            life.end.clone()
                        }
                    }
                })
            })
            .collect();
        let mut refused = BTreeMap::new();
        for entry in entries {
            if let Some(end) = self.runtime.block_on(entry).expect("it ends") {
                *refused.entry(end).or_default() += 1;
            }
        }
        refused
    }

    /// Connects all that aren't, again where it doesn't go well, as clients do.
    fn connect_all(&self, members: &[usize]) {
        let mut refused = BTreeMap::new();
        let connected = || {
            refused = self.connect(members);
            refused.is_empty()
        };
        until(Duration::from_secs(30), connected, || format!("{:?}", self.ended(members)));
    }

    /// Has some connection of a tenant broadcast something, and every second time the application.
    fn broadcast(&self, tenant: usize, round: usize) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (at, name) = (Instant::now(), &self.tenants[tenant]);
        let data = json!({"tenant": name, "number": number});
        let each = self.members.len() / self.tenants.len();
        let speaker = tenant + self.tenants.len() * (round * 7 % each);
        let by_client = (round + tenant).is_multiple_of(2).then(|| {
            let life = lock(&self.members[speaker].life);
            let text = json!({"action": "broadcast", "data": data}).to_string();
            let said =
                life.is_open() && life.orders.as_ref().is_some_and(|orders| orders.send(Order::Say(text)).is_ok());
            said.then_some(By::Client(speaker, life.number))
        });
        let by = by_client.flatten().unwrap_or_else(|| {
            let path = format!("/tenants/{name}/messages");
            By::Post(ask(self.tenancyd, "POST", &path, &json!({"data": data})).starts_with("HTTP/1.1 200"))
        });
        lock(&self.sent).push(Broadcast { number, tenant, at, by });
    }

    /// Broadcasts to those tenants, one after the other, until it is stopped.
    fn traffic(self: &Arc<Self>, tenants: Vec<usize>, every: Duration) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let (crowd, stopped) = (self.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let (mut turn, mut due) = (0, Instant::now());
            while !stopped.load(Ordering::Relaxed) {
                crowd.broadcast(tenants[turn % tenants.len()], turn / tenants.len());
                turn += 1;
                due += every;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Traffic { stop, thread }
    }

    /// Which deliveries are still missing: each broadcast that was really said, for each that was connected all the time.
    fn missing(&self) -> (Vec<String>, usize) {
        let (mut missing, mut due) = (Vec::new(), 0);
        let heard = lock(&self.shared.heard);
        for sent in lock(&self.sent).iter() {
            let was_said = heard.contains(&sent.number)
                || match sent.by {
                    By::Post(taken) => taken,
                    By::Client(member, life) => {
                        let now = lock(&self.members[member].life);
                        now.is_open() && now.number == life
                    }
                };
            if !was_said {
                continue;
            }
            for member in self.of(&[sent.tenant]) {
                let life = lock(&self.members[member].life);
                if life.is_open() && life.since.is_some_and(|since| since < sent.at) {
                    due += 1;
                    if !life.got.contains(&sent.number) {
                        missing.push(format!("{} to member {member}", sent.number));
                    }
                }
            }
        }
        (missing, due)
    }

    /// Waits until all that has to come has come, and fails where something came that must not.
    fn settle(&self, what: &str) {
        let now = || {
            let (missing, _) = self.missing();
            format!("{what}: {} missing, such as {:?}", missing.len(), missing.first())
        };
        until(DELIVERY, || self.missing().0.is_empty(), now);
        // What comes twice, or to somebody else, may come last.
        std::thread::sleep(Duration::from_millis(300));
        let (missing, due) = self.missing();
        let faults = lock(&self.shared.faults);
        assert!(missing.is_empty() && faults.is_empty(), "{what}: {faults:?}");
        let broadcasts = std::mem::take(&mut *lock(&self.sent)).len();
        let received = self.shared.received.swap(0, Ordering::Relaxed);
        eprintln!(
            "{what}: {broadcasts} broadcasts, {received} messages, {due} of them due to who was there all the time"
        );
    }

    /// Waits until tenancyd has the connections of all tenants, no more and no less.
    fn counted(&self) {
        let each = self.members.len() / self.tenants.len();
        let counts = || -> Vec<usize> {
            let answers = self
                .tenants
                .iter()
                .map(|tenant| http_get(self.tenancyd, &format!("/tenants/{tenant}/connections?limit=1000")));
            answers.map(|answer| answer.matches("\"userId\"").count()).collect()
        };
        until(Duration::from_secs(10), || counts().iter().all(|count| *count == each), || format!("{:?}", counts()));
    }

    fn set_status(&self, tenants: &[usize], status: &str) {
        for tenant in tenants {
            let path = format!("/tenants/{}/status", self.tenants[*tenant]);
            let answer = ask(self.tenancyd, "PUT", &path, &json!({"status": status}));
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
}

/// Broadcasts under way.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Traffic {
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it ends");
    }
}

/// One connection, from its upgrade to its end.
async fn live(
    member: Arc<Member>,
    tenant: String,
    shared: Arc<Shared>,
    at: SocketAddr,
    mut orders: UnboundedReceiver<Order>,
    entered: oneshot::Sender<()>,
) {
    let end = match enter(&member, at).await {
        Ok(mut socket) => stay(&member, &tenant, &shared, &mut socket, &mut orders, entered).await,
        Err(end) => {
            lock(&member.life).end = Some(end);
            return;
        }
    };
    lock(&member.life).end = Some(end);
}

type Socket = WebSocketStream<tokio::net::TcpStream>;

async fn enter(member: &Member, at: SocketAddr) -> Result<Socket, String> {
    let stream = tokio::net::TcpStream::connect(at).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut request = ClientRequestBuilder::new("ws://any.example/ws".parse().expect("it is one"));
    if member.is_early {
        request = request.with_header("authorization", format!("Bearer {}", member.token));
    }
    let (mut socket, _) = client_async(request, stream).await.map_err(|error| error.to_string())?;
    socket.send(Message::text(member.auth.clone())).await.map_err(|error| error.to_string())?;
    Ok(socket)
}

/// Takes what comes, and gives how it ended.
async fn stay(
    member: &Member,
    tenant: &str,
    shared: &Shared,
    socket: &mut Socket,
    orders: &mut UnboundedReceiver<Order>,
    entered: oneshot::Sender<()>,
) -> String {
    let (mut entered, mut told) = (Some(entered), None);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Say(text)) => {
                    // How it ended is what can be read.
                    let _ = socket.send(Message::text(text)).await;
                }
                Some(Order::Cut) | None => return "cut by the client".to_owned(),
            },
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => match serde_json::from_str::<Value>(&text) {
                    Ok(message) if message["action"] == "auth" && message["success"] == true => {
                        lock(&member.life).since = Some(Instant::now());
                        if let Some(entered) = entered.take() {
                            let _ = entered.send(());
                        }
                    }
                    Ok(message) if message["error"]["code"] == "NOT_FOUND" => {
                        shared.not_found.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(message) => take(member, tenant, shared, &message),
                    Err(error) => lock(&shared.faults).push(format!("{error}: {text}")),
                },
                Some(Ok(Message::Close(Some(close)))) => told = Some(format!("{}: {}", u16::from(close.code), close.reason)),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return told.unwrap_or_else(|| "without a close frame".to_owned()),
            },
        }
    }
}

fn take(member: &Member, tenant: &str, shared: &Shared, message: &Value) {
    shared.received.fetch_add(1, Ordering::Relaxed);
    let from = message["from"].as_str();
    let is_ours = message["data"]["tenant"] == tenant
        && from.is_none_or(|from| from.rsplit_once('-').is_some_and(|(of, _)| of == tenant));
    let number = message["data"]["number"].as_u64();
    let (true, Some(number)) = (is_ours, number) else {
        lock(&shared.faults).push(format!("a client of {tenant} got {message}"));
        return;
    };
    lock(&shared.heard).insert(number);
    if !lock(&member.life).got.insert(number) {
        lock(&shared.faults).push(format!("a client of {tenant} got twice: {message}"));
    }
}

/// The answer of tenancyd, nothing where there is none.
fn ask(at: SocketAddr, method: &str, path: &str, body: &Value) -> String {
    let body = body.to_string();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: tenancyd\r\nauthorization: Bearer {WRITE_TOKEN}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let Ok(mut stream) = TcpStream::connect(at) else { return String::new() };
    let mut answer = String::new();
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn configuration() -> Value {
    let jwt = json!({"secret": {"env": SECRET_NAME}, "algorithms": ["HS256"]});
    let mut config = looked_up(json!({"resolution": ["jwt"], "jwt": jwt}));
    config["lookupTenant"] = but(config["lookupTenant"].take(), json!({"cacheSeconds": 1, "staleSeconds": 1}));
    config["websocket"] = json!({"authMessage": "required", "recheckSeconds": 1});
    config
}

/// Envoy with tenancyd as its directory and its one service, and with room for a crowd.
fn bootstrap(wasm: &str, tenancyd: &Tenancyd) -> Value {
    let bootstrap = Bootstrap {
        wasm: &needed(wasm),
        configuration: structure(&configuration()),
        service: tenancyd.connections.expect("it takes connections"),
        directory: tenancyd.addr,
        refusing: refusing(),
    };
    let mut bootstrap = bootstrap.json();
    let resources = &mut bootstrap["static_resources"];
    // Envoy makes 1,024 connections to a cluster, unless it is told otherwise, and has the next clients wait.
    let many = json!({"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000});
    resources["clusters"][0]["circuit_breakers"] = json!({"thresholds": [many]});
    let manager = &mut resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    manager["stream_idle_timeout"] = json!("120s");
    let route = &mut manager["route_config"]["virtual_hosts"][0]["routes"][0];
    route["route"]["timeout"] = json!("0s");
    route["request_headers_to_add"] = json!([{
        "header": {"key": "x-tenancy-secret", "value": CONNECTIONS_SECRET},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }]);
    bootstrap
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("tenant{number:02}")).collect()
}

fn start_tenancyd(tenants: &[String]) -> Tenancyd {
    Tenancyd::start_with_connections(&tenants.iter().map(String::as_str).collect::<Vec<_>>())
}

/// How much memory a process has, in KiB.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Whoever can't have enough connections is told so at once.
fn needs_files(count: u64) {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("Linux tells it");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("it has that line");
    let soft = line.split_whitespace().next().expect("a number");
    let enough = soft == "unlimited" || soft.parse::<u64>().is_ok_and(|soft| soft >= count);
    assert!(enough, "ulimit -n is {soft}, and this needs {count}: run the tests with make e2e or make test");
}

#[test]
fn tenants_never_hear_each_other() {
    needs_files(6_000);
    let tenants = names(50);
    let mut tenancyd = start_tenancyd(&tenants);
    let envoy = Envoy::start(&bootstrap("TENANCY_WASM", &tenancyd));
    let crowd = Crowd::new(envoy.listener, tenancyd.addr, &tenants, 40);
    let everyone: Vec<usize> = (0..tenants.len()).collect();

    let (envoy_before, tenancyd_before) = (memory(envoy.pid()), memory(tenancyd.pid()));
    let began = Instant::now();
    crowd.connect_all(&crowd.all());
    eprintln!("{} connections in {:?}", crowd.members.len(), began.elapsed());
    crowd.counted();
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / crowd.members.len() as f64;
    let (of_envoy, of_tenancyd) =
        (each(envoy_before, memory(envoy.pid())), each(tenancyd_before, memory(tenancyd.pid())));
    eprintln!("memory for each connection: Envoy {of_envoy:.1} KiB, tenancyd {of_tenancyd:.1} KiB");
    assert!(of_envoy < 200.0 && of_tenancyd < 50.0, "a connection costs much more than it used to");

    let traffic = crowd.traffic(everyone.clone(), PACE);
    std::thread::sleep(Duration::from_secs(4));
    traffic.end();
    crowd.settle("in peace");
    assert_eq!(crowd.ended(&crowd.all()), BTreeMap::new());

    // Nobody finds another tenant's users.
    for tenant in &everyone {
        let stranger = format!("{}-{}", tenants[(tenant + 1) % tenants.len()], (tenant + 1) % tenants.len());
        let text = json!({"action": "send", "to": stranger, "data": {"tenant": tenants[*tenant]}}).to_string();
        crowd.order(*tenant, Order::Say(text));
    }
    let told = || crowd.shared.not_found.load(Ordering::Relaxed);
    until(DELIVERY, || told() == tenants.len(), || format!("{} were told so", told()));

    let traffic = crowd.traffic(everyone.clone(), PACE);
    let mut tenth = Vec::new();
    let mut seed = began.elapsed().subsec_nanos() as usize;
    for member in crowd.all() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if (seed >> 33).is_multiple_of(10) {
            tenth.push(member);
        }
    }
    for member in &tenth {
        crowd.order(*member, Order::Cut);
    }
    std::thread::sleep(Duration::from_secs(1));
    crowd.connect_all(&tenth);
    std::thread::sleep(Duration::from_secs(2));
    traffic.end();
    crowd.settle(&format!("{} cut and back", tenth.len()));
    assert_eq!(crowd.ended(&crowd.all()), BTreeMap::new());
    crowd.counted();

    suspend(&crowd);

    let traffic = crowd.traffic(everyone, PACE);
    tenancyd.kill();
    let none = || crowd.all().iter().all(|member| !crowd.is_open(*member));
    until(Duration::from_secs(10), none, || "somebody is still connected".to_owned());
    eprintln!("after tenancyd was killed: {:?}", crowd.ended(&crowd.all()));
    tenancyd.again();
    let began = Instant::now();
    crowd.connect_all(&crowd.all());
    eprintln!("all are back after {:?}", began.elapsed());
    std::thread::sleep(Duration::from_secs(3));
    traffic.end();
    crowd.settle("with another tenancyd");
    crowd.counted();
    let each = each(envoy_before, memory(envoy.pid()));
    eprintln!("memory at the end, for each connection: Envoy {each:.1} KiB");
}

/// Some tenants are suspended, one of them with nothing to say, and activated again.
fn suspend(crowd: &Arc<Crowd>) {
    let (talking, quiet): (Vec<usize>, usize) = ((0..4).collect(), 4);
    let suspended: Vec<usize> = (0..=quiet).collect();
    let others: Vec<usize> = (suspended.len()..crowd.tenants.len()).collect();
    let traffic = crowd.traffic(others.clone(), PACE);
    let more = crowd.traffic(talking.clone(), Duration::from_millis(50));
    std::thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    crowd.set_status(&suspended, "suspended");
    let members = crowd.of(&suspended);
    let ended = || members.iter().all(|member| !crowd.is_open(*member));
    until(SUSPENSION, ended, || format!("{:?}", crowd.ended(&members)));
    eprintln!("{} connections of suspended tenants ended within {:?}", members.len(), began.elapsed());
    more.end();
    for tenant in &talking {
        let expected = format!("1008: TENANT_SUSPENDED: Tenant '{}' is suspended", crowd.tenants[*tenant]);
        let members = crowd.of(&[*tenant]);
        assert_eq!(crowd.ended(&members), BTreeMap::from([(expected, members.len())]));
    }
    let ends = crowd.ended(&crowd.of(&[quiet]));
    assert_eq!(ends.keys().collect::<Vec<_>>(), ["without a close frame"], "on an idle connection none can ride");
    let refused = crowd.connect(&members[..10]);
    assert_eq!(refused.values().sum::<usize>(), 10, "{refused:?}");
    assert!(refused.keys().all(|end| end.starts_with("1008: TENANT_SUSPENDED") || end.contains("403")), "{refused:?}");
    crowd.set_status(&suspended, "active");
    crowd.connect_all(&members);
    traffic.end();
    crowd.settle("with tenants suspended");
    assert_eq!(crowd.ended(&crowd.all()), BTreeMap::new(), "nobody else was cut");
    crowd.counted();
}

/// The connections of a worker whose VM crashes end with the next byte, and the other worker's go on.
#[test]
fn a_crash_ends_the_connections_of_one_worker() {
    needs_files(2_000);
    let tenants = names(25);
    let tenancyd = start_tenancyd(&tenants);
    let envoy = Envoy::start(&bootstrap("TENANCY_CRASH_WASM", &tenancyd));
    let vms = || envoy.stat("wasm.envoy.wasm.runtime.v8.active");
    let before = vms();
    let crowd = Crowd::new(envoy.listener, tenancyd.addr, &tenants, 20);
    crowd.connect_all(&crowd.all());
    let traffic = crowd.traffic((0..tenants.len()).collect(), PACE);
    for round in 0..3 {
        // Every second time some are on their way in.
        let coming: Vec<usize> = crowd.all().into_iter().filter(|member| round % 2 == 1 && member % 2 == 0).collect();
        for member in &coming {
            crowd.order(*member, Order::Cut);
        }
        std::thread::sleep(Duration::from_millis(500));
        std::thread::scope(|scope| {
            if round % 2 == 1 {
                scope.spawn(|| crowd.connect_all(&coming));
                std::thread::sleep(Duration::from_millis(30));
            }
            let answer = crate::load::Client::connect(envoy.listener).ask(&[("x-crash", "yes")]);
            assert!(answer.as_ref().is_ok_and(|answer| answer.status == 503), "{answer:?}");
        });
        let crashed = Instant::now();
        let others: Vec<usize> = crowd.all().into_iter().filter(|member| !coming.contains(member)).collect();
        // By then something was said to everyone, and Envoy's delayed_close_timeout, a second, is over.
        std::thread::sleep(Duration::from_millis(2_500));
        let ends = crowd.ended(&others);
        assert_eq!(ends.keys().collect::<Vec<_>>(), ["without a close frame"], "{ends:?}");
        crowd.connect_all(&crowd.all());
        let back = crashed.elapsed();
        // Its VM goes with the last of its connections.
        until(DELIVERY, || vms() == before, || format!("{} VMs, not {before}", vms()));
        let gone = crashed.elapsed();
        eprintln!(
            "crash {round}: of {} connections {ends:?} ended; all are back after {back:?}, the dead VM is gone after {gone:?}",
            others.len()
        );
        crowd.counted();
    }
    traffic.end();
    crowd.settle("with crashes");
}

/// A listener that is replaced keeps its connections while it drains, and keeps judging them.
#[test]
fn connections_are_judged_while_their_listener_drains() {
    needs_files(2_000);
    let drain = Duration::from_secs(12);
    let tenants = names(25);
    let tenancyd = start_tenancyd(&tenants);
    let mut bootstrap = bootstrap("TENANCY_WASM", &tenancyd);
    let mut listeners = Listeners::of(&mut bootstrap);
    let envoy = Envoy::start_draining(&bootstrap, 12);
    let crowd = Crowd::new(envoy.listener, tenancyd.addr, &tenants, 20);
    crowd.connect_all(&crowd.all());
    let traffic = crowd.traffic((0..tenants.len()).collect(), PACE);
    std::thread::sleep(Duration::from_secs(1));

    let replaced = Instant::now();
    listeners.configure(&but(configuration(), json!({"logFields": []})), &envoy);
    assert_eq!(crowd.ended(&crowd.all()), BTreeMap::new());
    let suspended = crowd.of(&[0, 1, 2]);
    crowd.set_status(&[0, 1, 2], "suspended");
    let ended = || suspended.iter().all(|member| !crowd.is_open(*member));
    until(SUSPENSION, ended, || format!("{:?}", crowd.ended(&suspended)));
    let ends = crowd.ended(&suspended);
    eprintln!("suspended while they drain, {:?} after the update: {ends:?}", replaced.elapsed());
    assert!(ends.keys().all(|end| end.starts_with("1008: TENANT_SUSPENDED: ")), "{ends:?}");
    crowd.set_status(&[0, 1, 2], "active");
    crowd.connect_all(&suspended);
    traffic.end();
    crowd.settle("while a listener drains");
    assert!(replaced.elapsed() < drain, "it took too long to tell");
    let traffic = crowd.traffic((0..tenants.len()).collect(), PACE);
    let old: Vec<usize> = crowd.all().into_iter().filter(|member| !suspended.contains(member)).collect();
    assert_eq!(crowd.ended(&old), BTreeMap::new(), "the others go on");

    let ended = || old.iter().all(|member| !crowd.is_open(*member));
    until(drain * 2, ended, || format!("{:?}", crowd.ended(&old)));
    eprintln!("the old ones ended {:?} after the update: {:?}", replaced.elapsed(), crowd.ended(&old));
    assert_eq!(crowd.ended(&suspended), BTreeMap::new(), "the new ones stay");
    crowd.connect_all(&old);
    std::thread::sleep(Duration::from_secs(1));
    traffic.end();
    crowd.settle("with a listener that drained");
    crowd.counted();
}
