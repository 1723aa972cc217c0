//! A fake host: its clock moves when told, its directory answers as scripted.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envoy_tenancy::config::Config;
use envoy_tenancy::filter::{Filter, HeaderEdit, Step};
use envoy_tenancy::host::{Answer, Body, CallId, Callout, Host, RequestId, Version, WorkerId};
use envoy_tenancy::jwt::Signatures;
use envoy_tenancy::request::Head;
use envoy_tenancy::tenant::Tenant;
use serde_json::Value;

use crate::scenarios::world::{Arrived, Asked, Directory, Outcome, Reply, Request, SECRET, SECRET_NAME, World};
use crate::wire::Wire;

pub struct NativeWorld {
    filter: Filter,
    host: FakeHost,
    directory: Directory,
    asked: Vec<Asked>,
    next_request: u32,
}

/// Headers on their way: name and value, as bytes.
type Headers = Vec<(String, Vec<u8>)>;

struct FakeHost {
    now: Cell<SystemTime>,
    shared: RefCell<HashMap<String, Vec<u8>>>,
    shared_reads: Cell<usize>,
    calls: RefCell<Vec<(CallId, Callout)>>,
    letters: RefCell<Vec<Vec<u8>>>,
    last_call: Cell<u64>,
}

impl Signatures for FakeHost {
    fn verify_signature(&self, _arguments: &[u8]) -> Option<Vec<u8>> {
        // Whether Envoy's verdict is the same on every token, tests/tokens looks at.
        None
    }
}

impl Host for FakeHost {
    fn now(&self) -> SystemTime {
        self.now.get()
    }

    fn shared(&self, key: &str) -> Option<Vec<u8>> {
        self.shared_reads.set(self.shared_reads.get() + 1);
        self.shared.borrow().get(key).cloned()
    }

    fn set_shared(&self, key: &str, value: Option<&[u8]>) {
        match value {
            Some(value) => self.shared.borrow_mut().insert(key.to_owned(), value.to_vec()),
            None => self.shared.borrow_mut().remove(key),
        };
    }

    fn monotonic(&self) -> Duration {
        self.now.get().duration_since(UNIX_EPOCH).unwrap()
    }

    fn shared_version(&self, key: &str) -> (Option<Vec<u8>>, Version) {
        let value = self.shared(key);
        let version = version(value.as_deref());
        (value, version)
    }

    fn replace_shared(&self, key: &str, new: &[u8], expected: Version) -> bool {
        let is_old = version(self.shared.borrow().get(key).map(Vec::as_slice)) == expected;
        if is_old {
            self.set_shared(key, Some(new));
        }
        is_old
    }

    fn worker(&self) -> WorkerId {
        WorkerId(1)
    }

    fn post(&self, to: WorkerId, letter: &[u8]) -> bool {
        if to == self.worker() {
            self.letters.borrow_mut().push(letter.to_vec());
        }
        to == self.worker()
    }

    fn property(&self, _path: &[&str]) -> Option<Vec<u8>> {
        None
    }

    fn call(&self, callout: Callout) -> CallId {
        let call = CallId(self.last_call.get() + 1);
        self.last_call.set(call.0);
        self.calls.borrow_mut().push((call, callout));
        call
    }
}

