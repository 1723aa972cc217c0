//! What becomes of WebSocket connections when the VM of their worker crashes. No known input crashes it, so the module of these
//! tests has a header that does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bootstrap::{Bootstrap, structure};
use crate::envoy::{Envoy, needed, refusing};
use crate::flood::until;
use crate::scenarios::world::*;
use crate::scripted::Scripted;
use crate::websockets::{auth, response_head, text, upgrade};

/// So many connections of each kind, so that each of the two workers has some.
const EACH: usize = 8;

/// What the filter itself sends a service in place of what it refuses: a ping, whose pong makes room for the client's close frame.
const OURS: &[u8] = b"\x89\x8d\0\0\0\0envoy-tenancy";

/// A service that takes upgrades, some of them only when told, and writes down all that comes after them.
#[derive(Clone)]
struct Recorder {
    addr: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    /// What came, and where to answer, by the name that the client gave the connection.
    connections: BTreeMap<String, (Vec<u8>, TcpStream)>,
    answers_all: bool,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it has an address");
        let recorder = Self { addr, state: Arc::default() };
        let served = recorder.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let recorder = served.clone();
                std::thread::spawn(move || recorder.serve(stream));
            }
        });
        recorder
    }

    fn serve(&self, mut stream: TcpStream) {
        let head = response_head(&mut stream);
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let name = value("x-name: ").unwrap_or_default();
        let (state, changed) = &*self.state;
        let mut held = state.lock().expect("nobody panicked");
        held.connections.insert(name.clone(), (Vec::new(), stream.try_clone().expect("it can be cloned")));
        if name.starts_with("early") {
            held = changed.wait_while(held, |state| !state.answers_all).expect("nobody panicked");
        }
        drop(held);
        let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes());
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            let mut state = state.lock().expect("nobody panicked");
            state.connections.get_mut(&name).expect("it is there").0.extend_from_slice(&bytes[..count]);
        }
    }

    /// Answers those upgrades that were kept waiting, too.
    fn answer_all(&self) {
        self.state.0.lock().expect("nobody panicked").answers_all = true;
        self.state.1.notify_all();
    }

    /// Says something to a client.
    fn say(&self, name: &str, what: &[u8]) {
        let state = self.state.0.lock().expect("nobody panicked");
        let _ = (&state.connections[name].1).write_all(what);
    }

    /// What came of each client.
    fn came(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state.0.lock().expect("nobody panicked");
        state.connections.iter().map(|(name, (bytes, _))| (name.clone(), bytes.clone())).collect()
    }
}

/// Sends an upgrade of that name.
fn ask(at: SocketAddr, name: &str, headers: &[(&str, &str)], early: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(at).expect("Envoy listens");
    stream.set_nodelay(true).expect("no delay");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit");
    let request = upgrade(&[&[("x-name", name)], headers].concat());
    stream.write_all(&[request.as_bytes(), early].concat()).expect("it is sent");
    stream
}

/// What a client gets from now on, and how that ends.
fn rest(stream: &mut TcpStream) -> (Vec<u8>, &'static str) {
    let mut got = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return (got, "ended"),
            Ok(count) => got.extend_from_slice(&bytes[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return (got, "open"),
            Err(_) => return (got, "reset"),
        }
    }
}

/// Crashes the VMs of both workers.
fn crash(envoy: &Envoy) {
    let crashed = || {
        let log = envoy.log();
        let crashes = log.lines().filter(|line| line.contains("Function: proxy_on_request_headers failed"));
        // A line of the log begins with the time and the thread.
        crashes.filter_map(|line| line.split(['[', ']']).nth(3).map(str::to_owned)).collect::<BTreeSet<_>>().len()
    };
    let trigger = || {
        let mut stream = TcpStream::connect(envoy.listener).expect("Envoy listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: any.example\r\nx-crash: yes\r\n\r\n").expect("it is sent");
        let head = response_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        crashed() == 2
    };
    until(Duration::from_secs(20), trigger, || envoy.log());
}

