//! What is due at times: pulses, deadlines, a new configuration, the drain.

use super::{
    end::End,
    shard::{Shard, TICK_MS},
    speech::Pulse,
};
use crate::registry::Limits;
use std::sync::Arc;

/// Every viewer's pulse is checked once in this many ticks.
const TICKS: usize = 10;
/// A loop that is this late was stopped, with the process or the machine.
const STOPPED_MS: u64 = TICKS as u64 * TICK_MS;

impl Shard {
    /// Sends those away whose turn has come, and drops those that did not answer their goodbye.
    pub(super) fn send_away(&mut self) {
        let now_ms = self.hall.now_ms;
        while let Some((_, key)) = self.leaving.as_mut().and_then(|l| l.pop_front_if(|next| next.0 <= now_ms))
        {
            self.dismiss(key, End::Drained);
        }
        while let Some((until_ms, key)) = self.goodbyes.pop_front_if(|next| next.0 <= now_ms) {
            // Another viewer may have its key by now.
            if self.hall.viewers.get(key).is_some_and(|viewer| viewer.leaves_ms() == Some(until_ms)) {
                self.hall.viewers.remove(key);
            }
        }
    }

    /// A drain may leave less time for goodbyes than there was before it. Those under way don't outlast it either.
    pub(super) fn shorten_goodbyes(&mut self) {
        let latest_ms = self.hall.now_ms + self.goodbye_ms();
        for (until_ms, key) in &mut self.goodbyes {
            let before_ms = std::mem::replace(until_ms, latest_ms.min(*until_ms));
            let viewer = self.hall.viewers.get_mut(*key).filter(|it| it.leaves_ms() == Some(before_ms));
            if let Some(viewer) = viewer {
                viewer.leave(*until_ms);
            }
        }
    }

    /// Tells all viewers goodbye that were not told before. No answer is waited for.
    pub(super) fn dismiss_all(&mut self) {
        let keys: Vec<_> = self.hall.viewers.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.dismiss(key, End::Drained);
        }
    }

    /// What is due at times: configuration, pulses, deadlines.
    pub(super) fn tick(&mut self) {
        let now_ms = self.hall.now_ms;
        if now_ms < self.tick_ms + TICK_MS {
            return;
        }
        // What viewers sent meanwhile is read first, before anybody is told that nothing was heard.
        let is_late = now_ms > self.tick_ms + TICK_MS + STOPPED_MS;
        let was_stopped = is_late && !self.was_late;
        self.was_late = is_late;
        self.tick_ms = now_ms;
        self.listen();
        // Also those whom no descriptor was left for before.
        self.accepts = self.is_listening && self.listener.is_some();
        let config = self.edge.config.borrow();
        if !Arc::ptr_eq(&config, &self.config) {
            self.config = Arc::clone(&config);
            self.hall.limits = Limits::of(&config);
        }
        drop(config);
        if was_stopped {
            return;
        }
        let seats = self.hall.viewers.capacity();
        for _ in 0..seats / TICKS + 1 {
            self.pulse_at = if self.pulse_at + 1 < seats { self.pulse_at + 1 } else { 0 };
            self.check_pulse(self.pulse_at);
        }
    }

    fn check_pulse(&mut self, key: usize) {
        let now_ms = self.hall.now_ms;
        let Some(viewer) = self.hall.viewers.get_mut(key).filter(|viewer| !viewer.is_leaving()) else {
            return;
        };
        let stalled = |since_ms| now_ms.saturating_sub(since_ms) > self.config.write_timeout_ms;
        if viewer.blocked_since_ms().is_some_and(stalled) {
            return self.end(key, End::Stalled);
        }
        if viewer.is_overdue(now_ms, self.config.mqtt.connect_timeout_ms) {
            return self.dismiss(key, End::Silent);
        }
        let quiet_ms = now_ms.saturating_sub(viewer.quiet_since_ms);
        match viewer.speech.check_pulse(quiet_ms, viewer.is_pinged, &self.config) {
            Pulse::Fine => {}
            pulse @ (Pulse::Ask | Pulse::Tell) => {
                viewer.speech.put_ping(&mut viewer.answers);
                // Its time to answer counts from now, as does the time until the next comment.
                (viewer.quiet_since_ms, viewer.is_pinged) = (now_ms, pulse == Pulse::Ask);
                self.work(key);
            }
            Pulse::Silent => self.dismiss(key, End::Silent),
        }
    }

    /// Ends a connection by our own will, with a goodbye.
    fn dismiss(&mut self, key: usize, end: End) {
        let Some(viewer) = self.hall.viewers.get_mut(key).filter(|viewer| !viewer.is_leaving()) else {
            return;
        };
        viewer.speech.put_goodbye(&mut viewer.answers, end);
        self.end(key, end);
    }
}
