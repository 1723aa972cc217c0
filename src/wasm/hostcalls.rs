//! Envoy's functions that the filter calls, in a form that can't panic.
//!
//! A panic takes this worker's VM with it, so a client could bring a proxy down by a header that isn't text, or by whatever
//! else makes Envoy return a status that nobody expects. Here every failure is a value, and headers are bytes.

use std::ptr::null_mut;
use std::time::Duration;

use crate::request::header_map_bytes;

/// A header map of proxy-wasm.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Map {
    /// The request's headers.
    Request = 0,
    /// The response's headers.
    Response = 2,
    /// The headers of a callout's answer.
    CalloutResponse = 6,
}

/// A buffer of proxy-wasm.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Buffer {
    /// What the client has sent.
    RequestBody = 0,
    /// What the service has sent.
    ResponseBody = 1,
    /// The body of a callout's answer.
    CalloutResponse = 4,
    /// The message of a gRPC callout's answer.
    GrpcMessage = 5,
    /// The plugin's configuration.
    PluginConfiguration = 7,
}

const OK: u32 = 0;
/// The status for an argument that names nothing: of a callout, no cluster.
pub const BAD_ARGUMENT: u32 = 2;

/// A direction of a request.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Stream {
    /// From the client to the service.
    Request = 0,
    /// From the service to the client.
    Response = 1,
}

/// The version that stands for any: whatever is there is overwritten.
pub const ANY_VERSION: u32 = 0;
/// A version that nothing has. Envoy lets it create a key that isn't there, and refuses it where another worker was first.
const NO_VERSION: u32 = u32::MAX;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, message_size: usize) -> u32;
    fn proxy_http_call(
        cluster: *const u8,
        cluster_size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_grpc_call(
        target: *const u8,
        target_size: usize,
        service: *const u8,
        service_size: usize,
        method: *const u8,
        method_size: usize,
        metadata: *const u8,
        metadata_size: usize,
        message: *const u8,
        message_size: usize,
        timeout: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_buffer_bytes(buffer: u32, start: usize, max: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_buffer_status(buffer: u32, size: *mut usize, flags: *mut u32) -> u32;
    fn proxy_set_buffer_bytes(buffer: u32, start: usize, size: usize, data: *const u8, data_size: usize) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, key_size: usize, value: *const u8, value_size: usize, cas: u32) -> u32;
    fn proxy_register_shared_queue(name: *const u8, name_size: usize, queue: *mut u32) -> u32;
    fn proxy_enqueue_shared_queue(queue: u32, value: *const u8, value_size: usize) -> u32;
    fn proxy_dequeue_shared_queue(queue: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_continue_stream(stream: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        argument: *const u8,
        argument_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_log_level(level: *mut u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, metric: *mut u32) -> u32;
    fn proxy_record_metric(metric: u32, value: u64) -> u32;
    fn proxy_increment_metric(metric: u32, offset: i64) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn clock_time_get(clock: u32, precision: u64, nanoseconds: *mut u64) -> u16;
}

/// The time since some moment that is the same for the whole process; `Instant` keeps that moment to itself.
pub fn monotonic() -> Duration {
    const MONOTONIC: u32 = 1;
    let mut nanoseconds = 0;
    // SAFETY: the out-pointer is valid for the call.
    let status = unsafe { clock_time_get(MONOTONIC, 0, &raw mut nanoseconds) };
    if status == 0 { Duration::from_nanos(nanoseconds) } else { Duration::ZERO }
}

/// Takes over what a function returned through two out-pointers.
///
/// # Safety
///
/// The pointers must be null, or what the host got from this module's `proxy_on_memory_allocate`, with its size.
unsafe fn returned(status: u32, data: *mut u8, size: usize) -> Option<Vec<u8>> {
    if status != OK {
        return None;
    }
    if data.is_null() {
        return Some(Vec::new());
    }
    // SAFETY: the allocation has that capacity, by the caller's promise, and the host has filled it.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// Writes a line to Envoy's log, at a level of 0 (trace) to 5 (critical).
pub fn log(level: u32, message: &str) {
    // SAFETY: the slice is valid for the call. There is nobody to tell that it failed.
    let _ = unsafe { proxy_log(level, message.as_ptr(), message.len()) };
}

/// Sends a request to a cluster, with a timeout in milliseconds: the token that its answer will have, or Envoy's status.
pub fn http_call(cluster: &str, headers: &[(&str, &[u8])], body: &[u8], timeout: u32) -> Result<u32, u32> {
    let (headers, trailers, mut token) = (header_map_bytes(headers), header_map_bytes(&[]), 0);
    // SAFETY: all slices and the out-pointer are valid for the call.
    let status = unsafe {
        proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout,
            &raw mut token,
        )
    };
    if status == OK { Ok(token) } else { Err(status) }
}

/// Sends a message to a gRPC method of a target, a serialised `GrpcService` of Envoy's, with a timeout in milliseconds: the
/// token that its answer will have, or Envoy's status.
pub fn grpc_call(
    target: &[u8],
    service: &str,
    method: &str,
    metadata: &[(&str, &[u8])],
    message: &[u8],
    timeout: u32,
) -> Result<u32, u32> {
    let (metadata, mut token) = (header_map_bytes(metadata), 0);
    // SAFETY: all slices and the out-pointer are valid for the call.
    let status = unsafe {
        proxy_grpc_call(
            target.as_ptr(),
            target.len(),
            service.as_ptr(),
            service.len(),
            method.as_ptr(),
            method.len(),
            metadata.as_ptr(),
            metadata.len(),
            message.as_ptr(),
            message.len(),
            timeout,
            &raw mut token,
        )
    };
    if status == OK { Ok(token) } else { Err(status) }
}

/// All of a map's headers, as proxy-wasm serialises them.
pub fn header_map(map: Map) -> Option<Vec<u8>> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: both out-pointers are valid for the call.
    unsafe {
        let status = proxy_get_header_map_pairs(map as u32, &raw mut data, &raw mut size);
        returned(status, data, size)
    }
}

/// One value of a header.
pub fn header(map: Map, name: &str) -> Option<Vec<u8>> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the slice and the out-pointers are valid for the call.
    unsafe {
        let status = proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), &raw mut data, &raw mut size);
        returned(status, data, size)
    }
}

