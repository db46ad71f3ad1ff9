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
pub(super) const TICK_MS: u64 = 100;
/// Longest wait for a viewer to answer a goodbye.
const GOODBYE_MS: u64 = 1_000;

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
    /// Viewers that have more to say.
    again: Vec<usize>,
    scratch: Vec<u8>,
    started: Instant,
    pub(super) tick_ms: u64,
    pub(super) pulse_at: usize,
    /// When each viewer has to leave, in this order.
    pub(super) leaving: Option<VecDeque<(u64, usize)>>,
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
            again: Vec::new(),
            started: Instant::now(),
            tick_ms: 0,
            pulse_at: 0,
            leaving: None,
            mailbox: Arc::clone(&mailbox),
            edge,
            poll,
            config,
        };
        Ok((shard, mailbox))
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        loop {
            match self.poll.poll(&mut events, Some(self.patience())) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                polled => polled?,
            }
            self.hall.now_ms = self.started.elapsed().as_millis() as u64;
            for event in &events {
                match event.token() {
                    MAILBOX => {
                        if self.open_mail() {
                            return Ok(());
                        }
                    }
                    LISTENER => self.accepts = true,
                    Token(key) => {
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.hear_of(key);
                        }
                        self.work(key);
                    }
                }
            }
            for key in std::mem::take(&mut self.again) {
                self.work(key);
            }
            self.accept();
            self.broadcast();
            self.send_away();
            self.tick();
            self.hall.tally.flush(&self.edge.meters);
        }
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
        if !self.again.is_empty() || !self.broadcasts.is_empty() || self.accepts {
            return Duration::ZERO;
        }
        let now_ms = self.started.elapsed().as_millis() as u64;
        let leave_ms =
            self.leaving.as_ref().and_then(|leaving| leaving.front()).map_or(u64::MAX, |next| next.0);
        Duration::from_millis((self.tick_ms + TICK_MS).min(leave_ms).saturating_sub(now_ms))
    }

    /// Something came from a viewer.
    fn hear_of(&mut self, key: usize) {
        let now_ms = self.hall.now_ms;
        if let Some(viewer) = self.hall.viewers.get_mut(key) {
            viewer.readable = true;
            // Who does not take what is due is not read.
            if viewer.speech.counts_as_heard(viewer.blocked_since_ms.is_some()) {
                (viewer.heard_ms, viewer.asked) = (now_ms, false);
            }
        }
    }

    /// Takes what is in the mailbox. Says whether to stop.
    fn open_mail(&mut self) -> bool {
        let Mail { newcomers, mut frames, order } = self.mailbox.take();
        match order {
            Some(Order::Stop) => {
                let here = self.hall.viewers.iter().filter(|(_, viewer)| viewer.leaves_ms.is_none()).count();
                (0..here + newcomers.len()).for_each(|_| self.edge.meters.closed("cut"));
                return true;
            }
            Some(Order::Drain) => {
                (self.listener, self.accepts) = (None, false);
                let turns = self.hall.viewers.iter().map(|(key, _)| (self.turn_ms(), key)).collect();
                self.leaving = Some(turns);
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
            let leaves = viewer.leaves_ms.is_some();
            if leaves && took_all {
                let _ = viewer.stream.shutdown(std::net::Shutdown::Write);
            }
            // Who does not take its answers is not asked for more.
            if !viewer.readable || (!took_all && !leaves) {
                return Ok(());
            }
            self.read(key, leaves)?;
        }
        self.again.push(key);
        Ok(())
    }

    fn read(&mut self, key: usize, leaves: bool) -> Result<(), End> {
        let Some(viewer) = self.hall.viewers.get_mut(key) else { return Ok(()) };
        let kept = viewer.input.len();
        self.scratch.resize(kept + READ_BYTES, 0);
        self.scratch[..kept].copy_from_slice(&viewer.input);
        let len = match read(&mut viewer.stream, &mut self.scratch[kept..]) {
            Ok(Some(0)) => return Err(End::Gone),
            Err(error) => return Err(error.into()),
            Ok(Some(len)) => kept + len,
            // What came with the handshake is heard once.
            Ok(None) => {
                viewer.readable = false;
                kept
            }
        };
        if leaves || len == 0 {
            return Ok(());
        }
        viewer.input = Vec::new();
        let (input, config) = (&mut self.scratch[..len], &self.config);
        let heard =
            self.hall.with(key, |speech, answers, audience| speech.hear(input, answers, audience, config));
        let Some(heard) = heard else { return Ok(()) };
        let Heard { bytes: taken, alive } = heard?;
        let Some(viewer) = self.hall.viewers.get_mut(key) else { return Ok(()) };
        // With its CONNECT, too: the keep alive begins with that, not with the connection.
        if alive && len > kept {
            viewer.heard_ms = self.hall.now_ms;
        }
        if taken < len {
            viewer.input = self.scratch[taken..len].to_vec();
        }
        Ok(())
    }

    pub(super) fn end(&mut self, key: usize, end: End) {
        self.hall.end(key, end, self.hall.now_ms + GOODBYE_MS, &self.edge.meters);
    }

    /// When the next viewer has to leave, by the shard's clock.
    pub(super) fn turn_ms(&self) -> u64 {
        // Rounded up: nobody leaves before the turn.
        self.edge.drain.turn().into_std().saturating_duration_since(self.started).as_micros().div_ceil(1_000)
            as u64
    }
}
