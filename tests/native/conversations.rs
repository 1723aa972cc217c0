//! Whole connections by chance: a client that says who it is and then talks, a service that talks back, callouts that are answered at
//! some time, and clocks that go on. Whatever the order and the pieces are, what has gone on is what was sent, up to a place that
//! the frames themselves tell, and no further.

use std::time::Duration;

use envoy_tenancy::filter::{Decision, Step};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

use crate::scenarios::make::{Signer, but, header, token};
use crate::scenarios::world::*;
use crate::wire::Wire;
use crate::world::NativeWorld;

const NOW: u64 = 1_800_000_000;
const PING: &[u8] = b"\x89\x8d\0\0\0\0envoy-tenancy";
const PONG: &[u8] = b"\x8a\x0denvoy-tenancy";
const LEASES: &str = "/tenants/acme/leases/messages";

/// What the first message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Good,
    Expired,
    Forged,
    /// It names another tenant than its token.
    Other,
    NotAuth,
    Bytes,
}

/// How messages are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Not,
    Here,
    ByLease,
}

/// How what the client says ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Open,
    Close,
    Unmasked,
    LoosePiece,
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// So many bytes of the client's come.
    Client(usize),
    Service(usize),
    Opened,
    Answers,
    /// So many seconds pass.
    Tick(u64),
    Suspended,
}

#[derive(Debug, Clone)]
struct Plan {
    first: First,
    /// Where the first message is cut into frames.
    cuts: Vec<Index>,
    /// What the upgrade itself says.
    upgrade_names: Option<&'static str>,
    /// Each message's frames: how long, and how many pings come before.
    messages: Vec<Vec<(usize, usize)>>,
    replies: Vec<usize>,
    last: Last,
    mask: [u8; 4],
    counted: Counted,
    limit: usize,
    /// After how many seconds the token expires.
    expires: u64,
    /// Whether the service that leases units is out of order.
    no_leases: bool,
    events: Vec<Event>,
}

/// What a side sends, and what the frames in it tell.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
    /// Where frames begin and end.
    boundaries: Vec<usize>,
    /// Where messages begin that are counted.
    messages: Vec<usize>,
    /// Where the first message ends.
    introduced: usize,
    /// Where what isn't sound begins.
    unsound: Option<usize>,
}

