//! The tokens that this worker has verified, whole: only the very same bytes are found again.

use std::time::SystemTime;

use quick_cache::unsync::Cache;
use quick_cache::{Equivalent, Weighter};

use super::{Key, Verified};

/// How many bytes of tokens a worker remembers, with what it knows of them.
pub const MEMORY_BYTES: u64 = 8 * 1024 * 1024;
/// What an entry takes beside its token.
const ENTRY_BYTES: u64 = 256;

pub struct Memory(Cache<Box<[u8]>, Verified, Bytes>);

/// The table itself grows with its entries, so an entry weighs something even where its token is short.
#[derive(Clone)]
struct Bytes;

impl Weighter<Box<[u8]>, Verified> for Bytes {
    fn weight(&self, token: &Box<[u8]>, _: &Verified) -> u64 {
        u64::try_from(token.len()).unwrap_or(u64::MAX).saturating_add(ENTRY_BYTES)
    }
}

/// A token that is looked for.
#[derive(Hash)]
struct Sought<'t>(&'t [u8]);

impl Equivalent<Box<[u8]>> for Sought<'_> {
    /// Eight bytes at a time: wasm's `memcmp` takes them one by one, and half a microsecond for a token.
    fn equivalent(&self, token: &Box<[u8]>) -> bool {
        let ((words, rest), (other_words, other_rest)) = (self.0.as_chunks::<8>(), token.as_chunks::<8>());
        let same = |(word, other): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*word) == u64::from_ne_bytes(*other);
        self.0.len() == token.len() && words.iter().zip(other_words).all(same) && rest == other_rest
    }
}

impl Memory {
    pub fn new() -> Self {
        Self(Cache::with_weighter(8192, MEMORY_BYTES, Bytes))
    }

    /// What was verified of these bytes, where it holds now.
    pub fn get(&mut self, token: &[u8], now: SystemTime) -> Option<Verified> {
        let verified = self.0.get(&Sought(token))?.clone();
        if now >= verified.until {
            self.0.remove(token);
            return None;
        }
        // A clock that was set back can make a token that was good one that isn't valid yet.
        (now >= verified.from).then_some(verified)
    }

    pub fn insert(&mut self, token: &[u8], verified: Verified) {
        self.0.insert(token.into(), verified);
    }

    /// How many tokens there are, and what they weigh in bytes.
    pub fn size(&self) -> (usize, u64) {
        (self.0.len(), self.0.weight())
    }

    /// Forgets what was verified with a key that isn't among those to keep.
    pub fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        self.0.retain(|_, verified| verified.key.as_ref().is_none_or(|key| keep(key)));
    }
}
