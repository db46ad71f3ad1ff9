//! A shard: a thread with a share of the viewers, and an event loop of its own. Nothing on its hot path is shared.

use super::{
    broadcast::Broadcast,
    end::End,
    hall::Hall,
    mailbox::{Mail, Mailbox, Order},
    speech::Heard,
    viewer::read,
};
use crate::{Config, fanout::Shared, registry::Limits};
use mio::{Events, Interest, Poll, Token, event::Source, net::TcpListener};
use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

const MAILBOX: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);
/// Reads from one viewer before others are looked after.
const READS: usize = 4;
const READ_BYTES: usize = 16 << 10;
/// Newcomers that may wait in the mailbox.
const MAX_NEWCOMERS: usize = 1_024;
/// Events that are taken from the kernel at once.
const EVENTS: usize = 1_024;
pub(super) const TICK_MS: u64 = 100;
/// A shard, ready to run.
pub(super) struct Shard {
    pub(super) edge: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    pub(super) poll: Poll,
    pub(super) config: Arc<Config>,
    pub(super) hall: Hall,
    pub(super) listener: Option<TcpListener>,
    pub(super) is_listening: bool,
    pub(super) accepts: bool,
    pub(super) broadcasts: VecDeque<Broadcast>,
    /// Viewers to serve in this turn of the loop, each of them once.
    pub(super) ready: Vec<usize>,
    /// Those that are being served; empty between turns.
    serving: Vec<usize>,
    scratch: Vec<u8>,
    pub(super) started: Instant,
    pub(super) tick_ms: u64,
    /// The tick before was late.
    pub(super) was_late: bool,
    pub(super) pulse_at: usize,
    /// When each viewer has to leave, in this order.
    pub(super) leaving: Option<VecDeque<(u64, usize)>>,
    /// When the time is over that viewers have to answer their goodbye, in this order. No more than are told goodbye within
    /// a second.
    pub(super) goodbyes: VecDeque<(u64, usize)>,
}

impl Shard {
    pub(super) fn new(
        edge: Arc<Shared>,
        listener: Option<std::net::TcpListener>,
    ) -> io::Result<(Self, Arc<Mailbox>)> {
        let poll = Poll::new()?;
        let mailbox = Arc::new(Mailbox::new(mio::Waker::new(poll.registry(), MAILBOX)?, MAX_NEWCOMERS));
        let config = Arc::clone(&edge.config.borrow());
        let shard = Self {
            hall: Hall::new(Arc::clone(&edge.registry), Limits::of(&config)),
            scratch: Vec::new(),
            listener: listener.map(TcpListener::from_std),
            is_listening: false,
            accepts: false,
            broadcasts: VecDeque::new(),
            ready: Vec::new(),
            serving: Vec::new(),
            started: Instant::now(),
            tick_ms: 0,
            was_late: false,
            pulse_at: 0,
            leaving: None,
            goodbyes: VecDeque::new(),
            mailbox: Arc::clone(&mailbox),
            edge,
            poll,
            config,
        };
        Ok((shard, mailbox))
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while self.turn(&mut events)? {}
        Ok(())
    }