impl Said {
    fn frame(&mut self, first: u8, payload: &[u8], mask: Option<[u8; 4]>) {
        self.boundaries.push(self.bytes.len());
        let mask_bit = if mask.is_some() { 0x80 } else { 0 };
        self.bytes.push(first);
        match payload.len() {
            short @ 0..126 => self.bytes.push(mask_bit | u8::try_from(short).unwrap()),
            middle @ 126..65_536 => {
                self.bytes.push(mask_bit | 126);
                self.bytes.extend(u16::try_from(middle).unwrap().to_be_bytes());
            }
            long => {
                self.bytes.push(mask_bit | 127);
                self.bytes.extend(u64::try_from(long).unwrap().to_be_bytes());
            }
        }
        self.bytes.extend(mask.iter().flatten());
        let mask = mask.unwrap_or_default();
        self.bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    fn of_client(plan: &Plan) -> Self {
        let mut said = Self::default();
        let mask = Some(plan.mask);
        let text = first(plan.first, plan.expires);
        let mut cuts: Vec<usize> = plan.cuts.iter().map(|cut| cut.index(text.len())).collect();
        cuts.sort_unstable();
        cuts.push(text.len());
        let mut from = 0;
        for (index, to) in cuts.iter().enumerate() {
            if index % 2 == 1 {
                said.frame(0x89, b"are you there?", mask);
            }
            let opcode = if index > 0 { 0 } else { 1 + u8::from(plan.first == First::Bytes) };
            let is_final = u8::from(index + 1 == cuts.len()) << 7;
            said.frame(is_final | opcode, &text[from..*to], mask);
            from = *to;
        }
        said.introduced = said.bytes.len();
        for (number, frames) in plan.messages.iter().enumerate() {
            for (index, (length, pings)) in frames.iter().enumerate() {
                (0..*pings).for_each(|_| said.frame(0x8a, b"", mask));
                let opcode = if index > 0 { 0 } else { 1 + u8::from(number % 2 == 1) };
                if index == 0 {
                    said.messages.push(said.bytes.len());
                }
                let is_final = u8::from(index + 1 == frames.len()) << 7;
                said.frame(is_final | opcode, &vec![b'm'; *length], mask);
            }
        }
        match plan.last {
            Last::Open => {}
            Last::Close => said.frame(0x88, b"\x03\xe8", mask),
            Last::Unmasked | Last::LoosePiece => {
                said.unsound = Some(said.bytes.len());
                let (opcode, mask) = if plan.last == Last::Unmasked { (0x81, None) } else { (0x80, mask) };
                said.frame(opcode, b"what", mask);
            }
        }
        said.boundaries.push(said.bytes.len());
        said
    }

    fn of_service(plan: &Plan) -> Self {
        let mut said = Self::default();
        plan.replies.iter().for_each(|length| said.frame(0x82, &vec![b'r'; *length], None));
        said.boundaries.push(said.bytes.len());
        said
    }
}

fn first(first: First, expires: u64) -> Vec<u8> {
    let exp = if first == First::Expired { NOW - 1 } else { NOW + expires };
    let claims = json!({"tenant_id": "acme", "exp": exp});
    let mut token = token(Signer::Secret, &header(Signer::Secret), &claims);
    if first == First::Forged {
        let place = token.iter().rposition(|byte| *byte == b'.').unwrap() + 2;
        token[place] = if token[place] == b'A' { b'B' } else { b'A' };
    }
    let tenant = if first == First::Other { "hooli" } else { "acme" };
    let action = if first == First::NotAuth { "ping" } else { "auth" };
    json!({"action": action, "token": String::from_utf8(token).unwrap(), "tenantId": tenant}).to_string().into_bytes()
}

fn config(plan: &Plan) -> Value {
    let jwt = json!({"secret": {"env": SECRET_NAME}, "algorithms": ["HS256"], "clockSkewSeconds": 0});
    let mut config = looked_up(json!({"resolution": ["jwt", "header"], "required": false, "jwt": jwt}));
    config["lookupTenant"]["cacheSeconds"] = json!(2);
    config["lookupTenant"]["staleSeconds"] = json!(2);
    config["websocket"] = json!({"authMessage": "required", "recheckSeconds": 4, "authTimeoutSeconds": 20});
    let quota = json!({"quotaKey": "messages", "unit": "message", "period": "month", "limit": plan.limit});
    let connections = json!({"quotaKey": "connections", "unit": "connection", "period": "none", "limit": 1});
    let lease = json!({"lease": {"cluster": "directory", "path": "/tenants/{tenantId}/leases/{quotaKey}"}});
    config["quotas"] = match plan.counted {
        Counted::Not => json!([connections]),
        Counted::Here => json!([connections, quota]),
        Counted::ByLease => json!([connections, but(quota, json!({"count": lease}))]),
    };
    config
}

/// A service that grants all there is at once.
fn granted(limit: usize) -> Reply {
    Reply::json(&json!({
        "periodStart": 1_798_761_600, "resetsAt": 1_801_440_000, "resetsInMs": 1_640_000_000_u64,
        "granted": limit, "usage": 0, "leased": limit, "expiresInMs": 1_000_000,
    }))
}

fn upgrade(names: Option<&str>) -> Request {
    let request = get("any.example/chat").header("connection", "Upgrade").header("upgrade", "websocket");
    match names {
        Some(name) => request.header("x-tenant-id", name),
        None => request,
    }
}

/// How a conversation stands.
struct Talk {
    world: NativeWorld,
    wire: Wire,
    client: Said,
    service: Said,
    /// How much of it has come.
    client_sent: usize,
    service_sent: usize,
    /// What the service answered to a ping.
    ponged: bool,
    is_open: bool,
    is_suspended: bool,
    seconds: u64,
    /// How much had gone when the connection was cut.
    gone_at_cut: Option<(usize, usize)>,
}

impl Talk {
    /// The conversation, if its upgrade goes through.
    fn begin(plan: &Plan) -> Self {
        let leases = if plan.no_leases { Reply::is(503, "") } else { granted(plan.limit) };
        let directory = Directory::of(&tenants()).with(LEASES, leases);
        let mut world = NativeWorld::start(config(plan), directory);
        let (id, mut step) = world.begin(&upgrade(plan.upgrade_names));
        while step == Step::Wait {
            step = world.answer_all().remove(0).1;
        }
        match step {
            Step::Forward(forwarding) => assert_eq!(forwarding.decision, Decision::AwaitsMessage),
            step => panic!("{step:?}"),
        }
        Self {
            world,
            wire: Wire::new(id),
            client: Said::of_client(plan),
            service: Said::of_service(plan),
            client_sent: 0,
            service_sent: 0,
            ponged: false,
            is_open: false,
            is_suspended: false,
            seconds: 0,
            gone_at_cut: None,
        }
    }