/// Adds a header.
pub fn add_header(map: Map, name: &[u8], value: &[u8]) -> bool {
    // SAFETY: both slices are valid for the call.
    unsafe { proxy_add_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len()) == OK }
}

/// Gives a request header one value, whatever it had. Costs a fifth more than to add one that isn't there.
pub fn set_header(name: &[u8], value: &[u8]) -> bool {
    // SAFETY: both slices are valid for the call.
    let status = unsafe {
        proxy_replace_header_map_value(Map::Request as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    };
    status == OK
}

/// Removes every copy of a request header.
pub fn remove_header(name: &[u8]) -> bool {
    // SAFETY: the slice is valid for the call.
    unsafe { proxy_remove_header_map_value(Map::Request as u32, name.as_ptr(), name.len()) == OK }
}

/// A buffer's first `max` bytes.
pub fn buffer(buffer: Buffer, max: usize) -> Option<Vec<u8>> {
    buffer_part(buffer, 0, max)
}

/// At most `max` bytes of a buffer, from a place on.
pub fn buffer_part(buffer: Buffer, start: usize, max: usize) -> Option<Vec<u8>> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: both out-pointers are valid for the call.
    unsafe {
        let status = proxy_get_buffer_bytes(buffer as u32, start, max, &raw mut data, &raw mut size);
        returned(status, data, size)
    }
}

/// How many bytes are in a buffer.
pub fn buffer_size(buffer: Buffer) -> usize {
    let (mut size, mut flags) = (0, 0);
    // SAFETY: both out-pointers are valid for the call.
    let status = unsafe { proxy_get_buffer_status(buffer as u32, &raw mut size, &raw mut flags) };
    if status == OK { size } else { 0 }
}

/// Puts these bytes in the place of all that is in a buffer.
pub fn set_buffer(buffer: Buffer, bytes: &[u8]) -> bool {
    // SAFETY: the slice is valid for the call.
    unsafe { proxy_set_buffer_bytes(buffer as u32, 0, usize::MAX, bytes.as_ptr(), bytes.len()) == OK }
}

/// A property of Envoy's; the path's parts have a zero byte between them.
pub fn property(path: &str) -> Option<Vec<u8>> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: the slice and the out-pointers are valid for the call.
    unsafe {
        let status = proxy_get_property(path.as_ptr(), path.len(), &raw mut data, &raw mut size);
        returned(status, data, size)
    }
}

/// Calls a function that this proxy offers beside proxy-wasm's own; `None` where it doesn't, or has no answer.
pub fn call_foreign_function(name: &str, argument: &[u8]) -> Option<Vec<u8>> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: both slices and the out-pointers are valid for the call.
    unsafe {
        let status = proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            argument.as_ptr(),
            argument.len(),
            &raw mut data,
            &raw mut size,
        );
        returned(status, data, size)
    }
}

/// Sets a property of the request, which Envoy keeps as filter state `wasm.NAME`.
pub fn set_property(name: &str, value: &[u8]) -> bool {
    // SAFETY: both slices are valid for the call.
    unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) == OK }
}

