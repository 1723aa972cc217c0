//! The connections of this process, by tenant.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::Utf8Bytes;

use super::changes::{Change, Changes};
use super::name::ConnectionId;
use super::outbox::Outbox;
use crate::identifier::Identifier;

/// A connection whose tenant is known.
#[derive(Debug)]
pub struct Client {
    /// Its name.
    pub id: ConnectionId,
    /// Its tenant.
    pub tenant: Identifier,
    /// Its user, where the token had one.
    pub user: Option<Arc<str>>,
    /// Since when, in Unix seconds.
    pub since: i64,
    /// What waits to be sent to it.
    pub outbox: Arc<Outbox>,
}

impl Client {
    /// What others know it as.
    pub fn name(&self) -> String {
        self.user.as_deref().map_or_else(|| self.id.to_string(), str::to_owned)
    }
}

/// The connections.
#[derive(Debug)]
pub struct Store {
    tenants: Mutex<HashMap<Identifier, Arc<Room>>>,
    /// What the other instances are to know, where there are any.
    pub changes: Option<Changes>,
}

/// One tenant's connections. Whoever delivers to many of them holds up nobody else.
#[derive(Debug, Default)]
struct Room(Mutex<Members>);

#[derive(Debug, Default)]
struct Members {
    clients: BTreeMap<ConnectionId, Arc<Client>>,
    users: BTreeSet<(Arc<str>, ConnectionId)>,
}

impl Store {
    /// With nobody in it.
    pub fn new(changes: Option<Changes>) -> Self {
        Self { tenants: Mutex::default(), changes }
    }

    /// Lets a connection take part, until what comes back is dropped.
    pub fn enter(self: &Arc<Self>, client: Client) -> Entered {
        let client = Arc::new(client);
        let mut tenants = lock(&self.tenants);
        let room = tenants.entry(client.tenant.clone()).or_default();
        let mut members = lock(&room.0);
        if let Some(user) = &client.user {
            members.users.insert((user.clone(), client.id));
        }
        members.clients.insert(client.id, client.clone());
        self.note(|| Change::Opened(client.clone()));
        Entered { store: self.clone(), client: client.clone() }
    }

    fn leave(&self, client: &Arc<Client>) {
        let mut tenants = lock(&self.tenants);
        let Some(room) = tenants.get(&client.tenant) else { return };
        let mut members = lock(&room.0);
        members.clients.remove(&client.id);
        if let Some(user) = &client.user {
            members.users.remove(&(user.clone(), client.id));
        }
        let empty = members.clients.is_empty();
        drop(members);
        if empty {
            tenants.remove(&client.tenant);
        }
        self.note(|| Change::Closed(client.clone()));
    }

    /// In the order in which things happen, since the lock is held.
    fn note(&self, change: impl FnOnce() -> Change) {
        if let Some(changes) = &self.changes {
            changes.push(change());
        }
    }

    /// Hands a text to every connection of a tenant, or to those of one user or one connection, and says to how many.
    pub fn deliver(&self, tenant: &Identifier, to: Option<&str>, text: &Utf8Bytes) -> usize {
        let Some(room) = self.room(tenant) else { return 0 };
        let members = lock(&room.0);
        match to {
            None => {
                members.clients.values().for_each(|client| client.outbox.push(text));
                members.clients.len()
            }
            Some(to) => {
                let named = members.named(to);
                named.iter().for_each(|client| client.outbox.push(text));
                named.len()
            }
        }
    }

    /// The connections of a tenant after this one, so many at most.
    pub fn list(&self, tenant: &Identifier, after: Option<ConnectionId>, limit: usize) -> Vec<Arc<Client>> {
        let Some(room) = self.room(tenant) else { return Vec::new() };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let members = lock(&room.0);
        members.clients.range((from, Bound::Unbounded)).take(limit).map(|(_, client)| client.clone()).collect()
    }

    /// Every tenant that has connections here, with how many names its connections and users have together.
    pub fn census(&self) -> Vec<(Identifier, usize)> {
        let rooms: Vec<_> = lock(&self.tenants).iter().map(|(tenant, room)| (tenant.clone(), room.clone())).collect();
        let count = |room: &Room| {
            let members = lock(&room.0);
            members.clients.len().saturating_add(members.users.len())
        };
        rooms.into_iter().map(|(tenant, room)| (tenant, count(&room))).collect()
    }

    fn room(&self, tenant: &Identifier) -> Option<Arc<Room>> {
        lock(&self.tenants).get(tenant).cloned()
    }
}

impl Members {
    /// A connection's name comes first: it can't be chosen, so nobody takes another's messages by being called like it.
    fn named(&self, to: &str) -> Vec<Arc<Client>> {
        if let Some(client) = ConnectionId::parse(to).and_then(|id| self.clients.get(&id)) {
            return vec![client.clone()];
        }
        let user: Arc<str> = to.into();
        let all = (user.clone(), ConnectionId(0))..=(user, ConnectionId(u128::MAX));
        self.users.range(all).filter_map(|(_, id)| self.clients.get(id).cloned()).collect()
    }
}

/// A connection that takes part.
#[derive(Debug)]
pub struct Entered {
    store: Arc<Store>,
    /// The connection.
    pub client: Arc<Client>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.store.leave(&self.client);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(store: &Arc<Store>, id: u128, tenant: &str, user: Option<&str>) -> Entered {
        let (tenant, outbox) = (Identifier::parse(tenant).unwrap(), Arc::default());
        store.enter(Client { id: ConnectionId(id), tenant, user: user.map(Into::into), since: 0, outbox })
    }

    #[test]
    fn a_tenants_connections_are_found_by_their_names_and_by_no_other_tenant() {
        let store = Arc::new(Store::new(None));
        let (acme, globex) = (Identifier::parse("acme").unwrap(), Identifier::parse("globex").unwrap());
        let text = Utf8Bytes::from_static("{}");
        let first = client(&store, 1, "acme", Some("jo"));
        let _second = client(&store, 2, "acme", Some("jo"));
        let third = client(&store, 3, "acme", None);
        let _fourth = client(&store, 4, "globex", Some("jo"));
        let named = third.client.name();
        let _impostor = client(&store, 5, "acme", Some(&named));
        for (tenant, to, expected) in [
            (&acme, None, 4),
            (&globex, None, 1),
            (&acme, Some("jo"), 2),
            (&acme, Some("j"), 0),
            (&globex, Some("jo"), 1),
            (&acme, Some(named.as_str()), 1),
            (&globex, Some(named.as_str()), 0),
        ] {
            assert_eq!(store.deliver(tenant, to, &text), expected, "{tenant} {to:?}");
        }
        assert_eq!(
            store.list(&acme, Some(ConnectionId(1)), 2).iter().map(|client| client.id.0).collect::<Vec<_>>(),
            [2, 3]
        );
        drop(first);
        assert_eq!(store.deliver(&acme, Some("jo"), &text), 1);
        drop((_second, third, _impostor));
        assert_eq!(store.census(), [(globex, 2)]);
    }
}
