//! What is measured: the requests, the filter's configuration, what people would use instead, and the goal.
//!
//! A bench called `quota` has its configuration in `bench/variants/quota.tenancy.yaml`, where not another file is named.

use std::cell::RefCell;
use std::rc::Rc;

use http::Request;

use crate::service;
use crate::tokens::{Algorithm, Keys};

/// The rounds before the ones that count.
pub const WARM_UP_ROUNDS: u32 = 3;
/// Each bench has no filter, the filter, and the peer.
pub const SIDES: usize = 3;
/// The place of no filter among them.
pub const NO_FILTER: usize = 0;
/// The name of the listener without a filter.
pub const BASELINE: &str = "none";

/// Makes the request of that number.
pub type MakeRequest = Box<dyn Fn(usize) -> Request<()>>;

/// One comparison.
pub struct Bench {
    /// What `make bench BENCH=` calls it.
    pub name: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// What the table calls the peer.
    pub against: &'static str,
    /// The files of the two variants in `bench/variants/`, without `.yaml`.
    pub ours: &'static str,
    pub peer: &'static str,
    pub goal: Goal,
    /// What is measured.
    pub request: MakeRequest,
    /// How all of those are answered.
    pub status: u16,
    /// How many of them are a slice.
    pub slice: usize,
    /// What each side is sent once, so that the worker's memory is as full as it gets.
    pub fill: Vec<Request<()>>,
    /// What is compared, too, before anything is measured.
    pub also: Vec<Request<()>>,
    /// The headers of the request that both set, or leave as the service needs them.
    pub forwarded: &'static [&'static str],
}

/// What the filter may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// So many times what the peer costs.
    Times(f64),
    /// So many microseconds more than the peer.
    More(f64),
}

impl Bench {
    /// The listeners of its sides, in their order.
    pub fn listeners(&self) -> [String; SIDES] {
        [BASELINE, self.ours, self.peer].map(str::to_owned)
    }
}

/// The headers that the filter sets by default, where tenants have no slug, and the path.
const FORWARDED: &[&str] = &[":path", "x-tenant-id", "x-tenant-plan", "x-tenant-isolation"];
/// The tenants that may be served, of `bench/variants/tenants.json`.
pub const ACTIVE: [&str; 7] = ["acme", "hooli", "initech", "stark", "tyrell", "umbrella", "wayne"];
const SLICE: usize = 300;
/// Where each request costs ten times as much, fewer say as much.
const SHORT_SLICE: usize = 100;
/// A worker remembers 10,000 tenants.
const MORE_THAN_REMEMBERED: usize = 11_000;
/// Where the numbers of new tokens begin.
const FIRST_NEW: usize = 1_000_000;

/// All of them.
pub fn all(keys: &Rc<Keys>) -> Vec<Bench> {
    let mut benches = strategies();
    benches.extend(quotas(keys));
    benches.extend(refusals());
    benches.extend(directory());
    benches.extend(tokens(keys));
    benches
}

fn strategies() -> Vec<Bench> {
    let stripped = &[":path", "x-tenant-id", "x-tenant-plan", "x-tenant-isolation", "x-forwarded-prefix"];
    let by_path = |tenant: &str| get(HOST, &format!("/t/{tenant}/api/tasks?page=2"));
    let by_header = |tenant: &str| with(get(HOST, PATH), "x-tenant-id", tenant);
    let by_query = |tenant: &str| get(HOST, &format!("/api/tasks?tenant={tenant}&page=2"));
    let lua = |name, title, ours, peer, tenant: fn(&str) -> Request<()>, forwarded| Bench {
        name,
        title,
        against: "Lua",
        ours,
        peer,
        goal: Goal::Times(0.95),
        request: Box::new(move |number| tenant(active(number))),
        status: 200,
        slice: SLICE,
        fill: Vec::new(),
        also: vec![
            tenant("nobody"),
            tenant("globex"),
            with(tenant("acme"), "x-tenant-plan", "forged"),
            get(HOST, PATH),
        ],
        forwarded,
    };
    vec![
        lua("subdomain", "tenant by subdomain", "subdomain.tenancy", "subdomain.lua", by_host, FORWARDED),
        lua("logged", "the same, with log fields", "logged.tenancy", "logged.lua", by_host, FORWARDED),
        lua("path", "by path, stripped", "path.tenancy", "path.lua", by_path, stripped),
        lua("header", "by header", "header.tenancy", "header.lua", by_header, FORWARDED),
        lua("query", "by query", "query.tenancy", "query.lua", by_query, FORWARDED),
        Bench {
            name: "excluded",
            title: "an excluded path",
            against: "the filter switched off by route",
            ours: "excluded.tenancy",
            peer: "excluded.by_route",
            goal: Goal::More(2.5),
            request: Box::new(|_| get("acme.app.example.com", "/healthz")),
            status: 200,
            slice: SLICE,
            fill: Vec::new(),
            also: vec![by_host("acme"), by_host("globex")],
            forwarded: &[":path"],
        },
    ]
}