    fn go(&mut self, event: Event) {
        match event {
            Event::Client(many) => {
                let to = self.client.bytes.len().min(self.client_sent + many);
                let piece = self.client.bytes[self.client_sent..to].to_vec();
                self.client_sent = to;
                self.world.client(&mut self.wire, &piece);
            }
            // It says nothing before its response.
            Event::Service(_) if !self.is_open => {}
            Event::Service(many) => {
                let to = self.service.bytes.len().min(self.service_sent + many);
                let piece = self.service.bytes[self.service_sent..to].to_vec();
                self.service_sent = to;
                self.world.service(&mut self.wire, &piece);
            }
            Event::Opened if self.is_open => {}
            Event::Opened => {
                self.is_open = true;
                self.world.open(&mut self.wire);
            }
            Event::Answers => self.world.settle(&mut self.wire),
            Event::Tick(seconds) => {
                self.seconds += seconds;
                self.world.tick_after(Duration::from_secs(seconds), &mut self.wire);
            }
            Event::Suspended => {
                self.is_suspended = true;
                self.world.script("/tenants/acme", Reply::json(&json!({"id": "acme", "status": "suspended"})));
            }
        }
    }

    fn was_let_in(&self) -> bool {
        self.wire.decisions.first() == Some(&"allow")
    }

    fn is_over(&self) -> bool {
        self.wire.cut.is_some() || self.wire.decisions.iter().any(|decision| *decision != "allow")
    }

