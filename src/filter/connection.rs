//! One WebSocket connection: what of its bytes may pass, and how it ends.
//!
//! Envoy lets nobody put bytes into a stream at any moment. A close frame has to ride on bytes that are in hand: in the place of what
//! one side has just sent, or of what Envoy holds of it. Where they are the client's, the service is sent a ping in their place, and
//! its pong makes room for the close frame; then the client's own close frame does for one to the service. The service is not told
//! first: it would close the connection, and what a client sends at that moment would take the close frame with it, as TCP has it.
//! A connection that is to end waits a moment for bytes in hand, and is cut where none come.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::Event;
use crate::denial::Denial;
use crate::jwt::TokenFault;
use crate::tenant::Tenant;
use crate::websocket::{AuthText, Close, Frames, Header, Opcode, Side, Unfit, Violation};

/// How long a connection that is to end waits for bytes that a close frame can ride on, and then for the other side's answer.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long one waits that has nothing to say and nothing to hear: until the next tick.
const IDLE: Duration = Duration::from_millis(900);
/// A ping as a client sends it, with a mask of zeros, by whose length its pong is known.
const PING: [u8; 19] = *b"\x89\x8d\0\0\0\0envoy-tenancy";
/// How long its payload is.
const PING_PAYLOAD: u64 = 13;
/// How many bytes of a piece are read at once to find frames' headers. Payloads beyond are passed over unread.
const WINDOW: usize = 512;

/// Bytes of one side that are in hand: what has just come, after what Envoy holds of it.
#[derive(Clone, Copy)]
pub struct Piece<'p> {
    /// How many there are.
    pub size: usize,
    /// Gives so many of them from a place on.
    pub read: &'p dyn Fn(usize, usize) -> Vec<u8>,
    /// Whether that side sends nothing after them.
    pub is_last: bool,
}

/// What happens with the bytes in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passage {
    /// They stay as they are: on their way, or held.
    Unchanged,
    /// They go on.
    Pass,
    /// Envoy holds them.
    Hold,
    /// Only the first `keep` go on, and these bytes after them.
    Rewrite {
        /// How many go on.
        keep: usize,
        /// What comes after.
        then: Vec<u8>,
    },
}

impl Passage {
    /// Nothing of them goes on.
    pub const NOTHING: Self = Self::Rewrite { keep: 0, then: Vec::new() };
}

/// What happens with a connection next.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// What the client has sent.
    pub client: Passage,
    /// What the service has sent.
    pub service: Passage,
    /// That it ends now, without a close frame or after it.
    pub cut: Option<Cut>,
    /// Whether what Envoy holds of the client is to be taken up again.
    pub proceeds: bool,
    /// What has become of the connection, in order, for logs and metrics.
    pub verdicts: Vec<Verdict>,
    /// What its quotas have to report.
    pub events: Vec<Event>,
}

/// What has become of a connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The decision, as logs and metrics name it.
    pub decision: &'static str,
    /// Its tenant, where it is known.
    pub tenant: Option<Rc<Tenant>>,
}

/// How a connection is cut. A client whose upgrade has no response yet gets this as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// By a refusal.
    Refusal(Denial),
    /// Because what the client has sent can't be read.
    Fault {
        /// The response's status.
        status: u16,
        /// Envoy's response code details.
        details: &'static str,
    },
}

impl Cut {
    /// Envoy's response code details.
    pub const fn details(&self) -> &'static str {
        match self {
            Self::Refusal(denial) => denial.response_code_details(),
            Self::Fault { details, .. } => details,
        }
    }
}

impl Flow {
    /// Nothing happens.
    pub const fn unchanged() -> Self {
        Self {
            client: Passage::Unchanged,
            service: Passage::Unchanged,
            cut: None,
            proceeds: false,
            verdicts: Vec::new(),
            events: Vec::new(),
        }
    }

    /// This, and what happens before it in the same callback: what of the service was let go, and what is to be reported.
    pub fn after(self, mut earlier: Self) -> Self {
        earlier.verdicts.extend(self.verdicts);
        earlier.events.extend(self.events);
        let service = if self.service == Passage::Unchanged { earlier.service } else { self.service };
        Self { service, verdicts: earlier.verdicts, events: earlier.events, ..self }
    }

    /// The client's bytes do this.
    pub fn of_client(client: Passage) -> Self {
        Self { client, ..Self::unchanged() }
    }