/// What all workers hold under a key, and the version to name where it is to be replaced.
pub fn shared_data_version(key: &str) -> (Option<Vec<u8>>, u32) {
    let (mut data, mut size, mut cas) = (null_mut(), 0, 0);
    // SAFETY: the slice and the out-pointers are valid for the call.
    let value = unsafe {
        let status = proxy_get_shared_data(key.as_ptr(), key.len(), &raw mut data, &raw mut size, &raw mut cas);
        returned(status, data, size)
    };
    let version = if value.is_some() { cas } else { NO_VERSION };
    // Nothing can be deleted: what was forgotten is held as the empty value.
    (value.filter(|value| !value.is_empty()), version)
}

/// Holds a value under a key for all workers, the empty one to forget it, if what is there has that version; whether it had.
pub fn set_shared_data(key: &str, value: &[u8], version: u32) -> bool {
    // SAFETY: both slices are valid for the call.
    unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), version) == OK }
}

/// Makes a queue whose entries wake the root context that made it.
pub fn register_queue(name: &str) -> Option<u32> {
    let mut queue = 0;
    // SAFETY: the slice and the out-pointer are valid for the call.
    let status = unsafe { proxy_register_shared_queue(name.as_ptr(), name.len(), &raw mut queue) };
    (status == OK).then_some(queue)
}

/// Puts an entry into a queue, of this worker or another one.
pub fn enqueue(queue: u32, entry: &[u8]) -> bool {
    // SAFETY: the slice is valid for the call.
    unsafe { proxy_enqueue_shared_queue(queue, entry.as_ptr(), entry.len()) == OK }
}

/// Takes an entry out of a queue, if there is one.
pub fn dequeue(queue: u32) -> Option<Vec<u8>> {
    let (mut data, mut size) = (null_mut(), 0);
    // SAFETY: both out-pointers are valid for the call.
    unsafe {
        let status = proxy_dequeue_shared_queue(queue, &raw mut data, &raw mut size);
        returned(status, data, size)
    }
}

/// Lets a direction of the effective context's request go on, with what is held of it.
pub fn resume(stream: Stream) -> bool {
    // SAFETY: no pointers are passed.
    unsafe { proxy_continue_stream(stream as u32) == OK }
}

/// Makes the calls that follow act on another context. Where that is gone they act on the one before, so look at the result.
pub fn set_effective_context(context: u32) -> bool {
    // SAFETY: no pointers are passed.
    unsafe { proxy_set_effective_context(context) == OK }
}

/// Has the root context called every so many milliseconds.
pub fn set_tick_period(milliseconds: u32) -> bool {
    // SAFETY: no pointers are passed.
    unsafe { proxy_set_tick_period_milliseconds(milliseconds) == OK }
}

/// The level from which on Envoy writes this filter's log lines; it can change at any time.
pub fn log_level() -> log::LevelFilter {
    let mut level = 0;
    // SAFETY: the out-pointer is valid for the call.
    let status = unsafe { proxy_get_log_level(&raw mut level) };
    match level {
        _ if status != OK => log::LevelFilter::Info,
        0 => log::LevelFilter::Trace,
        1 => log::LevelFilter::Debug,
        2 => log::LevelFilter::Info,
        3 => log::LevelFilter::Warn,
        _ => log::LevelFilter::Error,
    }
}

/// A kind of metric.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Metric {
    /// A number that only grows.
    Counter = 0,
    /// How often each value came up.
    Histogram = 2,
}

/// A metric of Envoy's, by name.
pub fn define_metric(kind: Metric, name: &str) -> Option<u32> {
    let mut metric = 0;
    // SAFETY: the slice and the out-pointer are valid for the call.
    let status = unsafe { proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &raw mut metric) };
    (status == OK).then_some(metric)
}

/// Adds one to a counter.
pub fn increment(metric: u32) -> bool {
    // SAFETY: no pointers are passed.
    unsafe { proxy_increment_metric(metric, 1) == OK }
}

/// Adds a value to a histogram.
pub fn record(metric: u32, value: u64) -> bool {
    // SAFETY: no pointers are passed.
    unsafe { proxy_record_metric(metric, value) == OK }
}

/// Answers the effective context's request here, with Envoy's response code details.
pub fn send_local_response(
    status: u16,
    details: &str,
    headers: &[(&str, &[u8])],
    body: &str,
    grpc_status: i32,
) -> bool {
    let headers = header_map_bytes(headers);
    // SAFETY: all slices are valid for the call.
    let status = unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    };
    status == OK
}