    /// What must hold at every moment.
    fn check(&mut self, plan: &Plan) {
        let (to_service, to_client) = (&self.wire.client.gone, &self.wire.service.gone);
        match self.gone_at_cut {
            None if self.wire.cut.is_some() => self.gone_at_cut = Some((to_service.len(), to_client.len())),
            _ => {}
        }
        // What the service hears: the client's own bytes, then perhaps a ping between two frames, and a close frame.
        let own = to_service.iter().zip(&self.client.bytes).take_while(|(gone, sent)| gone == sent).count();
        let (own, rest) = match find(to_service, PING) {
            Some(at) => (at, &to_service[at + PING.len()..]),
            None if own == to_service.len() => (own, &b""[..]),
            // A close frame without a ping: the client heard of its end by what was held of the service, or by what came of it.
            None => {
                let at = to_service.len() - close_length(to_service).expect("it ends with a close frame");
                (at, &to_service[at..])
            }
        };
        assert_eq!(to_service[..own], self.client.bytes[..own], "the service hears what the client has said");
        assert!(own <= self.client_sent);
        if own < to_service.len() {
            assert!(self.client.boundaries.contains(&own), "at {own} no frame begins");
            assert!(self.is_open, "nothing of ours goes before the 101");
        }
        if !rest.is_empty() {
            assert_eq!(close_length(rest), Some(rest.len()), "{rest:?}");
            assert_eq!(&rest[2..6], &[0; 4]);
        }
        assert!(self.client.unsound.is_none_or(|place| own <= place || cut_header(&self.client, own)), "{own}");
        // What the client hears.
        let heard = to_client.iter().zip(&self.service.bytes).take_while(|(gone, sent)| gone == sent).count();
        if heard < to_client.len() {
            let close = &to_client[heard..];
            let at = close.iter().position(|byte| *byte == 0x88).expect("a close frame");
            assert!(at == 0 && close.len() == usize::from(close[1]) + 2, "{close:?}");
            assert!(self.service.boundaries.contains(&heard), "at {heard} no frame begins");
            assert!(self.wire.decisions.iter().any(|decision| *decision != "allow"));
        }
        // Before the client is let in, nothing of one reaches the other.
        if !self.was_let_in() {
            assert_eq!((own, heard), (0, 0));
        } else {
            assert!(plan.first == First::Good && plan.upgrade_names != Some("hooli"));
            assert!(own == 0 || self.is_open);
        }
        // Messages are counted to the last one.
        if plan.counted != Counted::Not {
            let begun = self.client.messages.iter().filter(|start| **start < own).count();
            let cut = self.client.messages.get(plan.limit).is_some_and(|start| (*start + 1..start + 14).contains(&own));
            assert!(begun <= plan.limit + usize::from(cut), "{begun} of {} messages", plan.limit);
        }
        let decisions = &self.wire.decisions;
        assert!(decisions.len() <= 2 && decisions.iter().skip(1).all(|decision| *decision != "allow"), "{decisions:?}");
        for decision in decisions {
            let is_expected = match *decision {
                "allow" => true,
                "unauthorized" => plan.first != First::Good || self.seconds >= plan.expires.min(20),
                "tenant_mismatch" => plan.first == First::Other || plan.upgrade_names == Some("hooli"),
                "tenant_suspended" => self.is_suspended,
                "quota_exceeded" => plan.counted != Counted::Not && self.client.messages.len() > plan.limit,
                "protocol_error" => self.client.unsound.is_some(),
                // Nobody has answered for so long that the last answer is too old.
                "service_unavailable" => self.seconds >= 4 || (plan.no_leases && plan.counted == Counted::ByLease),
                _ => false,
            };
            assert!(is_expected, "{decisions:?} after {} s", self.seconds);
        }
    }

    /// All that was to come comes, and all is answered.
    fn finish(&mut self, plan: &Plan) {
        for event in [Event::Opened, Event::Client(usize::MAX / 2), Event::Answers, Event::Service(usize::MAX / 2)] {
            if self.wire.cut.is_none() {
                self.go(event);
                self.check(plan);
            }
        }
        if !self.is_over() {
            assert!(self.was_let_in(), "it is judged by now");
            assert_eq!(self.wire.client.gone, self.client.bytes, "nothing is kept without a reason");
            assert_eq!(self.wire.service.gone, self.service.bytes);
            assert!(plan.counted == Counted::Not || self.client.messages.len() <= plan.limit);
            assert_eq!(self.client.unsound, None);
        }
    }

