//! The stage: workers that run the real filter, each in a thread of its own, of which only one ever moves.
//!
//! Before each step of a worker that others can notice, a read or a write of shared data or a letter, the [`Director`] says who
//! moves next. So what happens is what the director chose and nothing else, and every order of steps can be had.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envoy_tenancy::config::Config;
use envoy_tenancy::filter::{Filter, Step};
use envoy_tenancy::host::{Answer, CallId, Callout, Host, RequestId, Version, WorkerId};
use envoy_tenancy::jwt::Signatures;
use envoy_tenancy::request::Head;
use serde_json::Value;

use crate::core::{Core, Event, Op};

/// What is to happen next.
pub enum Order {
    /// The worker in this slot goes on: with the event that it was given, or with the step that it has announced.
    Run(usize),
    /// Nothing any more.
    Done,
}

/// Who says what happens next.
pub trait Director: Send {
    fn next(&mut self, core: &mut Core) -> Order;
}

/// Lets every worker come to the end of its event.
pub struct Straight;

impl Director for Straight {
    fn next(&mut self, core: &mut Core) -> Order {
        core.workers.iter().position(|worker| worker.is_busy()).map_or(Order::Done, Order::Run)
    }
}

struct State {
    /// Who moves: a slot, or whoever is outside.
    turn: usize,
    core: Core,
    director: Box<dyn Director>,
    quit: bool,
}

struct Shared {
    state: Mutex<State>,
    /// One for each slot, and one for whoever is outside.
    wakes: Vec<Condvar>,
}

/// Threads for so many workers.
pub struct Stage {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What unwinds a worker whose VM crashes.
struct Crash;

impl Stage {
    pub fn new(slots: usize) -> Self {
        let state = State { turn: slots, core: Core::default(), director: Box::new(Straight), quit: false };
        let wakes = (0..=slots).map(|_| Condvar::new()).collect();
        let shared = Arc::new(Shared { state: Mutex::new(state), wakes });
        let start = |slot| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| perform(slot, &shared))).is_err() {
                    // Nobody would ever move again.
                    eprintln!("the stage itself panicked");
                    std::process::abort();
                }
            })
        };
        let threads = (0..slots).map(start).collect();
        Self { shared, threads }
    }

    /// The world, while no worker moves.
    pub fn core<R>(&self, with: impl FnOnce(&mut Core) -> R) -> R {
        with(&mut self.shared.lock().core)
    }

    /// Begins anew, with another world.
    pub fn reset(&self, core: Core) {
        self.core(|old| old.workers.iter_mut().for_each(|worker| worker.crashes = true));
        self.run(Box::new(Straight));
        self.core(|old| *old = core);
    }

    /// Lets a director have its way, until it is done.
    pub fn run(&self, director: Box<dyn Director>) {
        let mut state = self.shared.lock();
        state.director = director;
        let outside = self.threads.len();
        self.shared.pass_on(&mut state, outside);
        drop(self.shared.wait(state, outside));
    }

    /// Gives a worker something to do, and lets it come to the end of that.
    pub fn give(&self, slot: usize, event: Event) {
        self.core(|core| core.give(slot, event));
        self.run(Box::new(Straight));
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.core(|core| core.workers.iter_mut().for_each(|worker| worker.crashes = true));
        self.run(Box::new(Straight));
        self.shared.lock().quit = true;
        self.shared.wakes.iter().for_each(Condvar::notify_all);
        for thread in self.threads.drain(..) {
            // Whatever a worker panicked with was reported when it did.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn pass_on(&self, state: &mut State, me: usize) {
        let State { core, director, .. } = state;
        let turn = match director.next(core) {
            Order::Run(slot) => slot,
            Order::Done => self.wakes.len() - 1,
        };
        state.turn = turn;
        if turn != me {
            self.wakes[turn].notify_one();
        }
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, State>, me: usize) -> MutexGuard<'a, State> {
        while state.turn != me && !state.quit {
            state = self.wakes[me].wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state
    }
}

/// What a worker's thread does.
fn perform(slot: usize, shared: &Arc<Shared>) {
    let mut filter: Option<Filter> = None;
    // The last configuration that was read: most begin with the same one.
    let mut read: Option<(Value, Config)> = None;
    loop {
        let mut state = shared.wait(shared.lock(), slot);
        if state.quit {
            return;
        }
        let core = &mut state.core;
        let event = core.workers[slot].event.take();
        let (wall, monotonic) = (core.wall(core.workers[slot].proxy), Duration::from_millis(core.time));
        let address = core.workers[slot].address;
        drop(state);
        let host = SlotHost { shared: Arc::clone(shared), slot, address, wall: Cell::new(wall), monotonic };
        let done = catch_unwind(AssertUnwindSafe(|| {
            if let Some(event) = event {
                host.act(&mut filter, &mut read, event);
            }
        }));
        let mut state = shared.lock();
        let core = &mut state.core;
        core.workers[slot].op = None;
        if core.workers[slot].crashes {
            filter = None;
            core.died(slot);
        } else if done.is_err() {
            core.violate(format!("the worker in slot {slot} panics"));
        }
        shared.pass_on(&mut state, slot);
    }
}

