//! Settings of WebSocket connections.

use std::time::Duration;

use serde_json::Value;

use super::fields::PathPattern;
use super::reader::{Faults, Node, Setting, Whole, choice, settings};

choice! {
    /// How a client that has no token at the upgrade says which tenant it is.
    pub enum AuthMessage as "authMessage" {
        /// It can't: the upgrade is judged like any other request, and that is all.
        Off = "off",
        /// By its first message, `{"action":"auth","token":…,"tenantId":…}`.
        Required = "required",
    }
}

settings! {
    /// What holds for WebSocket connections.
    pub struct WebSocket {
        /// Whether an upgrade may come without a token, and the first message must bring one: off or required.
        default "authMessage" => auth_message: AuthMessage = AuthMessage::Off,
        /// The paths of upgrades that may come without a token: whole paths, or with /* at the end all below.
        default "paths" => paths: OneOrMorePaths = OneOrMorePaths::all(),
        /// Seconds within which the auth message must have come, from the upgrade's response on.
        default "authTimeoutSeconds" => auth_timeout_seconds: Whole<1, 600> = Whole(30),
        /// How long the auth message may be, in bytes.
        default "maxMessageBytes" => max_message_bytes: Whole<256, 131_072> = Whole(65_536),
        /// Seconds after which an open connection's tenant is looked up again, and its token's expiry looked at; 0 for never.
        default "recheckSeconds" => recheck_seconds: Whole<0, 3600> = Whole(10),
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            auth_message: AuthMessage::Off,
            paths: OneOrMorePaths::all(),
            auth_timeout_seconds: Whole(30),
            max_message_bytes: Whole(65_536),
            recheck_seconds: Whole(10),
        }
    }
}

impl WebSocket {
    /// Within which time the auth message must have come.
    pub fn auth_timeout(&self) -> Duration {
        Duration::from_secs(self.auth_timeout_seconds.0)
    }

    /// How long the auth message may be, in bytes.
    pub fn max_message(&self) -> u64 {
        self.max_message_bytes.0
    }

    /// After which time an open connection is looked at again; `None` for never.
    pub fn recheck(&self) -> Option<Duration> {
        (self.recheck_seconds.0 != 0).then(|| Duration::from_secs(self.recheck_seconds.0))
    }
}

/// Paths, at least one.
#[derive(Debug, Clone)]
pub struct OneOrMorePaths(pub Vec<PathPattern>);

impl OneOrMorePaths {
    /// Every path there is.
    fn all() -> Self {
        Self(vec![PathPattern::everything()])
    }
}

impl Setting for OneOrMorePaths {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let paths = Vec::<PathPattern>::read(node, faults)?;
        if paths.is_empty() {
            node.fault(
                faults,
                "is empty: then no upgrade could come without a token, which authMessage: off says better",
            );
            return None;
        }
        Some(Self(paths))
    }

    fn schema() -> Value {
        let mut schema = Vec::<PathPattern>::schema();
        if let Some(list) = schema.as_object_mut() {
            list.insert("minItems".to_owned(), 1.into());
        }
        schema
    }
}
