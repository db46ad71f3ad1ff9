//! When each request is due. Pure: time comes in as the time since the start.
//!
//! The schedule is open: requests fall due at a fixed rate, whatever the server does. Connections take the next
//! request, wait until it is due and send it. When all of them are busy, requests become late; one that is later than
//! the patience is not sent but counted. So the backlog has a bound (rate x patience), and a slow server can neither
//! slow the schedule nor hide behind it.

use std::time::Duration;

/// A fixed rate over a fixed time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    rate_per_s: u32,
    total: u64,
}

impl Schedule {
    pub(crate) fn new(rate_per_s: u32, duration: Duration) -> Self {
        let total = duration.as_nanos() * u128::from(rate_per_s) / 1_000_000_000;
        Self { rate_per_s, total: u64::try_from(total).unwrap_or(u64::MAX) }
    }

    /// How many requests there are.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// When request `n` (from 0) is due.
    pub(crate) fn due(&self, n: u64) -> Duration {
        let rate = u64::from(self.rate_per_s);
        Duration::from_secs(n / rate) + Duration::from_nanos(n % rate * 1_000_000_000 / rate)
    }
}

/// A request to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Its number, from 0.
    pub(crate) n: u64,
    /// When it is due, since the start.
    pub(crate) due: Duration,
}

/// Hands out the requests of a schedule in order, to whichever connection is free.
#[derive(Debug)]
pub(crate) struct Tickets {
    schedule: Schedule,
    patience: Duration,
    next: u64,
    not_sent: u64,
}

impl Tickets {
    pub(crate) fn new(schedule: Schedule, patience: Duration) -> Self {
        Self { schedule, patience, next: 0, not_sent: 0 }
    }

    /// The next request that isn't too late at `elapsed`; those that are get counted. `None` when there are no more.
    pub(crate) fn take(&mut self, elapsed: Duration) -> Option<Ticket> {
        while self.next < self.schedule.total {
            let ticket = Ticket { n: self.next, due: self.schedule.due(self.next) };
            self.next += 1;
            if !self.is_too_late(ticket, elapsed) {
                return Some(ticket);
            }
            self.not_sent += 1;
        }
        None
    }

    /// Whether nobody would wait for this request any more.
    pub(crate) fn is_too_late(&self, ticket: Ticket, elapsed: Duration) -> bool {
        elapsed.saturating_sub(ticket.due) > self.patience
    }

    /// Gives back a request that could not be sent.
    pub(crate) fn give_up(&mut self) {
        self.not_sent += 1;
    }

    /// Ends the schedule at `elapsed`: what was due and is not taken was not sent, the rest will never be due.
    pub(crate) fn close(&mut self, elapsed: Duration) {
        while self.next < self.schedule.total && self.schedule.due(self.next) <= elapsed {
            self.next += 1;
            self.not_sent += 1;
        }
        self.next = self.schedule.total;
    }

    /// Requests that fell due and were not sent.
    pub(crate) fn not_sent(&self) -> u64 {
        self.not_sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn requests_are_spread_evenly_and_do_not_drift() {
        let schedule = Schedule::new(3, Duration::from_secs(10));
        assert_eq!(schedule.total(), 30);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1), Duration::from_nanos(333_333_333));
        assert_eq!(schedule.due(3), Duration::from_secs(1));
        let fast = Schedule::new(1_000_000, Duration::from_secs(86_400));
        assert_eq!(fast.due(fast.total()), Duration::from_secs(86_400));
    }

    #[test]
    fn the_total_is_what_fits_into_the_duration() {
        assert_eq!(Schedule::new(2_000, Duration::from_secs(60)).total(), 120_000);
        assert_eq!(Schedule::new(10, ms(250)).total(), 2);
        assert_eq!(Schedule::new(10, ms(99)).total(), 0);
    }

    #[test]
    fn every_request_is_handed_out_once_in_order() {
        let mut tickets = Tickets::new(Schedule::new(10, ms(300)), ms(1_000));
        let taken: Vec<_> = std::iter::from_fn(|| tickets.take(Duration::ZERO)).collect();
        assert_eq!(taken, [0, 1, 2].map(|n| Ticket { n, due: ms(n * 100) }));
        assert_eq!(tickets.not_sent(), 0);
    }

    #[test]
    fn requests_later_than_the_patience_are_counted_as_not_sent() {
        let mut tickets = Tickets::new(Schedule::new(10, ms(1_000)), ms(200));
        // At 550 ms those due at 0, 100, 200 and 300 are too late; the one of 400 is still worth sending.
        assert_eq!(tickets.take(ms(550)), Some(Ticket { n: 4, due: ms(400) }));
        assert_eq!(tickets.not_sent(), 4);
    }

    #[test]
    fn lateness_up_to_the_patience_is_measured_instead_of_dropped() {
        let mut tickets = Tickets::new(Schedule::new(10, ms(1_000)), ms(200));
        assert_eq!(tickets.take(ms(200)), Some(Ticket { n: 0, due: ms(0) }));
        assert_eq!(tickets.not_sent(), 0);
    }

    #[test]
    fn closing_counts_what_was_due_and_forgets_what_was_not() {
        let mut tickets = Tickets::new(Schedule::new(10, ms(1_000)), ms(5_000));
        assert!(tickets.take(ms(0)).is_some());
        tickets.close(ms(300));
        assert_eq!(tickets.not_sent(), 3, "those of 100, 200 and 300 ms");
        assert_eq!(tickets.take(ms(300)), None);
    }

    #[test]
    fn after_the_last_request_nothing_is_left_to_be_counted_but_what_is_given_back() {
        let mut tickets = Tickets::new(Schedule::new(10, ms(300)), ms(5_000));
        while tickets.take(ms(300)).is_some() {}
        tickets.close(ms(2_000));
        assert_eq!(tickets.not_sent(), 0);
        tickets.give_up();
        assert_eq!(tickets.not_sent(), 1);
    }
}