    /// The service's bytes do this.
    pub fn of_service(service: Passage) -> Self {
        Self { service, ..Self::unchanged() }
    }
}

/// Where in a client's bytes a close frame for the service can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before this one of them, between two frames.
    At(usize),
    /// Nowhere: a part of the frame that must not go on has gone.
    Broken,
    /// Nowhere now: nothing is in hand, or no frame ends in it.
    Nowhere,
}

impl Place {
    /// The place where a frame begins that must not go on, if it begins in what is in hand.
    pub fn of(start: Option<usize>) -> Self {
        start.map_or(Self::Broken, Self::At)
    }
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// What the client is told, where it can be.
    pub close: Close,
    /// How it is cut.
    pub cut: Cut,
}

impl Ending {
    /// It is refused.
    pub fn refused(denial: Denial) -> Self {
        Self { close: Close::policy(denial.close_reason()), cut: Cut::Refusal(denial) }
    }

    /// No auth message has come in time.
    pub fn too_late() -> Self {
        let ending = Self::refused(Denial::Unauthorized(TokenFault::Missing));
        Self { close: Close::policy("UNAUTHORIZED: no auth message in time"), ..ending }
    }

    /// What the client sends are no frames.
    pub fn violation(violation: Violation) -> Self {
        let cut = Cut::Fault { status: 403, details: "tenancy_protocol_error" };
        Self { close: Close::protocol_error(violation.reason()), cut }
    }

    /// The first message can't be the auth message.
    pub fn unfit(unfit: Unfit) -> Self {
        let missing = Self::refused(Denial::Unauthorized(TokenFault::Missing));
        match unfit {
            Unfit::TooLong => {
                let cut = Cut::Fault { status: 413, details: "tenancy_message_too_large" };
                Self { close: Close::too_large("the auth message is too long"), cut }
            }
            Unfit::NotText => {
                Self { close: Close::policy("UNAUTHORIZED: the first message is no auth message"), ..missing }
            }
            Unfit::Closed => Self { close: Close::normal(), ..missing },
        }
    }

    fn verdict(&self, tenant: Option<&Rc<Tenant>>) -> Verdict {
        let details = self.cut.details();
        let decision = details.strip_prefix("tenancy_").unwrap_or(details);
        Verdict { decision, tenant: tenant.cloned() }
    }
}

/// A connection, from its upgrade to its end.
pub struct Connection {
    /// Where it stands.
    pub stage: Stage,
    /// Whether the upgrade's response has come.
    pub is_open: bool,
    /// Its tenant, once known.
    pub tenant: Option<Rc<Tenant>>,
    /// The first moment at which its token no longer holds.
    pub token_until: Option<SystemTime>,
    /// When its tenant is to be looked up again, by the monotonic clock.
    pub recheck_at: Option<Duration>,
    /// Messages of the client that are yet to be counted, by where they begin in what is in hand, if they begin there.
    pub uncounted: VecDeque<Option<usize>>,
    /// What is wrong with the client's frames, and where, if that is in what is in hand.
    pub violation: Option<(Violation, Option<usize>)>,
    /// Whether it has come without a token.
    pub by_message: bool,
    counts: bool,
    client: Frames,
    service: Frames,
    /// How many of the client's bytes that Envoy holds have been looked at.
    scanned: usize,
    /// Whether Envoy holds bytes of the client, or could be given some in their place.
    holds_client: bool,
    holds_service: bool,
    /// How many of the service's bytes that Envoy holds have been looked at.
    service_scanned: usize,
    /// Nobody knows where a frame of the service begins.
    service_lost: bool,
}

/// Where a connection stands.
pub enum Stage {
    /// It waits for the auth message.
    Awaits {
        /// Until when, by the monotonic clock.
        deadline: Duration,
        /// What of it has come.
        text: AuthText,
    },
    /// The auth message is there, and waits for what is being asked about it.
    Judged,
    /// It is its tenant's.
    Passes,
    /// A message of the client waits for a quota.
    Counts,
    /// It ends.
    Ends(Farewell),
}

/// The end of a connection.
pub struct Farewell {
    ending: Ending,
    /// When it is cut, by the monotonic clock.
    deadline: Duration,
    /// Nothing but close frames may pass any more: it has never been its tenant's.
    withholds: bool,
    /// The service was sent a ping, and what it sends before the pong goes on.
    awaits_pong: bool,
    /// A part of a client's frame has gone to the service.
    within_frame: bool,
    client_told: bool,
    service_told: bool,
    /// The client's own close frame has come, or nobody knows where its frames begin: whatever comes next is taken for its answer.
    client_has_left: bool,
}