fn quotas(keys: &Keys) -> Vec<Bench> {
    let bearer = |tenant: &str, of: &str| {
        let token = keys.token(Algorithm::RS256, of, 0);
        with(by_host(tenant), "authorization", &format!("Bearer {token}"))
    };
    let seen: Vec<Request<()>> = ACTIVE.iter().map(|tenant| bearer(tenant, tenant)).collect();
    vec![
        Bench {
            name: "quota",
            title: "by subdomain, exact quota",
            against: "Lua + local_ratelimit",
            ours: "quota.tenancy",
            peer: "quota.lua_ratelimit",
            goal: Goal::Times(0.90),
            request: Box::new(|number| by_host(active(number))),
            status: 200,
            slice: SLICE,
            fill: Vec::new(),
            also: vec![by_host("nobody"), by_host("globex")],
            forwarded: FORWARDED,
        },
        Bench {
            name: "stack",
            title: "the whole stack: token seen before, agreement, headers, exact quota",
            against: "jwt_authn with its cache + Lua + local_ratelimit",
            ours: "stack.tenancy",
            peer: "stack.native",
            goal: Goal::Times(0.55),
            request: in_turn(seen),
            status: 200,
            slice: SLICE,
            fill: Vec::new(),
            also: vec![bearer("globex", "globex"), bearer("nobody", "nobody"), bearer("hooli", "acme")],
            forwarded: FORWARDED,
        },
    ]
}

fn refusals() -> Vec<Bench> {
    let refusal = |name, title, ours, peer, tenant, status| Bench {
        name,
        title,
        against: "Lua respond",
        ours,
        peer,
        goal: Goal::Times(0.90),
        request: Box::new(move |_| by_host(tenant)),
        status,
        slice: SLICE,
        fill: Vec::new(),
        also: Vec::new(),
        forwarded: FORWARDED,
    };
    vec![
        refusal("refused_404", "refused: unknown, 404", "subdomain.tenancy", "subdomain.lua", "nobody", 404),
        refusal("refused_403", "refused: suspended, 403", "subdomain.tenancy", "subdomain.lua", "globex", 403),
        refusal(
            "refused_429",
            "refused: quota used up, 429",
            "quota_refused.tenancy",
            "quota_refused.lua",
            "umbrella",
            429,
        ),
    ]
}

fn directory() -> Vec<Bench> {
    let bench = |name, title, goal, request, slice| Bench {
        name,
        title,
        against: "ext_authz for every request, HTTP/2",
        ours: "directory.tenancy",
        peer: "directory.ext_authz",
        goal,
        request,
        status: 200,
        slice,
        fill: Vec::new(),
        also: Vec::new(),
        forwarded: FORWARDED,
    };
    // The service behind both knows every name.
    let new = |number: usize| by_host(&format!("tenant-{number}"));
    vec![
        bench(
            "held",
            "a tenant of the directory, held",
            Goal::Times(0.20),
            Box::new(|number| by_host(active(number))),
            SLICE,
        ),
        bench("miss", "a miss with its callout", Goal::Times(1.10), Box::new(new), SHORT_SLICE),
        Bench {
            name: "many",
            title: "a tenant of a snapshot of 100,000, each worker's memory full",
            against: "of a snapshot of 10",
            ours: "many.tenancy",
            peer: "few.tenancy",
            goal: Goal::Times(1.10),
            request: Box::new(|number| by_host(active(number))),
            status: 200,
            slice: SLICE,
            fill: many_others(),
            also: vec![by_host("nobody")],
            forwarded: FORWARDED,
        },
    ]
}