/// The proxy, as one worker sees it during one event. Its clocks stand still meanwhile, as Envoy's do.
struct SlotHost {
    shared: Arc<Shared>,
    slot: usize,
    address: u32,
    wall: Cell<SystemTime>,
    monotonic: Duration,
}

impl SlotHost {
    fn act(&self, filter: &mut Option<Filter>, read: &mut Option<(Value, Config)>, event: Event) {
        if let Event::Start(value) = event {
            let config = match read.take() {
                Some((same, config)) if same == value => config,
                _ => Config::from_value(&value).unwrap_or_else(|faults| panic!("{faults}")),
            };
            *read = Some((value, config.clone()));
            *filter = Some(Filter::new(config, |_| None).unwrap_or_else(|faults| panic!("{faults}")));
            return;
        }
        let Some(filter) = filter else { return };
        match event {
            Event::Start(_) => {}
            Event::Tick => {
                let (steps, _) = filter.tick(self);
                self.record(filter, steps);
            }
            Event::Request(id) => {
                let head = Head::new(vec![
                    (b":authority", b"any.example"),
                    (b":path", b"/"),
                    (b":method", b"GET"),
                    (b"x-tenant-id", b"acme"),
                ]);
                let step = filter.request(RequestId(id), &head, self);
                self.record(filter, vec![(RequestId(id), step)]);
            }
            Event::Response(id, cost) => {
                let header = |name: &str| (name == "x-cost").then(|| cost.map(|cost| cost.to_string().into_bytes()))?;
                filter.response(RequestId(id), &header, self);
                self.with(|core| core.settled(id, cost));
            }
            Event::End(id) => {
                self.with(|core| core.ended(id));
                filter.end(RequestId(id), self);
            }
            Event::Letter(letter) => {
                let steps = filter.letter(&letter, self);
                self.record(filter, steps);
            }
            Event::Answer(call, answer) => {
                let (steps, _) = filter.answer(call, answer, self);
                self.record(filter, steps);
            }
            Event::Close => {
                filter.close(self);
                self.with(|core| core.workers[self.slot].alive = false);
            }
        }
    }

    /// Notes what has become of requests.
    fn record(&self, filter: &mut Filter, steps: Vec<(RequestId, Step)>) {
        for (id, step) in steps {
            let told = match &step {
                Step::Forward(_) => {
                    // At this moment the seconds that are left are those from 1970 on: they name the period that was charged.
                    let wall = self.wall.replace(UNIX_EPOCH);
                    let told = filter.response(id, &|_| None, self);
                    self.wall.set(wall);
                    told
                }
                _ => Vec::new(),
            };
            let field = told.into_iter().find(|(name, _)| *name == "ratelimit").map(|(_, value)| value);
            self.with(|core| core.stepped(self.slot, id.0, &step, &field.unwrap_or_default()));
        }
    }

    fn with<R>(&self, with: impl FnOnce(&mut Core) -> R) -> R {
        with(&mut self.shared.lock().core)
    }

    /// A step that others can notice: it is announced, and done when it is its turn.
    fn step<R>(&self, op: Op, with: impl FnOnce(&mut Core) -> R) -> R {
        let mut state = self.shared.lock();
        state.core.workers[self.slot].op = Some(op);
        self.shared.pass_on(&mut state, self.slot);
        let mut state = self.shared.wait(state, self.slot);
        if state.core.workers[self.slot].crashes || state.quit {
            drop(state);
            resume_unwind(Box::new(Crash));
        }
        // It is on its way again, to the next step or the end.
        with(&mut state.core)
    }
}

impl Signatures for SlotHost {
    fn verify_signature(&self, _arguments: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

impl Host for SlotHost {
    fn now(&self) -> SystemTime {
        self.wall.get()
    }

    fn monotonic(&self) -> Duration {
        self.monotonic
    }

    fn shared(&self, key: &str) -> Option<Vec<u8>> {
        self.shared_version(key).0
    }

    fn set_shared(&self, key: &str, value: Option<&[u8]>) {
        self.step(Op::Write(key.to_owned()), |core| core.write(self.slot, key, value));
    }

    fn shared_version(&self, key: &str) -> (Option<Vec<u8>>, Version) {
        self.step(Op::Read(key.to_owned()), |core| core.read(self.slot, key))
    }

    fn replace_shared(&self, key: &str, new: &[u8], version: Version) -> bool {
        self.step(Op::Write(key.to_owned()), |core| core.replace(self.slot, key, new, version))
    }

    fn worker(&self) -> WorkerId {
        WorkerId(self.address)
    }

    fn post(&self, to: WorkerId, letter: &[u8]) -> bool {
        self.step(Op::Post(to), |core| core.post(self.slot, to, letter))
    }

    fn property(&self, _path: &[&str]) -> Option<Vec<u8>> {
        None
    }

    fn call(&self, callout: Callout) -> CallId {
        self.with(|core| core.call(self.slot, callout))
    }
}

/// What Envoy gives for a callout that took too long.
pub fn timed_out() -> Answer {
    Answer::Reply { status: 504, body: b"upstream request timeout".to_vec() }
}