/// What was found in a client's piece.
pub enum Found {
    /// All of it are frames, and the auth message isn't whole.
    Nothing,
    /// The text of the auth message.
    Text(Vec<u8>),
    /// What ends the connection.
    End(Ending),
}

impl Connection {
    /// A connection whose upgrade goes to the service. `may_extend` says that both sides may agree on an
    /// extension, `counts` that the client's messages are counted.
    pub fn new(stage: Stage, tenant: Option<Rc<Tenant>>, may_extend: bool, counts: bool) -> Self {
        Self {
            by_message: matches!(stage, Stage::Awaits { .. }),
            violation: None,
            stage,
            is_open: false,
            tenant,
            token_until: None,
            recheck_at: None,
            uncounted: VecDeque::new(),
            counts,
            client: Frames::new(Side::Client, may_extend),
            service: Frames::new(Side::Service, may_extend),
            scanned: 0,
            holds_client: false,
            holds_service: false,
            service_scanned: 0,
            service_lost: false,
        }
    }

    /// Has Envoy hold what the client has sent.
    pub fn hold_client(&mut self) -> Flow {
        self.holds_client = true;
        Flow::of_client(Passage::Hold)
    }

    /// Lets go on what the client has sent.
    pub fn pass_client(&mut self) -> Passage {
        self.holds_client = false;
        self.scanned = 0;
        Passage::Pass
    }

    /// Has Envoy hold what the service has sent.
    pub fn hold_service(&mut self, piece: Piece<'_>) -> Flow {
        self.follow_service(piece, self.service_scanned);
        self.holds_service = true;
        self.service_scanned = piece.size;
        Flow::of_service(Passage::Hold)
    }

    /// Lets go on what the service has sent.
    pub fn pass_service(&mut self, piece: Piece<'_>) -> Flow {
        self.follow_service(piece, 0);
        Flow::of_service(Passage::Pass)
    }

    /// Lets go on what Envoy holds of the service.
    pub fn release_service(&mut self) -> Passage {
        self.service_scanned = 0;
        if std::mem::take(&mut self.holds_service) { Passage::Pass } else { Passage::Unchanged }
    }

    /// Whether Envoy holds bytes of the client.
    pub fn holds_client(&self) -> bool {
        self.holds_client
    }

    /// Looks for the auth message in what the client has sent; it may have `most` bytes.
    pub fn find_auth(&mut self, piece: Piece<'_>, most: u64) -> Found {
        let Stage::Awaits { text, .. } = &mut self.stage else { return Found::Nothing };
        let mut cursor = Cursor::new(&mut self.client, piece, self.scanned);
        loop {
            cursor.skip();
            // What follows it in the same piece is for later.
            if text.is_whole(cursor.frames) {
                self.scanned = cursor.at;
                return Found::Text(AuthText::read(&(piece.read)(0, self.scanned)));
            }
            match cursor.next() {
                None => break,
                Some((_, Err(violation))) => return Found::End(Ending::violation(violation)),
                Some((_, Ok(header))) => {
                    if let Err(unfit) = text.take_header(header, most) {
                        return Found::End(Ending::unfit(unfit));
                    }
                }
            }
        }
        self.scanned = piece.size;
        // Pings, and the headers of many small pieces, are held with it.
        if u64::try_from(piece.size).unwrap_or(u64::MAX) > most.saturating_mul(8) {
            return Found::End(Ending::unfit(Unfit::TooLong));
        }
        Found::Nothing
    }

    /// Looks for messages in what the client has sent, and notes where they begin, and what is wrong with the frames, if anything is.
    #[inline(never)]
    pub fn find_messages(&mut self, piece: Piece<'_>) {
        let scanned = std::mem::replace(&mut self.scanned, piece.size);
        if self.violation.is_some() {
            return;
        }
        let mut cursor = Cursor::new(&mut self.client, piece, scanned);
        while let Some((start, header)) = cursor.next() {
            match header {
                Err(violation) => {
                    self.violation = Some((violation, start));
                    return;
                }
                Ok(header) if self.counts && header.opcode.begins_message() => self.uncounted.push_back(start),
                Ok(_) => {}
            }
        }
    }