/// More tenants of a large directory than a worker remembers. A small one doesn't have them.
pub fn many_others() -> Vec<Request<()>> {
    (ACTIVE.len()..MORE_THAN_REMEMBERED).map(|number| by_host(&service::name(number))).collect()
}

fn tokens(keys: &Rc<Keys>) -> Vec<Bench> {
    let bearer = |keys: &Keys, algorithm, number| {
        let token = keys.token(algorithm, active(number), number);
        with(get(HOST, PATH), "authorization", &format!("Bearer {token}"))
    };
    let seen = (0..1000).map(|number| bearer(keys, Algorithm::RS256, number)).collect();
    // Each is made when it is first needed, and then serves all sides. They are none of those that are sent again and again.
    let new = |algorithm: Algorithm| -> MakeRequest {
        let (keys, made) = (Rc::clone(keys), RefCell::new(Vec::new()));
        Box::new(move |number| {
            let mut made = made.borrow_mut();
            while made.len() <= number {
                let next = bearer(&keys, algorithm, FIRST_NEW + made.len());
                made.push(next);
            }
            made.get(number).cloned().unwrap_or_default()
        })
    };
    let bench = |name, title, against, ours, peer, goal, request, slice| Bench {
        name,
        title,
        against,
        ours,
        peer,
        goal: Goal::Times(goal),
        request,
        status: 200,
        slice,
        fill: Vec::new(),
        also: Vec::new(),
        forwarded: &["x-tenant-id", ":path"],
    };
    let (alone, cached) = ("jwt_authn", "jwt_authn with its cache");
    vec![
        bench(
            "token_seen",
            "a token seen before, 1,000 in turn",
            cached,
            "token_rs256.tenancy",
            "token_seen.jwt_authn",
            1.25,
            in_turn(seen),
            SLICE,
        ),
        bench(
            "token_rs256",
            "a new token, RS256",
            alone,
            "token_rs256.tenancy",
            "token_rs256.jwt_authn",
            0.90,
            new(Algorithm::RS256),
            SHORT_SLICE,
        ),
        bench(
            "token_es256",
            "a new token, ES256",
            alone,
            "token_es256.tenancy",
            "token_es256.jwt_authn",
            0.95,
            new(Algorithm::ES256),
            SHORT_SLICE,
        ),
        bench(
            "token_hs256",
            "a new token, HS256",
            alone,
            "token_hs256.tenancy",
            "token_hs256.jwt_authn",
            0.60,
            new(Algorithm::HS256),
            SHORT_SLICE,
        ),
        bench(
            "token_eddsa",
            "a new token, EdDSA",
            alone,
            "token_eddsa.tenancy",
            "token_eddsa.jwt_authn",
            1.40,
            new(Algorithm::EdDSA),
            SHORT_SLICE,
        ),
    ]
}

const HOST: &str = "app.example.com";
const PATH: &str = "/api/tasks?page=2";

pub fn active(number: usize) -> &'static str {
    ACTIVE.iter().cycle().nth(number % ACTIVE.len()).copied().unwrap_or_default()
}

fn in_turn(requests: Vec<Request<()>>) -> MakeRequest {
    let requests = Rc::new(requests);
    Box::new(move |number| requests.get(number % requests.len().max(1)).cloned().unwrap_or_default())
}

pub fn by_host(tenant: &str) -> Request<()> {
    get(&format!("{tenant}.app.example.com"), PATH)
}

/// What an ordinary client sends.
fn get(authority: &str, path: &str) -> Request<()> {
    let request = Request::get(format!("http://{authority}{path}"));
    let request = request.header("user-agent", "bench/1.0").header("accept", "application/json");
    request.header("accept-encoding", "gzip, deflate, br").body(()).unwrap_or_default()
}

fn with(mut request: Request<()>, name: &'static str, value: &str) -> Request<()> {
    if let Ok(value) = value.parse() {
        request.headers_mut().insert(name, value);
    }
    request
}
