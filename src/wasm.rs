//! The only room that speaks proxy-wasm: Envoy's callbacks → [`Filter`](crate::filter::Filter) → Envoy's functions.
//!
//! Envoy skips a callback that a module doesn't export, and each one that it makes for a request is a crossing. The SDK, the crate
//! proxy-wasm, exports all of them and finds each context in hash maps of its own. With callbacks of our own, only those that
//! something here needs, and a tenant's headers made once, a decision by subdomain took 4.7 µs instead of 7.7.

mod envoy;
mod hostcalls;
mod logger;
mod worker;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use self::worker::Worker;
use crate::host::{Ids, RequestId};

/// What Envoy's callbacks return to have it go on.
const CONTINUE: u32 = 0;
/// What they return to have it wait.
const PAUSE: u32 = 1;

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::default();
}

/// Envoy's contexts, by their ids.
#[derive(Default)]
struct Contexts {
    /// Root contexts: one for each configuration of the filter in each worker.
    roots: HashMap<u32, Rc<Worker>>,
    /// Requests.
    requests: HashMap<u32, Rc<Worker>, Ids>,
}

fn root(context: u32) -> Option<Rc<Worker>> {
    CONTEXTS.with_borrow(|contexts| contexts.roots.get(&context).cloned())
}

fn request(context: u32) -> Option<Rc<Worker>> {
    CONTEXTS.with_borrow(|contexts| contexts.requests.get(&context).cloned())
}

/// The version of the interface that these callbacks have.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Called once, before anything else.
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    unsafe extern "C" {
        fn __wasm_call_ctors();
    }
    // SAFETY: the linker makes this function; it has to be called once, and this is where.
    unsafe { __wasm_call_ctors() };
    logger::install();
}

/// Room for bytes that a function of Envoy's returns; [`hostcalls`] takes it over as a `Vec` of this capacity.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let mut room = std::mem::ManuallyDrop::new(Vec::<u8>::with_capacity(size));
    room.as_mut_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, root: u32) {
    CONTEXTS.with_borrow_mut(|contexts| match contexts.roots.get(&root) {
        Some(worker) => {
            contexts.requests.insert(context, Rc::clone(worker));
        }
        None => {
            contexts.roots.insert(context, Rc::new(Worker::new(context)));
        }
    });
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(context: u32, _size: usize) -> u32 {
    root(context).is_some_and(|worker| worker.configure()).into()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(context: u32) {
    if let Some(worker) = root(context) {
        worker.tick();
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(context: u32, queue: u32) {
    if let Some(worker) = root(context) {
        worker.empty_queue(queue);
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(context: u32, token: u32, headers: u32, body_size: usize, _trailers: u32) {
    if let Some(worker) = root(context) {
        worker.take_http_answer(token, headers > 0, body_size);
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive(context: u32, token: u32, size: usize) {
    if let Some(worker) = root(context) {
        worker.take_grpc_answer(token, 0, size);
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_close(context: u32, token: u32, status: u32) {
    if let Some(worker) = root(context) {
        worker.take_grpc_answer(token, status, 0);
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, _headers: u32, _end_of_stream: u32) -> u32 {
    #[cfg(feature = "crash")]
    if hostcalls::header(hostcalls::Map::Request, "x-crash").is_some() {
        core::arch::wasm32::unreachable();
    }
    match request(context) {
        Some(worker) => worker.judge(RequestId(context)),
        None => worker::refuse_unjudged("Envoy sent a request of a configuration that isn't there"),
    }
}

/// Where `allow_on_headers_stop_iteration` is set, a body arrives while the headers wait, and letting it go on would let the
/// request go on, unjudged.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(context: u32, size: usize, end_of_stream: u32) -> u32 {
    let Some(worker) = request(context) else { return PAUSE };
    match worker.hold(RequestId(context)) {
        CONTINUE => worker.take_client(RequestId(context), size, end_of_stream != 0),
        pause => pause,
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(context: u32, _trailers: u32) -> u32 {
    request(context).map_or(PAUSE, |worker| worker.hold(RequestId(context)))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(context: u32, _headers: u32, _end_of_stream: u32) -> u32 {
    request(context).map_or(CONTINUE, |worker| worker.respond(RequestId(context)))
}

/// Envoy calls this for every response's body, though only a WebSocket connection's bytes are looked at.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(context: u32, size: usize, end_of_stream: u32) -> u32 {
    request(context).map_or(CONTINUE, |worker| worker.take_service(RequestId(context), size, end_of_stream != 0))
}

/// A request has ended, or a configuration of the filter: nothing of it is needed any more.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(context: u32) -> u32 {
    let request = CONTEXTS.with_borrow_mut(|contexts| contexts.requests.remove(&context));
    if let Some(worker) = request {
        worker.end(RequestId(context));
    } else if let Some(worker) = CONTEXTS.with_borrow_mut(|contexts| contexts.roots.remove(&context)) {
        worker.close();
    }
    1
}