    /// Follows the service's frames, so that it is known where the next one begins.
    fn follow_service(&mut self, piece: Piece<'_>, from: usize) {
        if self.service_lost {
            return;
        }
        let mut cursor = Cursor::new(&mut self.service, piece, from);
        while let Some((_, header)) = cursor.next() {
            if header.is_err() {
                self.service_lost = true;
                return;
            }
        }
    }

    /// Where something for the service can take the place of what follows in a client's piece.
    pub fn place(&mut self, piece: Piece<'_>) -> Place {
        let mut cursor = Cursor::new(&mut self.client, piece, self.scanned);
        let place = match self.uncounted.front() {
            Some(start) => Place::of(*start),
            None => cursor.boundary().map_or(Place::Nowhere, Place::At),
        };
        // What follows won't go on, but the client's own close frame is still to be found.
        while cursor.next().is_some_and(|(_, header)| header.is_ok()) {}
        place
    }

    /// The same where nothing has come: in what Envoy holds.
    pub fn held_place(&self) -> Place {
        match (self.uncounted.front(), self.holds_client) {
            (_, false) => Place::Nowhere,
            (Some(start), true) => Place::of(*start),
            (None, true) => Place::At(0),
        }
    }

    /// Ends the connection.
    #[inline(never)]
    pub fn end(&mut self, ending: Ending, place: Place, now: Duration) -> Flow {
        let withholds = matches!(self.stage, Stage::Awaits { .. } | Stage::Judged);
        let mut flow = Flow { verdicts: vec![ending.verdict(self.tenant.as_ref())], ..Flow::unchanged() };
        let client_told = withholds && std::mem::take(&mut self.holds_service);
        if client_told {
            flow.service = Passage::Rewrite { keep: 0, then: ending.close.to_client() };
        }
        match place {
            // A service whose response hasn't come would take a ping for another request.
            Place::At(_) if client_told || !self.is_open => flow.client = Passage::NOTHING,
            Place::At(keep) => flow.client = Passage::Rewrite { keep, then: PING.to_vec() },
            Place::Broken => flow.client = Passage::NOTHING,
            Place::Nowhere => {}
        }
        let awaits_pong = matches!(place, Place::At(_)) && !client_told;
        let goes_well = client_told || awaits_pong;
        // A client that has never been let in is not waited for: what it sent now would be too late.
        if !self.is_open || place == Place::Broken || (withholds && !goes_well) {
            flow.cut = Some(ending.cut.clone());
        }
        self.holds_client &= place == Place::Nowhere;
        self.uncounted.clear();
        self.scanned = 0;
        // What came with an auth message has not been looked at.
        let client_has_left = self.violation.take().is_some() || withholds;
        let deadline = now.saturating_add(if goes_well { FAREWELL } else { IDLE });
        self.stage = Stage::Ends(Farewell {
            ending,
            deadline,
            withholds,
            awaits_pong,
            within_frame: place == Place::Nowhere && !withholds && !self.client.is_between(),
            client_told,
            service_told: false,
            client_has_left,
        });
        flow
    }

    /// Goes on with an end: the client has sent something.
    #[inline(never)]
    pub fn client_at_end(&mut self, piece: Piece<'_>, now: Duration) -> Flow {
        let Stage::Ends(farewell) = &mut self.stage else { return Flow::unchanged() };
        let mut cursor = Cursor::new(&mut self.client, piece, 0);
        let mut keep = 0;
        if farewell.within_frame {
            // What comes of ours before its end would be taken for the rest of it.
            let Some(end) = cursor.boundary() else { return Flow::of_client(Passage::Pass) };
            (keep, farewell.within_frame) = (end, false);
        }
        farewell.client_has_left |= cursor.find(Opcode::Close, None).is_some();
        let then = if !farewell.awaits_pong && !farewell.client_told {
            farewell.awaits_pong = true;
            PING.to_vec()
        } else if farewell.client_told && !farewell.service_told && farewell.client_has_left {
            farewell.service_told = true;
            farewell.ending.close.to_service()
        } else {
            return Flow::of_client(Passage::Rewrite { keep, then: Vec::new() });
        };
        farewell.deadline = now.saturating_add(FAREWELL);
        Flow::of_client(Passage::Rewrite { keep, then })
    }

