//! Which partition a room lives in: the rule of Kafka's default partitioner, so that every writer places rooms alike.

/// The partition of `room` among `partitions`. Never changes: what is stored is found by it.
pub fn partition_of(room: &str, partitions: u32) -> u32 {
    (murmur2(room.as_bytes()) & 0x7fff_ffff) % partitions.max(1)
}

/// MurmurHash2, 32 bits, with Kafka's seed.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |k, byte| (k << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_kafka_does() {
        // The vectors of Kafka's own test of its hash.
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn a_room_stays_where_it_was_stored() {
        let places = ["ind-pak-final", "a", "room-1", "room-2", "room-3"].map(|room| partition_of(room, 12));
        assert_eq!(places, [6, 4, 3, 0, 7]);
    }

    #[test]
    fn rooms_spread_over_all_partitions() {
        let mut rooms = [0; 8];
        for room in 0..8_000 {
            rooms[partition_of(&format!("room-{room}"), 8) as usize] += 1;
        }
        assert!(rooms.iter().all(|n| (800..1_200).contains(n)), "{rooms:?}");
    }
}
