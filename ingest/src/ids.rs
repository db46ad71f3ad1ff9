//! Short names for what clients choose: 128 bits under a secret of this process.
//!
//! Tables of clients and keys hold these, not what was sent: an entry has one size, whoever picks addresses, subjects
//! or keys can't steer where they land, and no address lies about in memory.

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

/// What something is called in a table. Two things have the same with a chance of 2^-128, which nobody can raise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id {
    slot: u64,
    shard: u64,
}

impl Id {
    /// For names that are made of others.
    pub(crate) fn parts(self) -> (u64, u64) {
        (self.slot, self.shard)
    }

    /// Which of `shards` tables it belongs to.
    pub(crate) fn shard(self, shards: usize) -> usize {
        (self.shard % shards as u64) as usize
    }
}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.slot);
    }
}

/// The secret. It has to live as long as the tables.
#[derive(Debug, Default)]
pub(crate) struct Secret {
    slot: RandomState,
    shard: RandomState,
}

impl Secret {
    /// The name of `what`.
    pub(crate) fn id(&self, what: impl Hash) -> Id {
        Id { slot: self.slot.hash_one(&what), shard: self.shard.hash_one(&what) }
    }

    /// 64 bits that tell bodies apart.
    pub(crate) fn fingerprint(&self, bytes: &[u8]) -> u64 {
        self.slot.hash_one(bytes)
    }
}

/// For tables by [`Id`]: it is a hash already.
pub(crate) type Hashed = BuildHasherDefault<AsItIs>;

/// Passes the hash on.
#[derive(Debug, Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_has_one_name_under_a_secret_and_another_under_another() {
        let (one, other) = (Secret::default(), Secret::default());
        assert_eq!(one.id("a"), one.id("a"));
        assert_ne!(one.id("a"), one.id("b"));
        assert_ne!(one.id("a"), other.id("a"));
        assert_ne!(one.fingerprint(b"a"), one.fingerprint(b"b"));
    }

    #[test]
    fn names_are_spread_over_all_shards() {
        let secret = Secret::default();
        let mut seen = [0; 16];
        (0..16_000).for_each(|n| seen[secret.id(n).shard(16)] += 1);
        assert!(seen.iter().all(|n| (800..1_200).contains(n)), "{seen:?}");
    }
}
