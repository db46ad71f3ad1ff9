//! What a viewer may send. Viewers have little to say, so a viewer that says much is ended.

/// Time in which an empty budget is full again.
const REFILL_US: u64 = 16_000_000;
/// Packets of the longest kind that a full budget holds.
const PACKETS: u64 = 4;
/// The budget holds this much at least: 16 subscriptions and a password fit, however short the longest packet is.
const LEAST_PACKET_BYTES: usize = 4_096;

/// A token bucket in one number.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Budget {
    /// When it will be full again, µs by the shard's clock.
    full_at_us: u64,
}

impl Budget {
    /// Takes `bytes` out.
    pub(super) fn spend(&mut self, bytes: usize, now_ms: u64, max_packet_bytes: usize) {
        let cost_us = bytes as u64 * REFILL_US / budget_bytes(max_packet_bytes);
        self.full_at_us = self.full_at_us.max(now_ms * 1_000) + cost_us;
    }

    /// Whether more was taken out than it had.
    pub(super) fn is_spent(self, now_ms: u64) -> bool {
        self.full_at_us > now_ms * 1_000 + REFILL_US
    }
}

/// The bytes that a viewer may send at once.
pub(super) fn budget_bytes(max_packet_bytes: usize) -> u64 {
    max_packet_bytes.max(LEAST_PACKET_BYTES) as u64 * PACKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: usize = LEAST_PACKET_BYTES;

    /// Whether all of these fit: bytes, and when they come.
    fn fit(sent: impl IntoIterator<Item = (usize, u64)>) -> bool {
        let mut budget = Budget::default();
        sent.into_iter().all(|(bytes, now_ms)| {
            budget.spend(bytes, now_ms, PACKET);
            !budget.is_spent(now_ms)
        })
    }

    #[test]
    fn a_burst_fits_once_and_again_after_the_refill() {
        assert!(fit([(16_384, 5)]) && !fit([(16_385, 5)]));
        assert!(fit([(16_384, 5), (16_384, 16_005)]) && !fit([(16_384, 5), (16_384, 15_900)]));
        assert!(fit((0..100).map(|s| (1_024, 1_000 * s))) && !fit((0..100).map(|s| (1_300, 1_000 * s))));
    }

    #[test]
    fn what_polite_clients_send_fits() {
        // CONNECT with a token, 16 subscriptions, each in a WebSocket message of its own, then a ping each second.
        let connect = [(PACKET + 8, 0)];
        let subscribes = (0..16).map(|n| (100, n));
        let pings = (1..10_000).map(|s| (2 + 6, 1_000 * s));
        assert!(fit(connect.into_iter().chain(subscribes).chain(pings)));
        // A heartbeat in text each second, and pings with as much in them as a control frame holds.
        assert!(fit((1..10_000).map(|s| (10 + 131, 1_000 * s))));
    }

    #[test]
    fn a_longer_packet_comes_with_a_larger_budget() {
        let mut budget = Budget::default();
        budget.spend(1 << 20, 0, 1 << 20);
        assert!(!budget.is_spent(0), "a packet of the longest kind");
        assert_eq!((budget_bytes(128), budget_bytes(4_096), budget_bytes(8_192)), (16_384, 16_384, 32_768));
    }
}
