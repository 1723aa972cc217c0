//! What a scenario says and sees, in whichever world it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// A place where a configured filter judges requests.
pub trait World: Sized {
    /// Starts the filter with a configuration, and a directory that answers as scripted. The directory's cluster is called
    /// `directory`; a cluster `refusing` has an endpoint where nobody listens.
    fn start(config: Value, directory: Directory) -> Self;

    /// Sends requests, all at once, and gives what came of each, in order.
    fn send_all(&mut self, requests: &[Request]) -> Vec<Outcome>;

    /// What the directory was asked so far: method, path, and headers.
    fn asked(&mut self) -> Vec<Asked>;

    /// Changes what the directory answers from now on.
    fn script(&mut self, path: &str, reply: Reply);

    /// Lets time pass.
    fn wait(&mut self, time: Duration);

    /// Sends one request.
    fn send(&mut self, request: &Request) -> Outcome {
        self.send_all(std::slice::from_ref(request)).remove(0)
    }
}

/// The environment variable, and its value, that every world's VM has for tokens signed with a secret.
pub const SECRET_NAME: &str = "TENANCY_JWT_SECRET";
pub use super::make::SECRET;

/// The directory's script: path → reply. Any other path gets 404.
#[derive(Debug, Clone, Default)]
pub struct Directory(pub BTreeMap<String, Reply>);

/// What a service answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A status and a body.
    Is(u16, Vec<u8>),
    /// Nothing, until the caller gives up.
    Never,
}

/// What a service was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The request target.
    pub path: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body, of a POST.
    pub body: Option<String>,
}

/// A client's request.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: &'static str,
    pub authority: Vec<u8>,
    pub target: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    pub http2: bool,
}

/// What came of a request.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// Envoy's response code details, of a refusal.
    pub details: Option<String>,
    /// What the service behind received, if it received anything.
    pub arrived: Option<Arrived>,
    /// The log fields that the filter wrote: name without `tenant_` → value.
    pub log: BTreeMap<String, String>,
}

/// A request as the service receives it.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body_bytes: usize,
}

impl Directory {
    /// With these tenants under their ids and slugs, and nothing else.
    pub fn of(tenants: &[Value]) -> Self {
        let mut directory = Self::default();
        for tenant in tenants {
            for name in [&tenant["id"], &tenant["slug"]].into_iter().filter_map(Value::as_str) {
                directory = directory.with(&format!("/tenants/{name}"), Reply::json(tenant));
            }
        }
        directory
    }

    pub fn with(mut self, path: &str, reply: Reply) -> Self {
        self.0.insert(path.to_owned(), reply);
        self
    }
}

impl Reply {
    pub fn json(body: &Value) -> Self {
        Self::Is(200, body.to_string().into_bytes())
    }

    pub fn is(status: u16, body: &str) -> Self {
        Self::Is(status, body.as_bytes().to_vec())
    }
}

/// A GET of `http://AUTHORITY/TARGET`, written without `http://`.
pub fn get(url: &str) -> Request {
    let cut = url.find('/').unwrap_or(url.len());
    let (authority, target) = url.split_at(cut);
    let target = if target.is_empty() { "/" } else { target };
    Request {
        method: "GET",
        authority: authority.as_bytes().to_vec(),
        target: target.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        http2: false,
    }
}

impl Request {
    pub fn header(self, name: &str, value: &str) -> Self {
        self.raw_header(name, value.as_bytes())
    }

    pub fn raw_header(mut self, name: &str, value: &[u8]) -> Self {
        self.headers.push((name.to_owned(), value.to_vec()));
        self
    }

    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    pub fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    pub fn post(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self.method("POST")
    }
}

impl Outcome {
    /// Asserts that the service received it, with these headers; an empty value stands for a header that must be missing.
    #[track_caller]
    pub fn reaches(&self, headers: &[(&str, &str)]) -> &Arrived {
        let Some(arrived) = &self.arrived else { panic!("expected it to arrive, but: {self:?}") };
        for (name, value) in headers {
            let expected: &[&str] = if value.is_empty() { &[] } else { &[value] };
            assert_eq!(arrived.all(name), expected, "header {name} of {arrived:?}");
        }
        arrived
    }

    /// Asserts that it was refused with that code, and never arrived.
    #[track_caller]
    pub fn is_refused(&self, status: u16, code: &str) -> Value {
        assert!(self.arrived.is_none(), "expected {code}, but it arrived: {self:?}");
        assert_eq!(self.status, status, "{self:?}");
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(body["error"]["code"], code, "{body}");
        assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
        assert_eq!(self.details.as_deref(), Some(&*format!("tenancy_{}", code.to_lowercase())), "{self:?}");
        assert_eq!(self.header("content-type"), ["application/json"], "{self:?}");
        body["error"]["details"].clone()
    }

    /// All values of a response header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| &**value).collect()
    }
}

impl Arrived {
    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| &**value).collect()
    }
}

/// What a row of a table expects.
#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// It arrives as this tenant's.
    Tenant(&'static str),
    /// It arrives without a tenant.
    NoTenant,
    /// It is refused.
    Refused(u16, &'static str),
}

pub const NOT_FOUND: Expect = Expect::Refused(404, "TENANT_NOT_FOUND");
pub const AMBIGUOUS: Expect = Expect::Refused(403, "TENANT_AMBIGUOUS");
pub const MISMATCH: Expect = Expect::Refused(403, "TENANT_MISMATCH");
pub const UNAVAILABLE: Expect = Expect::Refused(503, "SERVICE_UNAVAILABLE");

/// Sends each row's request, and looks at what comes of it.
#[track_caller]
pub fn check<W: World>(world: &mut W, rows: &[(Request, Expect)]) {
    for (request, expected) in rows {
        let outcome = world.send(request);
        eprintln!("{request:?}");
        match expected {
            Expect::Tenant(id) => drop(outcome.reaches(&[("x-tenant-id", id)]).clone()),
            Expect::NoTenant => {
                drop(outcome.reaches(&[("x-tenant-id", ""), ("x-tenant-slug", ""), ("x-tenant-plan", "")]).clone())
            }
            Expect::Refused(status, code) => drop(outcome.is_refused(*status, code)),
        }
    }
}

/// The tenants that every scenario knows.
pub fn tenants() -> Vec<Value> {
    vec![
        json!({"id": "acme", "slug": "acme-slug", "metadata": {"plan": "pro"}}),
        json!({"id": "hooli", "slug": "hooli", "status": "active", "metadata": {"plan": "enterprise"}}),
        json!({"id": "globex", "slug": "globex", "status": "suspended"}),
        json!({"id": "initech", "slug": "initech", "status": "inactive"}),
    ]
}

/// A configuration with those tenants inline.
pub fn inline(isolation: Value) -> Value {
    json!({"isolation": isolation, "tenants": tenants()})
}

/// A configuration that asks the directory for tenants.
pub fn looked_up(isolation: Value) -> Value {
    json!({"isolation": isolation, "lookupTenant": {"cluster": "directory", "path": "/tenants/{tenantId}"}})
}
