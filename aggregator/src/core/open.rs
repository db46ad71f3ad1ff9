//! The window that is open, and where windows lie in time.

use crate::Config;
use wire::Window;

/// The window that records are counted in.
#[derive(Debug)]
pub(super) struct OpenWindow {
    pub(super) window: Window,
    pub(super) slots: usize,
    /// The numbers of those with reactions in it, in no order. What it holds of them is with their other sums.
    pub(super) rooms: Vec<usize>,
}

impl OpenWindow {
    pub(super) fn new(window: Window, slots: usize) -> Self {
        Self { window, slots, rooms: Vec::new() }
    }

    /// The slice of the window that holds `timestamp_ms`; the nearest one for times outside.
    pub(super) fn slot(&self, timestamp_ms: u64) -> usize {
        let into_ms = timestamp_ms.saturating_sub(self.window.start).min(self.window.len_ms() - 1);
        let slot = u128::from(into_ms) * self.slots as u128 / u128::from(self.window.len_ms());
        usize::try_from(slot).unwrap_or(0)
    }
}

/// The window that holds `at_ms`, for partition `partition` of `partitions`: on the grid of the interval, shifted by
/// the partition's share, and not before `floor_ms`, where the window before ended. So the first window after a
/// change of the interval may be shorter than the new interval.
pub(super) fn window_at(
    at_ms: u64,
    floor_ms: u64,
    partition: u32,
    partitions: u32,
    config: Config,
) -> Window {
    let interval_ms = config.interval_ms;
    let shift_ms = interval_ms * u64::from(partition) / u64::from(partitions.max(1));
    let at_ms = at_ms.max(floor_ms).max(shift_ms);
    let start = (at_ms - shift_ms) / interval_ms * interval_ms + shift_ms;
    Window { start: start.max(floor_ms), end: start + interval_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::CONFIG;

    #[test]
    fn windows_lie_on_the_grid_of_the_interval() {
        assert_eq!(window_at(10_000, 0, 0, 4, CONFIG), Window { start: 10_000, end: 12_000 });
        assert_eq!(window_at(11_999, 0, 0, 4, CONFIG), Window { start: 10_000, end: 12_000 });
    }

    #[test]
    fn partitions_are_spread_over_the_interval() {
        assert_eq!(window_at(10_600, 0, 1, 4, CONFIG), Window { start: 10_500, end: 12_500 });
        assert_eq!(window_at(10_600, 0, 3, 4, CONFIG), Window { start: 9_500, end: 11_500 });
    }

    #[test]
    fn a_time_before_the_first_window_belongs_to_that() {
        assert_eq!(window_at(0, 0, 3, 4, CONFIG), Window { start: 1_500, end: 3_500 });
    }

    #[test]
    fn a_window_never_starts_before_the_last_one_ended() {
        assert_eq!(window_at(10_100, 10_300, 0, 1, CONFIG), Window { start: 10_300, end: 12_000 });
        assert_eq!(window_at(10_100, 12_000, 0, 1, CONFIG), Window { start: 12_000, end: 14_000 });
    }

    #[test]
    fn slots_are_equal_slices_and_times_outside_go_to_the_nearest() {
        let open = OpenWindow::new(Window { start: 10_000, end: 12_000 }, 4);
        let slots = [0, 10_000, 10_499, 10_500, 11_999, 12_000, u64::MAX].map(|ts| open.slot(ts));
        assert_eq!(slots, [0, 0, 0, 1, 3, 3, 3]);
    }
}
