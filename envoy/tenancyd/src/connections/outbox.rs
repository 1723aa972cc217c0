//! What waits to be sent over one connection: bounded, so that a client that doesn't read costs nobody else anything.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::Notify;

/// The most messages that wait.
pub const MAX_MESSAGES: usize = 1024;
/// The most bytes that wait.
pub const MAX_BYTES: usize = 1024 * 1024;
/// An emptied queue keeps room for so many messages; what a burst needed beyond that is given back.
const KEPT: usize = 16;

/// The messages for one client, which one task takes out.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Utf8Bytes>,
    bytes: usize,
    overflown: bool,
}

impl Outbox {
    /// Puts a message in. Where there is no room everything is thrown away, and the connection is to end: a client that
    /// misses a message must know that it does.
    pub fn push(&self, message: &Utf8Bytes) {
        let mut waiting = self.lock();
        if waiting.overflown {
            return;
        }
        let bytes = waiting.bytes.saturating_add(message.len());
        if waiting.messages.len() >= MAX_MESSAGES || bytes > MAX_BYTES {
            *waiting = Waiting { overflown: true, ..Waiting::default() };
        } else {
            waiting.bytes = bytes;
            waiting.messages.push_back(message.clone());
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// The next message, or nothing once there was no room for one.
    pub async fn next(&self) -> Option<Utf8Bytes> {
        loop {
            {
                let mut waiting = self.lock();
                if waiting.overflown {
                    return None;
                }
                if let Some(message) = waiting.messages.pop_front() {
                    waiting.bytes = waiting.bytes.saturating_sub(message.len());
                    if waiting.messages.is_empty() {
                        waiting.messages.shrink_to(KEPT);
                    }
                    return Some(message);
                }
            }
            self.changed.notified().await;
        }
    }

    /// Waits until there is no room for a message.
    pub async fn overflown(&self) {
        while !self.lock().overflown {
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_holds_so_many_messages_and_so_many_bytes() {
        for (size, fitting) in [(10, MAX_MESSAGES), (MAX_BYTES / 4, 4), (MAX_BYTES, 1)] {
            let outbox = Outbox::default();
            let message = Utf8Bytes::from("x".repeat(size));
            for _ in 0..fitting {
                outbox.push(&message);
            }
            assert_eq!(outbox.next().await, Some(message.clone()), "{size}");
            outbox.push(&message);
            outbox.push(&message);
            assert_eq!(outbox.next().await, None, "{size}");
            outbox.overflown().await;
            assert_eq!(outbox.lock().messages.capacity(), 0);
            outbox.push(&message);
            assert_eq!(outbox.next().await, None, "{size}");
        }
    }

    #[tokio::test]
    async fn messages_come_in_order_and_whoever_waits_is_woken() {
        let outbox = std::sync::Arc::new(Outbox::default());
        let reader = tokio::spawn({
            let outbox = outbox.clone();
            async move { [outbox.next().await.unwrap(), outbox.next().await.unwrap()] }
        });
        tokio::task::yield_now().await;
        outbox.push(&Utf8Bytes::from_static("a"));
        outbox.push(&Utf8Bytes::from_static("b"));
        assert_eq!(reader.await.unwrap(), ["a", "b"].map(Utf8Bytes::from_static));
    }
}