/// After a crash the connections of that VM have no filter any more. Nothing may pass there, in neither direction.
#[test]
fn nothing_passes_where_the_vm_has_crashed() {
    let mut config = looked_up(json!({
        "resolution": ["jwt", "header"], "required": false,
        "jwt": {"secret": {"env": SECRET_NAME}, "algorithms": ["HS256"]},
    }));
    config["lookupTenant"]["timeoutMs"] = json!(4000);
    config["websocket"] = json!({"authMessage": "required", "authTimeoutSeconds": 30});
    let scripted = Scripted::start(Directory::of(&tenants()));
    scripted.script("/tenants/slow", Reply::Never);
    let service = Recorder::start();
    let bootstrap = Bootstrap {
        wasm: &needed("TENANCY_CRASH_WASM"),
        configuration: structure(&config),
        service: service.addr,
        directory: scripted.service.addr,
        refusing: refusing(),
    };
    let mut bootstrap = bootstrap.json();
    // What has nothing to say or to hear after the crash ends by this alone.
    let manager = &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    manager["stream_idle_timeout"] = json!("7s");
    let envoy = Envoy::start(&bootstrap);
    let vms = || envoy.stat("wasm.envoy.wasm.runtime.v8.active");
    let (at, before) = (envoy.listener, vms());
    let acme = auth("acme");
    let (whole, message) = (text(&acme), text("m"));
    let both = [whole.clone(), message.clone()].concat();

    // What each kind has sent before the crash, and what of that the service is to have by then.
    let kinds: [(&str, Vec<u8>, &[u8]); 9] = [
        ("silent", Vec::new(), b""),
        ("half", whole[..40].to_vec(), b""),
        ("judged", text(&auth("slow")), b""),
        ("greeted", Vec::new(), b""),
        ("passes", both.clone(), &both),
        ("hears", both.clone(), &both),
        ("idle", both.clone(), &both),
        ("early", both.clone(), b""),
        ("paused", Vec::new(), b""),
    ];
    let mut clients = Vec::new();
    for (kind, sent, _) in &kinds {
        for number in 0..EACH {
            let name = format!("{kind}-{number}");
            let headers: &[(&str, &str)] = if *kind == "paused" { &[("x-tenant-id", "slow")] } else { &[] };
            let mut stream = ask(at, &name, headers, b"");
            if !matches!(*kind, "early" | "paused") {
                let head = response_head(&mut stream);
                assert!(head.starts_with("HTTP/1.1 101"), "{head}");
            }
            stream.write_all(sent).expect("it is sent");
            clients.push((*kind, name, stream));
        }
    }
    let expected: BTreeMap<String, Vec<u8>> = kinds
        .iter()
        .filter(|(kind, _, _)| *kind != "paused")
        .flat_map(|(kind, _, come)| (0..EACH).map(move |number| (format!("{kind}-{number}"), come.to_vec())))
        .collect();
    until(Duration::from_secs(10), || service.came() == expected, || format!("{:?}", service.came()));
    for number in 0..EACH {
        service.say(&format!("greeted-{number}"), b"\x81\x06secret");
    }
    std::thread::sleep(Duration::from_millis(300));

    crash(&envoy);
    let crashed = Instant::now();

    // New ones come to a worker whose VM is not there yet, and then to a new one; without a token they never get through.
    let mut statuses: BTreeMap<String, usize> = BTreeMap::new();
    while crashed.elapsed() < Duration::from_secs(3) {
        let mut stream = ask(at, &format!("new-{}", statuses.values().sum::<usize>()), &[], b"");
        let head = response_head(&mut stream);
        *statuses.entry(head[9..12].to_owned()).or_insert(0) += 1;
        let _ = stream.write_all(&message);
        std::thread::sleep(Duration::from_millis(30));
    }
    eprintln!("upgrades in the 3 seconds after the crash, by status: {statuses:?}");
    assert!(statuses.keys().all(|status| ["101", "503"].contains(&status.as_str())), "{statuses:?}");
    assert!(statuses.contains_key("101"), "{statuses:?}");

    service.answer_all();
    for (kind, name, stream) in &mut clients {
        match *kind {
            "half" => drop(stream.write_all(&[&whole[40..], &message].concat())),
            "silent" => drop(stream.write_all(&both)),
            "judged" | "passes" => drop(stream.write_all(&message)),
            "greeted" | "hears" => service.say(name, b"\x81\x04more"),
            _ => {}
        }
    }
    let with_dead = vms();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (kind, _, stream) in &mut clients {
        stream.set_read_timeout(Some(Duration::from_secs(12))).expect("a time limit");
        let (got, end) = rest(stream);
        let got = String::from_utf8_lossy(&got);
        let first = got.lines().next().unwrap_or_default();
        *seen.entry(format!("{kind}: {first} {end} after {} s", crashed.elapsed().as_secs())).or_default() += 1;
        assert_ne!(end, "open", "{kind}: a connection without a VM stays");
        match *kind {
            "early" | "paused" => assert!(first.starts_with("HTTP/1.1 503"), "{kind}: {got}"),
            _ => assert_eq!(got, "", "{kind}: something came past the filter"),
        }
    }
    eprintln!("after the crash: {seen:#?}");
    // Dead VMs go with the last of their connections.
    until(Duration::from_secs(5), || vms() == before, || format!("{} VMs, not {before}", vms()));
    eprintln!("VMs before, with those of open connections that crashed, and after: {before}, {with_dead}, {before}");
    let came = service.came();
    for (name, bytes) in &expected {
        assert_eq!(came[name], *bytes, "{name}: something passed without the filter");
    }
    assert!(came.keys().all(|name| !name.starts_with("paused")), "an upgrade passed without the filter");
    let mut new = came.iter().filter(|(name, _)| name.starts_with("new"));
    assert!(new.all(|(_, bytes)| bytes.is_empty() || bytes == OURS), "something passed without a token");
}