    /// Both sides do what the protocol asks for, until the connection is at its end.
    fn part(&mut self) {
        // Where its frames are lost after the end, its answer can't be found among them.
        let is_lost = self.client.unsound.is_some() && self.wire.decisions.last() != Some(&"protocol_error");
        if self.wire.cut.is_some() || !self.is_over() || is_lost {
            return;
        }
        if !self.ponged && find(&self.wire.client.gone, PING).is_some() {
            self.ponged = true;
            self.world.service(&mut self.wire, PONG);
        }
        let to_client = &self.wire.service.gone;
        let Some(length) = close_length(to_client) else { return };
        let told = to_client[to_client.len() - length + 2..].to_vec();
        let mut answer = Said::default();
        answer.frame(0x88, &told[..2], Some([1, 2, 3, 4]));
        self.world.client(&mut self.wire, &answer.bytes);
        assert_eq!(self.wire.cut, None);
        let to_service = &self.wire.client.gone;
        assert!(to_service.ends_with(&told), "the service is told what the client was told");
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// How long the close frame is with which bytes end.
fn close_length(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(2).rposition(|pair| pair[0] == 0x88 && (pair[1] & 0x7f) >= 2)?;
    let header = if bytes[at + 1] & 0x80 == 0 { 2 } else { 6 };
    let length = header + usize::from(bytes[at + 1] & 0x7f);
    (at + length == bytes.len()).then_some(length)
}

/// Whether a frame's first byte has gone with what came before, and what followed couldn't any more.
fn cut_header(said: &Said, own: usize) -> bool {
    said.unsound.is_some_and(|place| own <= place + 1)
}

fn plan() -> impl Strategy<Value = Plan> {
    let first = prop_oneof![
        12 => Just(First::Good),
        1 => Just(First::Expired),
        1 => Just(First::Forged),
        1 => Just(First::Other),
        1 => Just(First::NotAuth),
        1 => Just(First::Bytes),
    ];
    let names = prop_oneof![4 => Just(None), 2 => Just(Some("acme")), 1 => Just(Some("hooli"))];
    let length = prop_oneof![4 => 0..20_usize, 1 => 120..130_usize, 1 => 0..2000_usize, 1 => 65_530..65_540_usize];
    let message = prop::collection::vec((length, 0..2_usize), 1..4);
    let last = prop_oneof![
        3 => Just(Last::Open),
        1 => Just(Last::Close),
        1 => Just(Last::Unmasked),
        1 => Just(Last::LoosePiece),
    ];
    let counted = prop_oneof![1 => Just(Counted::Not), 2 => Just(Counted::Here), 2 => Just(Counted::ByLease)];
    let size = || prop_oneof![2 => 1..4_usize, 3 => 1..400_usize, 1 => 1..200_000_usize];
    let event = prop_oneof![
        10 => size().prop_map(Event::Client),
        4 => size().prop_map(Event::Service),
        2 => Just(Event::Opened),
        4 => Just(Event::Answers),
        2 => (0..4_u64).prop_map(Event::Tick),
        1 => Just(Event::Suspended),
    ];
    let parts = (
        (first, prop::collection::vec(any::<Index>(), 0..4), names),
        (prop::collection::vec(message, 0..6), prop::collection::vec(0..300_usize, 0..6), last, any::<[u8; 4]>()),
        (counted, 0..5_usize, prop::bool::weighted(0.2), prop::collection::vec(event, 0..60)),
        prop_oneof![3 => Just(100_000), 1 => 1..12_u64],
    );
    parts.prop_map(|(opening, said, (counted, limit, no_leases, events), expires)| {
        let ((first, cuts, upgrade_names), (messages, replies, last, mask)) = (opening, said);
        Plan { first, cuts, upgrade_names, messages, replies, last, mask, counted, limit, expires, no_leases, events }
    })
}

/// The same 500 each time, so that a change is judged by what it changes; or CONVERSATIONS=N new ones.
fn cases() -> ProptestConfig {
    let asked = std::env::var("CONVERSATIONS").ok().map(|text| text.parse().expect("CONVERSATIONS is a number"));
    let rng_seed = if asked.is_some() { RngSeed::Random } else { RngSeed::Fixed(6455) };
    ProptestConfig { rng_seed, failure_persistence: None, ..ProptestConfig::with_cases(asked.unwrap_or(500)) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_goes_on_is_what_was_sent_up_to_a_frame(plan in plan()) {
        let mut talk = Talk::begin(&plan);
        talk.check(&plan);
        for event in &plan.events {
            if talk.wire.cut.is_some() {
                break;
            }
            talk.go(*event);
            talk.check(&plan);
        }
        talk.finish(&plan);
        talk.part();
        talk.world.end(talk.wire.id);
        // Its unit of the level is free again, however it ended.
        talk.world.script("/tenants/acme", Reply::json(&tenants()[0]));
        talk.world.pause(Duration::from_secs(10));
        let mut next = Wire::new({
            let (id, step) = talk.world.begin(&upgrade(None));
            assert!(matches!(step, Step::Forward(_)));
            id
        });
        talk.world.open(&mut next);
        let mut said = Said::default();
        said.frame(0x81, &first(First::Good, 100_000), Some(plan.mask));
        talk.world.client(&mut next, &said.bytes);
        talk.world.settle(&mut next);
        prop_assert_eq!(next.decisions, ["allow"]);
    }
}
