//! The tenancy filter: every request that goes on to the service belongs to exactly one tenant, known and active.
//!
//! # A request's journey
//!
//! Envoy calls `wasm`, the only room that speaks proxy-wasm, with the request's headers. They are bytes from a client, and
//! [`request`] parses them once into a host, a path and a query that nothing behind it has to distrust again. The conductor
//! is [`filter`]. It notes the headers that only the filter may set, so that a client's own never arrive, and asks each
//! configured strategy ([`resolve`]) what it says of the request. A strategy names an identifier or a domain, or nothing, or it
//! gives a token, which [`jwt`] believes or refuses by keys that [`key_source`] fetches in time;
//! [`directory`] turns that into a tenant, from the inline list, this worker's memory, what all workers share, or a callout.
//! While a callout is under way the request waits; its answer wakes every request that waits for it. Then the filter judges:
//! do the strategies agree, is the tenant known and active? Then [`quota`] counts the request, in every quota or in none. A
//! request that passes goes on with a list of header changes. One that doesn't gets a [`denial`], which keeps what the client is told apart from what only the log is told.
//!
//! Nothing on this way has an effect of its own: verdicts are returned values, and `wasm` carries them out. What has to be
//! answered in the middle of a decision stands behind one small trait, [`host::Host`]. So the same core runs in Envoy, in the
//! tests on a fake host, and in the native `tenancy` command.
//!
//! # The rooms, in reading order
//!
//! 1. [`config`], the plugin's configuration, or every fault of it.
//! 2. [`request`], header bytes → host, path, query.
//! 3. [`tenant`], identifiers, and tenants as the directory describes them.
//! 4. [`calendar`], periods and time zones; [`protobuf`], Envoy's wire format.
//! 5. [`resolve`], the strategies.
//! 6. [`jwt`] and [`key_source`], tokens → what they say, and the keys to believe them by.
//! 7. [`directory`], identifier or domain → tenant, tenant → usage.
//! 8. [`quota`], limits, counting, leases.
//! 9. [`websocket`], frames, the auth message, close frames.
//! 10. [`denial`], refusals.
//! 11. [`filter`], the conductor; in it `connection`, a WebSocket connection from its upgrade to its end.
//! 12. [`host`], what the conductor needs of the proxy.
//! 13. `wasm`, the proxy.
//!
//! Dependencies point down: `wasm → filter → quota → directory, resolve, key_source, websocket → denial, config, jwt → request,
//! tenant, calendar`. Inline keys are read with the configuration, so `config` and `jwt` know each other. Only `filter`, `quota`,
//! `directory` and `key_source` see `Host`.

pub mod calendar;
pub mod config;
pub mod denial;
pub mod directory;
pub mod filter;
pub mod host;
pub mod jwt;
pub mod key_source;
pub mod protobuf;
pub mod quota;
pub mod request;
pub mod resolve;
pub mod tenant;
pub mod websocket;

#[cfg(target_arch = "wasm32")]
mod wasm;
