//! What has changed since the registry was last told.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::store::Client;

/// The most changes that wait; beyond that the registry is written anew.
const MAX_CHANGES: usize = 65_536;

/// A change.
#[derive(Debug)]
pub enum Change {
    /// A connection takes part.
    Opened(Arc<Client>),
    /// It no longer does.
    Closed(Arc<Client>),
}

/// The changes, in their order.
#[derive(Debug, Default)]
pub struct Changes {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: Vec<Change>,
    too_many: bool,
}

impl Changes {
    /// Notes a change.
    pub fn push(&self, change: Change) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.changes.len() < MAX_CHANGES {
            waiting.changes.push(change);
        } else {
            *waiting = Waiting { changes: Vec::new(), too_many: true };
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Waits for some.
    pub async fn some(&self) {
        self.changed.notified().await;
    }

    /// Takes them, unless there were too many to keep.
    pub fn take(&self) -> Option<Vec<Change>> {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        (!waiting.too_many).then_some(waiting.changes)
    }
}
