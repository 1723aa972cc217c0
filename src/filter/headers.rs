//! A request's headers on their way to the service: what is taken away, what is set, and the path put together anew.

use std::rc::Rc;

use super::websockets::AUTH;
use crate::config::{Config, HeaderName, Isolation, Resolution};
use crate::request::Head;

/// One change to a request's headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderEdit {
    /// The header, which the request doesn't have, gets this value.
    Add(Rc<str>, Rc<[u8]>),
    /// The header has this one value, however many it had.
    Set(Rc<str>, Rc<[u8]>),
    /// The header is gone. The name is as the client sent it.
    Remove(Vec<u8>),
}

const FORWARDED_PREFIX: &str = "x-forwarded-prefix";

/// Every header that only the filter may set; a client's own are removed, whatever follows.
pub struct Owned {
    names: Vec<HeaderName>,
    /// How long they are: bit n for n characters, the last for more. Most of a client's headers have another length than any.
    lengths: u64,
}

impl Owned {
    /// What the configuration makes the filter's.
    pub fn new(config: &Config, warning: &str) -> Self {
        let names = names(config, warning);
        let lengths = names.iter().fold(0, |lengths, name| lengths | length_bit(name.as_str().len()));
        Self { names, lengths }
    }

    /// The client's own copies of the filter's headers. Many servers take `x_tenant_id` for `x-tenant-id`, so that counts too.
    pub fn forged(&self, head: &Head<'_>) -> Vec<Vec<u8>> {
        let fold = |b: u8| if b == b'_' { b'-' } else { b };
        let same = |owned: &HeaderName, sent: &[u8]| {
            owned.as_str().len() == sent.len()
                && owned.as_str().bytes().zip(sent).all(|(own, sent)| fold(own) == fold(*sent))
        };
        let mut forged: Vec<Vec<u8>> = Vec::new();
        for (name, _) in head.iter() {
            if self.lengths & length_bit(name.len()) != 0
                && self.names.iter().any(|owned| same(owned, name))
                && !forged.iter().any(|other| other == name)
            {
                forged.push(name.to_vec());
            }
        }
        forged
    }
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

fn names(config: &Config, warning: &str) -> Vec<HeaderName> {
    let mut owned: Vec<HeaderName> = config.forward.0.iter().map(|(name, _)| name.clone()).collect();
    let isolation = &config.isolation;
    if isolation.uses(Resolution::Header) {
        owned.push(isolation.header_name.clone());
    }
    if isolation.strips_path() {
        owned.extend(HeaderName::parse(FORWARDED_PREFIX));
    }
    if config.quotas.0.iter().any(|quota| !quota.warn_at_percent.is_empty()) {
        owned.extend(HeaderName::parse(warning));
    }
    // Whatever the configuration: a service that knows it must be able to believe it.
    owned.extend(HeaderName::parse(AUTH));
    owned.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    owned.dedup();
    owned
}

/// Changes of a request's headers, each name at most once.
pub struct Edits {
    edits: Vec<HeaderEdit>,
    /// The client's own copies of the filter's headers that are still there.
    forged: Vec<Vec<u8>>,
}

impl Edits {
    /// No changes yet, of a request with those forged headers; room for so many.
    pub fn new(forged: Vec<Vec<u8>>, room: usize) -> Self {
        Self { edits: Vec::with_capacity(room), forged }
    }

    /// Gives a header of the filter's its one value.
    pub fn set(&mut self, name: Rc<str>, value: Rc<[u8]>) {
        let sent = self.forged.len();
        self.forged.retain(|forged| *forged != name.as_bytes());
        // To add one that the client hasn't sent is cheaper for Envoy than to replace whatever there may be.
        self.edits.push(if self.forged.len() < sent {
            HeaderEdit::Set(name, value)
        } else {
            HeaderEdit::Add(name, value)
        });
    }

    /// Gives a request another target.
    fn set_path(&mut self, target: Vec<u8>) {
        self.edits.push(HeaderEdit::Set(":path".into(), target.into()));
    }

    /// All of them: what the client has forged and nothing has replaced is removed.
    pub fn finish(self) -> Vec<HeaderEdit> {
        let mut edits = self.edits;
        edits.extend(self.forged.into_iter().map(HeaderEdit::Remove));
        edits
    }
}

/// The request target's parts that may have to be put together anew.
#[derive(Default)]
pub struct Rewrite {
    /// The path without prefix and tenant, and what was taken away.
    stripped: Option<(Vec<u8>, Vec<u8>)>,
    path: Vec<u8>,
    query: Option<Vec<u8>>,
    /// Set where the tenant's parameter was taken out of the query.
    query_stripped: bool,
}

impl Rewrite {
    /// What of the request target may have to be put together anew.
    pub fn new(isolation: &Isolation, head: &Head<'_>) -> Self {
        let mut rewrite = Self::default();
        if isolation.strips_path()
            && let Some((identifier, rest)) = head.target.tenant_segment(&isolation.path_prefix.0)
        {
            // One slash in front, however many there were: to many a service //evil.example is another host.
            let first = rest.iter().position(|b| *b != b'/').unwrap_or(rest.len());
            let rest = rest.get(first..).unwrap_or_default();
            let prefix = [&isolation.path_prefix.0, "/", identifier.as_str()].concat();
            rewrite.stripped = Some(([b"/", rest].concat(), prefix.into_bytes()));
        }
        let strip_query = isolation.strip_query && isolation.uses(Resolution::Query);
        rewrite.query_stripped = strip_query && head.target.query_values(&isolation.query_param).next().is_some();
        if rewrite.stripped.is_some() || rewrite.query_stripped {
            rewrite.path = head.target.path.to_vec();
            rewrite.query = if rewrite.query_stripped {
                head.target.query_without(&isolation.query_param)
            } else {
                head.target.query.map(<[u8]>::to_vec)
            };
        }
        rewrite
    }

    /// Adds the changes of the request target, the path's only where the path named the tenant.
    pub fn edits(&mut self, by_path: bool, edits: &mut Edits) {
        let stripped = self.stripped.take().filter(|_| by_path);
        if stripped.is_none() && !self.query_stripped {
            return;
        }
        let (mut target, prefix) = match stripped {
            Some((rest, prefix)) => (rest, Some(prefix)),
            None => (std::mem::take(&mut self.path), None),
        };
        if let Some(query) = self.query.take() {
            target.push(b'?');
            target.extend(query);
        }
        edits.set_path(target);
        if let Some(prefix) = prefix {
            edits.set(FORWARDED_PREFIX.into(), prefix.into());
        }
    }
}
