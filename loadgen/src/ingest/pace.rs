//! When the requests of an open loop are due, for one of the threads that share the schedule. Pure: time comes in as the
//! time since the start.

use crate::schedule::Schedule;
use std::time::Duration;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send the request that was due then.
    Send(Duration),
    /// Nothing before this time, unless a connection becomes free.
    Wait(Duration),
    /// All requests were sent, or given up.
    Over,
}

/// Every `step`-th request of a schedule.
#[derive(Debug)]
pub(crate) struct Pace {
    schedule: Schedule,
    next: u64,
    step: u64,
    /// A request that is later than this is not sent.
    late: Duration,
    /// Those due earlier are not counted.
    counted_from: Duration,
    due: u64,
    not_sent: u64,
}

impl Pace {
    /// The share of poster `index` out of `posters`, in a schedule that begins with a warm-up.
    pub(crate) fn new(
        rate_per_s: u32,
        (warm_up, duration): (Duration, Duration),
        late: Duration,
        (index, posters): (usize, usize),
    ) -> Self {
        Self {
            schedule: Schedule::new(rate_per_s, warm_up + duration),
            next: index as u64,
            step: posters as u64,
            late,
            counted_from: warm_up,
            due: 0,
            not_sent: 0,
        }
    }

    /// The next step at `elapsed`, where a connection is free or none is. What is too late is given up and counted.
    pub(crate) fn next(&mut self, elapsed: Duration, free: bool) -> Next {
        while self.next < self.schedule.total() {
            let due = self.schedule.due(self.next);
            if elapsed.saturating_sub(due) > self.late {
                self.not_sent += u64::from(self.is_counted(due));
            } else if due > elapsed {
                return Next::Wait(due);
            } else if !free {
                return Next::Wait(due + self.late);
            }
            self.due += u64::from(self.is_counted(due));
            self.next += self.step;
            if elapsed.saturating_sub(due) <= self.late {
                return Next::Send(due);
            }
        }
        Next::Over
    }

    /// Whether a request due then is measured: not one of the warm-up.
    pub(crate) fn is_counted(&self, due: Duration) -> bool {
        due >= self.counted_from
    }

    /// Requests that fell due after the warm-up, and those of them that were not sent. Nothing more is to come.
    pub(crate) fn close(mut self) -> (u64, u64) {
        while self.next < self.schedule.total() {
            let counted = u64::from(self.is_counted(self.schedule.due(self.next)));
            self.due += counted;
            self.not_sent += counted;
            self.next += self.step;
        }
        (self.due, self.not_sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Ten requests a second: two in the warm-up, ten after it.
    fn pace(share: (usize, usize)) -> Pace {
        Pace::new(10, (ms(200), ms(1_000)), ms(300), share)
    }

    #[test]
    fn a_request_is_sent_when_it_is_due() {
        let mut pace = pace((0, 1));
        assert_eq!(pace.next(ms(0), true), Next::Send(ms(0)));
        assert_eq!(pace.next(ms(0), true), Next::Wait(ms(100)));
        assert_eq!(pace.next(ms(130), true), Next::Send(ms(100)), "its lateness counts from when it was due");
    }

    #[test]
    fn without_a_free_connection_requests_wait_until_they_are_too_late() {
        let mut pace = pace((0, 1));
        assert_eq!(pace.next(ms(50), false), Next::Wait(ms(300)));
        assert_eq!(pace.next(ms(300), true), Next::Send(ms(0)), "just in time");
        assert_eq!(pace.next(ms(650), true), Next::Send(ms(400)), "those of 100, 200 and 300 are given up");
        let (due, not_sent) = pace.close();
        assert_eq!((due, not_sent), (10, 2 + 7), "that of 100 was of the warm-up; seven were not even tried");
    }

    #[test]
    fn nothing_is_dropped_silently() {
        let mut pace = pace((0, 1));
        let mut sent = 0;
        let mut elapsed = ms(0);
        loop {
            match pace.next(elapsed, true) {
                Next::Send(due) => sent += u64::from(pace.is_counted(due)),
                // Somebody who oversleeps by far more than is forgiven.
                Next::Wait(until) => elapsed = until + ms(450),
                Next::Over => break,
            }
        }
        let (due, not_sent) = pace.close();
        assert_eq!((due, sent + not_sent), (10, 10));
        assert!(sent > 0 && not_sent > 0, "{sent} {not_sent}");
    }

    #[test]
    fn posters_share_the_schedule() {
        let (mut even, mut odd) = (pace((0, 2)), pace((1, 2)));
        assert_eq!(even.next(ms(0), true), Next::Send(ms(0)));
        assert_eq!(even.next(ms(0), true), Next::Wait(ms(200)));
        assert_eq!(odd.next(ms(0), true), Next::Wait(ms(100)));
        assert_eq!(even.close().0 + odd.close().0, 10);
    }
}
