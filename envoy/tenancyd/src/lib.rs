//! `tenancyd`, the companion of the filter: a directory of tenants and their domains, and what they use of their quotas.
//!
//! A request comes in through [`server`] (connections, their bounds, the graceful stop) and meets [`api`] (routes, the
//! request's log line, who may write). What it sent is parsed into types that can't be wrong: [`identifier`],
//! [`domain`], [`tenant`], with [`document`] collecting every fault of a JSON text at once. [`store`] keeps them in
//! SQLite. Whatever is refused on the way is one value of [`error::Refusal`]. [`seed`] fills the store at the start,
//! [`token`] is what a writer must show, and [`metrics`] counts.
//!
//! [`store::changes`] is how readers follow what changes, across restarts and back-ups that were put back.
//!
//! [`counts`] is what tenants use of their quotas, counted by proxies that hold [leases](lease) of them, in periods of the
//! [`calendar`]. They are in the database as well, or in [`redis`] where several `tenancyd` count together.
//!
//! [`connections`] are clients' WebSockets, behind a listener of their own: who is there, and who says what to whom.
//!
//! What the SQL says about one subject is in one file under `store/`, and what HTTP says about it in one under `api/`;
//! a further subject is one more file in each, and one more entry in the list of migrations.

#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::string_slice,
        reason = "a sum that overflows fails the test, as it should"
    )
)]

pub mod api;
pub mod calendar;
pub mod connections;
pub mod counts;
pub mod document;
pub mod domain;
pub mod error;
pub mod identifier;
pub mod lease;
pub mod metrics;
pub mod redis;
pub mod seed;
pub mod server;
pub mod store;
pub mod tenant;
pub mod token;