    /// Goes on with an end: the service has sent something.
    pub fn service_at_end(&mut self, piece: Piece<'_>, now: Duration) -> Flow {
        let Stage::Ends(farewell) = &mut self.stage else { return Flow::unchanged() };
        if farewell.client_told {
            return Flow::of_service(Passage::NOTHING);
        }
        let mut cursor = Cursor::new(&mut self.service, piece, 0);
        let keep = if farewell.withholds {
            Some(0)
        } else if self.service_lost {
            None
        } else if farewell.awaits_pong {
            cursor.find(Opcode::Pong, Some(PING_PAYLOAD)).flatten()
        } else {
            cursor.boundary()
        };
        Flow::of_service(match keep {
            Some(keep) => {
                farewell.client_told = true;
                farewell.deadline = now.saturating_add(FAREWELL);
                Passage::Rewrite { keep, then: farewell.ending.close.to_client() }
            }
            None => Passage::Pass,
        })
    }

    /// Whether something is to be done about it now, by the monotonic clock and by the time of day.
    pub fn is_due(&self, now: Duration, wall: SystemTime) -> bool {
        match &self.stage {
            Stage::Awaits { deadline, .. } | Stage::Ends(Farewell { deadline, .. }) => now >= *deadline,
            // What is being asked has a bound of its own.
            Stage::Judged => false,
            Stage::Passes | Stage::Counts => {
                self.recheck_at.is_some_and(|at| now >= at) || self.token_until.is_some_and(|until| wall >= until)
            }
        }
    }

    /// How it is cut, once its end has taken too long.
    pub fn overdue(&self, now: Duration) -> Option<Cut> {
        match &self.stage {
            Stage::Ends(farewell) if now >= farewell.deadline => Some(farewell.ending.cut.clone()),
            _ => None,
        }
    }
}

/// A place in a piece, on its way from frame to frame.
struct Cursor<'c> {
    frames: &'c mut Frames,
    piece: Piece<'c>,
    at: usize,
    window: Vec<u8>,
    window_at: usize,
}

impl<'c> Cursor<'c> {
    fn new(frames: &'c mut Frames, piece: Piece<'c>, at: usize) -> Self {
        Self { frames, piece, at, window: Vec::new(), window_at: 0 }
    }

    /// The next header, and where it begins if that is in this piece.
    #[inline(never)]
    fn next(&mut self) -> Option<(Option<usize>, Result<Header, Violation>)> {
        let mut start = None;
        loop {
            self.skip();
            if self.at >= self.piece.size {
                return None;
            }
            if self.frames.is_between() {
                start = Some(self.at);
            }
            match self.header() {
                Err(violation) => return Some((start, Err(violation))),
                Ok(Some(header)) => return Some((start, Ok(header))),
                Ok(None) => {}
            }
        }
    }

    /// The first place between two frames, at the end of the piece if nowhere else.
    #[inline(never)]
    fn boundary(&mut self) -> Option<usize> {
        loop {
            self.skip();
            if self.frames.is_between() {
                return Some(self.at);
            }
            if self.at >= self.piece.size || self.header().is_err() {
                return None;
            }
        }
    }

    /// The first frame of a kind, with a payload of that length if one is given: where it begins, if that is in this piece.
    fn find(&mut self, opcode: Opcode, length: Option<u64>) -> Option<Option<usize>> {
        while let Some((start, header)) = self.next() {
            let header = header.ok()?;
            if header.opcode == opcode && length.is_none_or(|length| header.length == length) {
                return Some(start);
            }
        }
        None
    }

    fn skip(&mut self) {
        let available = self.piece.size.saturating_sub(self.at);
        self.at = self.at.saturating_add(self.frames.skip(available));
    }

    #[inline(never)]
    fn header(&mut self) -> Result<Option<Header>, Violation> {
        let inside = |cursor: &Self| cursor.at.checked_sub(cursor.window_at).filter(|from| *from < cursor.window.len());
        let from = inside(self).unwrap_or_else(|| {
            self.window_at = self.at;
            self.window = (self.piece.read)(self.at, WINDOW.min(self.piece.size.saturating_sub(self.at)));
            0
        });
        let bytes = self.window.get(from..).unwrap_or_default();
        if bytes.is_empty() {
            // What is said to be there can't be read: nothing more can be said of the frames.
            return Err(Violation::Length);
        }
        let (taken, header) = self.frames.header(bytes)?;
        self.at = self.at.saturating_add(taken);
        Ok(header)
    }
}