    /// One turn of the loop: waits for events, and does what is due. Says whether to go on.
    pub(super) fn turn(&mut self, events: &mut Events) -> io::Result<bool> {
        match self.poll.poll(events, Some(self.patience())) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            polled => polled?,
        }
        self.hall.now_ms = self.started.elapsed().as_millis() as u64;
        for event in &*events {
            match event.token() {
                MAILBOX => {
                    if self.open_mail() {
                        return Ok(false);
                    }
                }
                LISTENER => self.accepts = true,
                Token(key) => {
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        self.hear_of(key);
                    }
                    self.mark_ready(key);
                }
            }
        }
        self.serve_ready();
        self.accept();
        self.broadcast();
        self.send_away();
        self.tick();
        self.hall.tally.flush(&self.edge.meters);
        Ok(true)
    }

    /// Has a viewer served in this turn, or in the next one if this turn has come to it already.
    fn mark_ready(&mut self, key: usize) {
        if let Some(viewer) = self.hall.viewers.get_mut(key)
            && !std::mem::replace(&mut viewer.is_queued, true)
        {
            self.ready.push(key);
        }
    }

    fn serve_ready(&mut self) {
        std::mem::swap(&mut self.ready, &mut self.serving);
        for index in 0..self.serving.len() {
            let key = self.serving[index];
            if let Some(viewer) = self.hall.viewers.get_mut(key) {
                viewer.is_queued = false;
            }
            self.work(key);
        }
        self.serving.clear();
    }

    /// Begins to accept viewers, once they can be shown what there is.
    pub(super) fn listen(&mut self) {
        if self.is_listening || !self.edge.is_caught_up() {
            return;
        }
        let Some(listener) = &mut self.listener else { return };
        match listener.register(self.poll.registry(), LISTENER, Interest::READABLE) {
            Ok(()) => self.is_listening = true,
            Err(error) => tracing::error!(%error, "the listener of viewers can't be watched"),
        }
    }

    /// How long to wait for events.
    fn patience(&self) -> Duration {
        if !self.ready.is_empty() || !self.broadcasts.is_empty() || self.accepts {
            return Duration::ZERO;
        }
        let now_ms = self.started.elapsed().as_millis() as u64;
        let next_ms = |times: &VecDeque<(u64, usize)>| times.front().map_or(u64::MAX, |next| next.0);
        let leave_ms = self.leaving.as_ref().map_or(u64::MAX, next_ms).min(next_ms(&self.goodbyes));
        Duration::from_millis((self.tick_ms + TICK_MS).min(leave_ms).saturating_sub(now_ms))
    }

    /// Something came from a viewer.
    fn hear_of(&mut self, key: usize) {
        let now_ms = self.hall.now_ms;
        if let Some(viewer) = self.hall.viewers.get_mut(key) {
            viewer.readable = true;
            // Who does not take what is due is not read.
            if viewer.speech.counts_as_heard(viewer.blocked_since_ms().is_some()) {
                viewer.hear(now_ms);
            }
        }
    }

    /// Takes what is in the mailbox. Says whether to stop.
    fn open_mail(&mut self) -> bool {
        let Mail { newcomers, mut frames, order } = self.mailbox.take();
        match order {
            Some(Order::Stop) => {
                self.dismiss_all();
                newcomers.iter().for_each(|_| self.edge.meters.closed("cut"));
                return true;
            }
            Some(Order::Drain) => {
                (self.listener, self.accepts) = (None, false);
                let turns = self.hall.viewers.iter().map(|(key, _)| (self.turn_ms(), key)).collect();
                self.leaving = Some(turns);
                self.shorten_goodbyes();
            }
            None => {}
        }
        for newcomer in newcomers {
            self.welcome(newcomer);
        }
        while let Some((room, frame)) = frames.take() {
            match &frame {
                Some(frame) => {
                    for (key, end) in self.hall.offer_to_all(&room, frame) {
                        self.end(key, end);
                    }
                }
                None => self.hall.forget(&room),
            }
            if let Some(index) = self.hall.rooms.show(&room, frame) {
                self.begin_broadcast(index);
            }
        }
        false
    }

    /// Writes what is due to a viewer, and reads what it says.
    pub(super) fn work(&mut self, key: usize) {
        if let Err(end) = self.try_work(key) {
            self.end(key, end);
        }
    }

    fn try_work(&mut self, key: usize) -> Result<(), End> {
        for _ in 0..READS {
            let took_all = self.hall.pump(key)?;
            let Some(viewer) = self.hall.viewers.get_mut(key) else { return Ok(()) };
            let leaves = viewer.is_leaving();
            // A viewer that does not take its answers is not asked for more. After a goodbye only its end is waited for, but
            // not read on for behind a flood.
            let is_read = if leaves { !viewer.budget.is_spent(self.hall.now_ms) } else { took_all };
            if !viewer.readable || !is_read {
                return Ok(());
            }
            self.read(key, leaves)?;
        }
        self.mark_ready(key);
        Ok(())
    }

    fn read(&mut self, key: usize, leaves: bool) -> Result<(), End> {
        let now_ms = self.hall.now_ms;
        let Some(viewer) = self.hall.viewers.get_mut(key) else { return Ok(()) };
        let kept = viewer.unfinished().len();
        self.scratch.resize(kept + READ_BYTES, 0);
        self.scratch[..kept].copy_from_slice(viewer.unfinished());
        let came = match read(&mut viewer.stream, &mut self.scratch[kept..]) {
            Ok(Some(0)) => return Err(End::Gone),
            Err(error) => return Err(error.into()),
            Ok(Some(came)) => came,
            // What came with the handshake is heard once.
            Ok(None) => {
                viewer.readable = false;
                0
            }
        };
        viewer.budget.spend(came, now_ms, self.config.mqtt.max_packet_bytes);
        let len = kept + came;
        if leaves || len == 0 {
            return Ok(());
        }
        if viewer.budget.is_spent(now_ms) {
            viewer.speech.put_goodbye(&mut viewer.answers, End::Flooding);
            return Err(End::Flooding);
        }
        let Heard { bytes: taken, alive } = self.hear(key, len)?;
        let Some(viewer) = self.hall.viewers.get_mut(key) else { return Ok(()) };
        // With its CONNECT, too: the keep alive begins with that, not with the connection.
        if alive && came > 0 {
            viewer.hear(now_ms);
        }
        viewer.keep_unfinished(&self.scratch[taken..len], alive && taken > 0, now_ms);
        Ok(())
    }

    /// Has the session take what is in `scratch`. Strangers wrote these bytes, so a panic here ends their connection, and
    /// not the shard.
    fn hear(&mut self, key: usize, len: usize) -> Result<Heard, End> {
        let (input, config) = (&mut self.scratch[..len], &self.config);
        let heard = self.hall.with(key, |speech, answers, audience| {
            let before = answers.len();
            let hear = AssertUnwindSafe(|| speech.hear(input, answers, audience, config));
            catch_unwind(hear).unwrap_or_else(|_| {
                // Half an answer is none.
                answers.truncate(before);
                speech.put_goodbye(answers, End::Fault);
                tracing::error!(
                    "a bug: reading a viewer's bytes panicked; this viewer is closed, please report it"
                );
                Err(End::Fault)
            })
        });
        heard.unwrap_or(Err(End::Gone))
    }

    pub(super) fn end(&mut self, key: usize, end: End) {
        let until_ms = self.hall.now_ms + self.goodbye_ms();
        if self.hall.end(key, end, until_ms, &self.edge.meters) {
            self.goodbyes.push_back((until_ms, key));
        }
    }

    /// How long a viewer may take to answer a goodbye.
    pub(super) fn goodbye_ms(&self) -> u64 {
        self.edge.drain.goodbye().as_millis() as u64
    }

    /// When the next viewer has to leave, by the shard's clock.
    pub(super) fn turn_ms(&self) -> u64 {
        // Rounded up: nobody leaves before the turn.
        self.edge.drain.turn().into_std().saturating_duration_since(self.started).as_micros().div_ceil(1_000)
            as u64
    }
}