impl World for NativeWorld {
    fn start(config: Value, directory: Directory) -> Self {
        let config = Config::from_value(&config).unwrap_or_else(|faults| panic!("{faults}"));
        let host = FakeHost {
            now: Cell::new(UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
            shared: RefCell::default(),
            shared_reads: Cell::new(0),
            calls: RefCell::default(),
            letters: RefCell::default(),
            last_call: Cell::new(0),
        };
        let environment = |name: &str| (name == SECRET_NAME).then(|| SECRET.to_owned());
        let mut filter = Filter::new(config, environment).unwrap_or_else(|faults| panic!("{faults}"));
        filter.tick(&host);
        Self { filter, host, directory, asked: Vec::new(), next_request: 1 }
    }

    fn send_all(&mut self, requests: &[Request]) -> Vec<Outcome> {
        let mut outcomes: BTreeMap<RequestId, Outcome> = BTreeMap::new();
        let mut heads: BTreeMap<RequestId, (&Request, Headers)> = BTreeMap::new();
        for request in requests {
            let (id, step) = self.begin(request);
            let headers = headers(request);
            if step != Step::Wait {
                outcomes.insert(id, outcome(&self.filter, request, &headers, step));
            }
            heads.insert(id, (request, headers));
        }
        // A domain's answer leads to another question, so there can be several rounds.
        loop {
            let calls = self.host.calls.take();
            let letters = self.host.letters.take();
            if calls.is_empty() && letters.is_empty() {
                break;
            }
            for letter in letters {
                for (id, step) in self.filter.letter(&letter, &self.host) {
                    let (request, headers) = &heads[&id];
                    outcomes.insert(id, outcome(&self.filter, request, headers, step));
                }
            }
            for (call, callout) in calls {
                let answer = self.answer(&callout);
                for (id, step) in self.filter.answer(call, answer, &self.host).0 {
                    let (request, headers) = &heads[&id];
                    assert!(
                        outcomes.insert(id, outcome(&self.filter, request, headers, step)).is_none(),
                        "{request:?} was answered twice"
                    );
                }
            }
        }
        assert_eq!(outcomes.len(), requests.len(), "a request still waits, though every callout has its answer");
        for (id, outcome) in &mut outcomes {
            if outcome.arrived.is_some() {
                let told = self.filter.response(*id, &|_| None, &self.host);
                outcome.headers.extend(told.into_iter().map(|(name, value)| (name.to_owned(), value)));
            }
            self.filter.end(*id, &self.host);
        }
        heads.keys().for_each(|id| assert!(!self.filter.is_waiting(*id)));
        outcomes.into_values().collect()
    }

    fn asked(&mut self) -> Vec<Asked> {
        self.asked.clone()
    }

    fn script(&mut self, path: &str, reply: Reply) {
        self.directory.0.insert(path.to_owned(), reply);
    }

    fn wait(&mut self, time: Duration) {
        // Second by second, as Envoy ticks, and with whatever that asks for answered.
        let until = self.host.now.get() + time;
        while self.host.now.get() < until {
            self.host.now.set(until.min(self.host.now.get() + Duration::from_secs(1)));
            self.filter.tick(&self.host);
            assert!(self.send_all(&[]).is_empty());
        }
    }
}

impl NativeWorld {
    /// Hands a request to the filter, and leaves what it asks unanswered.
    pub fn begin(&mut self, request: &Request) -> (RequestId, Step) {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let headers = headers(request);
        let head = Head::new(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())).collect());
        (id, self.filter.request(id, &head, &self.host))
    }

    /// The upgrade's response comes.
    pub fn open(&mut self, wire: &mut Wire) {
        wire.open(&mut self.filter, &self.host);
    }

    /// A client sends something.
    pub fn client(&mut self, wire: &mut Wire, bytes: &[u8]) {
        wire.client(bytes, &mut self.filter, &self.host);
    }

    /// A service sends something.
    pub fn service(&mut self, wire: &mut Wire, bytes: &[u8]) {
        wire.service(bytes, &mut self.filter, &self.host);
    }

    /// Answers all callouts that are under way, and those that follow from them, each by itself as Envoy does.
    pub fn settle(&mut self, wire: &mut Wire) {
        while !self.host.calls.borrow().is_empty() {
            let (call, callout) = self.host.calls.borrow_mut().remove(0);
            let answer = self.answer(&callout);
            let steps = self.filter.answer(call, answer, &self.host).0;
            wire.take(steps, &mut self.filter, &self.host);
        }
    }

    /// Lets time pass, with a tick at its end.
    pub fn tick_after(&mut self, time: Duration, wire: &mut Wire) {
        self.pause(time);
        let steps = self.filter.tick(&self.host).0;
        wire.take(steps, &mut self.filter, &self.host);
    }

    /// What becomes of an upgrade's response with that status.
    pub fn answers_upgrade(&mut self, id: RequestId, status: &[u8]) -> Option<Step> {
        self.filter.opened(id, status, &self.host)
    }

    /// The paths of all callouts that are under way.
    pub fn under_way(&self) -> Vec<String> {
        self.host.calls.borrow().iter().map(|(_, callout)| callout.path.clone()).collect()
    }

    /// Answers all callouts that are under way.
    pub fn answer_all(&mut self) -> Vec<(RequestId, Step)> {
        let mut steps = Vec::new();
        for (call, callout) in self.host.calls.take() {
            let answer = self.answer(&callout);
            steps.extend(self.filter.answer(call, answer, &self.host).0);
        }
        steps
    }

    /// What is due after some time is done, and gives what happens with connections.
    pub fn tick(&mut self) -> Vec<(RequestId, Step)> {
        self.filter.tick(&self.host).0
    }

    /// How often shared data was looked at.
    pub fn shared_reads(&self) -> usize {
        self.host.shared_reads.get()
    }

    /// Lets time pass without a tick.
    pub fn pause(&self, time: Duration) {
        self.host.now.set(self.host.now.get() + time);
    }

    /// The client goes away.
    pub fn end(&mut self, id: RequestId) {
        self.filter.end(id, &self.host);
    }

    /// What Envoy would give for a callout.
    fn answer(&mut self, callout: &Callout) -> Answer {
        match callout.cluster.as_str() {
            "directory" => {}
            "refusing" => return Answer::Reply { status: 503, body: b"upstream connect error".to_vec() },
            _ => return Answer::Failed { why: "Envoy has no cluster of that name" },
        }
        let headers = callout
            .headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), String::from_utf8_lossy(value).into_owned()));
        let body = match &callout.body {
            Body::None => None,
            Body::Json(body) | Body::Grpc(body) => Some(String::from_utf8_lossy(body).into_owned()),
        };
        self.asked.push(Asked { path: callout.path.clone(), headers: headers.collect(), body });
        match self.directory.0.get(&callout.path) {
            None => Answer::Reply { status: 404, body: Vec::new() },
            Some(Reply::Is(_, body)) if body.len() > callout.answer_limit => Answer::TooLarge,
            Some(Reply::Is(status, body)) => Answer::Reply { status: *status, body: body.clone() },
            Some(Reply::Never) => Answer::Reply { status: 504, body: b"upstream request timeout".to_vec() },
        }
    }
}

