//! The tenancy filter.
pub mod config;
pub mod denial;
pub mod directory;
pub mod filter;
pub mod host;
pub mod request;
pub mod resolve;
pub mod tenant;

#[cfg(target_arch = "wasm32")]
mod wasm;