/// A version that changes with the value.
pub fn version(value: Option<&[u8]>) -> Version {
    let mut hasher = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(&value, &mut hasher);
    Version(std::hash::Hasher::finish(&hasher) as u32)
}

/// The headers as Envoy gives them: pseudo-headers first, names in lower case, values without blanks at the ends.
fn headers(request: &Request) -> Headers {
    let mut headers = vec![
        (":authority".to_owned(), request.authority.clone()),
        (":path".to_owned(), request.target.clone().into_bytes()),
        (":method".to_owned(), request.method.as_bytes().to_vec()),
    ];
    headers.extend(request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.trim_ascii().to_vec())));
    headers
}

fn outcome(filter: &Filter, request: &Request, headers: &Headers, step: Step) -> Outcome {
    match step {
        Step::Wait | Step::Flow(_) => panic!("{request:?} waits again"),
        Step::Forward(forwarding) => {
            let mut headers = headers.to_vec();
            for edit in forwarding.edits {
                match edit {
                    HeaderEdit::Add(name, value) => {
                        // Envoy would send both.
                        assert!(headers.iter().all(|(other, _)| **other != *name), "{name} is there already");
                        headers.push((name.to_string(), value.to_vec()));
                    }
                    HeaderEdit::Set(name, value) => {
                        headers.retain(|(other, _)| **other != *name);
                        headers.push((name.to_string(), value.to_vec()));
                    }
                    HeaderEdit::Remove(name) => headers.retain(|(other, _)| other.as_bytes() != name),
                }
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let target =
                headers.iter().find(|(name, _)| name == ":path").map(|(_, value)| text(value)).unwrap_or_default();
            headers.retain(|(name, _)| !name.starts_with(':'));
            let headers = headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
            Outcome {
                status: 200,
                headers: Vec::new(),
                body: String::new(),
                details: None,
                arrived: Some(Arrived { target, headers, body_bytes: request.body.len() }),
                log: log(filter, forwarding.decision.as_str(), forwarding.tenant.as_deref()),
            }
        }
        Step::Deny(refusal) => {
            let denial = refusal.denial;
            let details = denial.response_code_details().to_owned();
            let log = log(filter, details.trim_start_matches("tenancy_"), refusal.tenant.as_deref());
            let mut headers: Vec<(String, String)> =
                denial.headers().into_iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect();
            let (mut status, mut body) = (denial.status(), denial.body());
            // Envoy makes these of a local reply by itself.
            if request
                .headers
                .iter()
                .any(|(name, value)| name == "content-type" && value.starts_with(b"application/grpc"))
            {
                headers.retain(|(name, _)| name != "content-type");
                headers.push(("content-type".to_owned(), "application/grpc".to_owned()));
                headers.push(("grpc-status".to_owned(), denial.grpc_status().to_string()));
                headers.push(("grpc-message".to_owned(), std::mem::take(&mut body)));
                status = 200;
            }
            if request.method == "HEAD" {
                body.clear();
            }
            Outcome { status, headers, body, details: Some(details), arrived: None, log }
        }
    }
}

fn log(filter: &Filter, decision: &str, tenant: Option<&Tenant>) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    filter.log_fields(decision, tenant).map(|(field, value)| (field.as_str().to_owned(), text(value))).collect()
}
