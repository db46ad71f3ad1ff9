//! One run: some instances of the tier on one log, and what happens to them, step by step.

use super::{
    bugs::Bug,
    instance::Instance,
    log::SimLog,
    rng::Rng,
    steps::{Plan, Step, configure},
};
use crate::{Config, pending::Limits};
use eventlog::{EventLog, MemoryLog, Writer};
use service::{Clock, ManualClock};
use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};
use tokio::{sync::watch, time};
use wire::{Batch, RoomName};

const START_MS: u64 = 1_700_000_000_000;
const INSTANCES_MAX: usize = 3;
/// Moves of instances without time passing, before it counts as a busy loop.
const MOVES_MAX: usize = 100_000;
const POISONS: [&[u8]; 4] = [b"", b"\xff\x00", b"{\"v\":7}", b"[1,2,3]"];

pub(super) struct World {
    rng: Rng,
    pub(super) memory: Arc<MemoryLog>,
    pub(super) log: SimLog,
    writer: Arc<dyn Writer>,
    log_clock: ManualClock,
    log_clock_off_ms: i64,
    now_ms: u64,
    partitions: u32,
    rooms: Vec<RoomName>,
    config: watch::Sender<Arc<Config>>,
    limits: Limits,
    instances: Vec<Instance>,
    revoked: Vec<u32>,
    holding: bool,
    /// What was appended, by room.
    pub(super) accepted: BTreeMap<RoomName, u64>,
    /// What happened so far; can still be read after a panic.
    steps: Arc<Mutex<Vec<Step>>>,
}

impl World {
    /// Everything in it follows from `seed`.
    pub(super) async fn new(seed: u64, bug: Option<Bug>, steps: Arc<Mutex<Vec<Step>>>) -> Self {
        let mut rng = Rng::new(seed);
        let partitions = rng.between(1, 5) as u32;
        let log_clock = ManualClock::at(START_MS);
        let hand = log_clock.clone();
        let memory = MemoryLog::with_clock(partitions, Arc::new(move || hand.now_ms()));
        memory.fence(bug != Some(Bug::FencingOff));
        let log = SimLog::new(Arc::clone(&memory), Rng::new(rng.draw()), bug);
        let rooms = (0..rng.between(1, 6)).map(|n| format!("room-{n}").parse().unwrap()).collect();
        let limits = Limits { commit: rng.below(12) + 1, waiting: rng.below(60) + 1 };
        let config = config_of(configure(&mut rng)).unwrap();
        log.configured(&config);
        let mut world = Self {
            writer: memory.writer().await.unwrap(),
            rng,
            memory,
            log,
            log_clock,
            log_clock_off_ms: 0,
            now_ms: START_MS,
            partitions,
            rooms,
            config: watch::Sender::new(Arc::new(config)),
            limits,
            instances: Vec::new(),
            revoked: Vec::new(),
            holding: false,
            accepted: BTreeMap::new(),
            steps,
        };
        for _ in 0..=world.rng.below(INSTANCES_MAX) {
            world.start();
        }
        world
    }

    /// Takes all steps.
    pub(super) async fn live(&mut self) -> Result<(), String> {
        let plan = Plan::new(&mut self.rng);
        for _ in 0..self.rng.between(20, 120) {
            let step = plan.next(&mut self.rng);
            self.steps.lock().unwrap().push(step);
            self.take(step).await?;
            match self.rng.below(10) {
                0..5 => self.settle()?,
                5..8 => {
                    for _ in 0..=self.rng.below(6) {
                        self.move_one()?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::React { room, batches } => self.react(room, batches, None),
            Step::ReactAtOddTime { room, batches, off_ms } => self.react(room, batches, Some(off_ms)),
            Step::Poison { partition, kind } => {
                self.memory.push_raw(partition as u32 % self.partitions, self.now_ms, POISONS[kind]);
                self.log.appended();
            }
            Step::Redeliver { partition, records } => {
                self.memory.redeliver(partition as u32 % self.partitions, records);
            }
            Step::TimePasses { ms } => self.pass(ms).await?,
            Step::ClockJumps { whose, off_ms } => self.jump(whose, off_ms),
            Step::Start => self.start(),
            Step::Stop { instance } => self.at(instance, |instance| instance.stop()),
            Step::Crash { instance } => {
                let index = instance % self.instances.len().max(1);
                if index < self.instances.len() {
                    self.instances.remove(index);
                }
            }
            Step::Bury => self.log.bury(),
            Step::Freeze { instance } => self.at(instance, |instance| instance.frozen = !instance.frozen),
            Step::Expel { member } => self.memory.break_feed(member),
            Step::BreakFeeds => self.memory.break_feeds(),
            Step::Revoke { partition } => self.revoke_or_assign(partition as u32 % self.partitions),
            Step::HoldCommits => self.hold_commits(!self.holding),
            Step::LateCommits => self.log.write_late(),
            Step::FailCommit { fault } => self.memory.fail_commits([fault]),
            Step::FailOpens { count } => self.memory.fail_opens(count),
            Step::Configure { .. } => {
                if let Some(config) = config_of(step) {
                    self.log.configured(&config);
                    self.config.send_replace(Arc::new(config));
                }
            }
        }
        Ok(())
    }

    fn at(&mut self, instance: usize, change: impl FnOnce(&mut Instance)) {
        let count = self.instances.len().max(1);
        if let Some(instance) = self.instances.get_mut(instance % count) {
            change(instance);
        }
    }

    /// Batches of some rooms, as ingest writes them: a record holds those of rooms of its partition.
    fn react(&mut self, room: usize, batches: usize, off_ms: Option<i64>) {
        let mut records = BTreeMap::new();
        for n in room..room + batches {
            let batch = self.batch(n);
            let partition = self.memory.partition_of(&batch.room);
            let record: &mut Vec<u8> = records.entry(partition).or_default();
            batch.encode_into(record);
            if self.rng.chance(5) {
                record.extend([&b"\n"[..], self.rng.one_of(&POISONS)].concat());
            }
            if self.rng.chance(30) {
                let record = mem::take(record);
                self.append(partition, record, off_ms);
            }
        }
        records.retain(|_, record| !record.is_empty());
        records.into_iter().for_each(|(partition, record)| self.append(partition, record, off_ms));
    }

    fn batch(&mut self, room: usize) -> Batch {
        let room = self.rooms[room % self.rooms.len()].clone();
        let mut counts = wire::Counts::new();
        for _ in 0..=self.rng.below(2) {
            let reaction = self.rng.one_of(&["🔥", "👏", "clap", "other", "+1"]);
            counts.insert(reaction.parse().unwrap(), self.rng.between(1, 50));
        }
        let batch = Batch::new(room.clone(), counts).unwrap();
        *self.accepted.entry(room).or_default() += batch.count;
        batch
    }

    fn append(&self, partition: u32, record: Vec<u8>, off_ms: Option<i64>) {
        match off_ms {
            None => drop(self.writer.append(partition, record.into())),
            Some(off_ms) => {
                let at_ms = self.now_ms.saturating_add_signed(off_ms);
                self.memory.push_raw(partition, at_ms, record);
            }
        }
        self.log.appended();
    }

    fn start(&mut self) {
        if self.instances.len() < INSTANCES_MAX {
            let log: Arc<dyn EventLog> = Arc::new(self.log.clone());
            self.instances.push(Instance::start(log, self.config.subscribe(), self.limits, self.now_ms));
        }
    }

    fn revoke_or_assign(&mut self, partition: u32) {
        match self.revoked.iter().position(|revoked| *revoked == partition) {
            Some(index) => {
                self.revoked.remove(index);
                self.memory.assign(partition);
            }
            None => {
                self.revoked.push(partition);
                self.memory.revoke(partition);
            }
        }
    }

    fn hold_commits(&mut self, hold: bool) {
        self.holding = hold;
        self.memory.hold_commits(hold);
    }

    // Time.

    fn jump(&mut self, whose: usize, off_ms: i64) {
        let whose = whose % (self.instances.len() + 1);
        match self.instances.get_mut(whose) {
            Some(instance) => instance.clock_off_ms = off_ms,
            None => self.log_clock_off_ms = off_ms,
        }
        self.set_clocks();
    }

    fn set_clocks(&self) {
        self.log_clock.set(self.now_ms.saturating_add_signed(self.log_clock_off_ms));
        for instance in &self.instances {
            instance.clock.set(self.now_ms.saturating_add_signed(instance.clock_off_ms));
        }
    }

    /// Lets time pass; those who can, move meanwhile.
    async fn pass(&mut self, ms: u64) -> Result<(), String> {
        let mut left_ms = ms;
        while left_ms > 0 {
            let slice_ms = left_ms.min(200);
            left_ms -= slice_ms;
            self.now_ms += slice_ms;
            self.set_clocks();
            self.log.time_passes(self.now_ms);
            time::advance(Duration::from_millis(slice_ms)).await;
            if left_ms > 0 {
                self.settle()?;
            }
        }
        Ok(())
    }

    // The instances.

    /// Lets one of those move that can. Says whether there was one.
    fn move_one(&mut self) -> Result<bool, String> {
        let able: Vec<usize> = (0..self.instances.len()).filter(|n| self.instances[*n].can_move()).collect();
        if able.is_empty() {
            return Ok(false);
        }
        let index = self.rng.one_of(&able);
        if let Poll::Ready(result) = self.instances[index].poll() {
            let instance = self.instances.remove(index);
            match result {
                Ok(()) if instance.is_stopping() => {}
                result => return Err(format!("an instance ended by itself: {result:?}")),
            }
        }
        Ok(true)
    }

    /// Lets all move until each waits for something.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..MOVES_MAX {
            if !self.move_one()? {
                return Ok(());
            }
        }
        Err("an instance never comes to wait".into())
    }

    // The end.

    /// Ends all trouble. Wrong clocks stay wrong.
    pub(super) fn heal(&mut self) {
        self.log.heal();
        self.hold_commits(false);
        self.memory.fail_opens(0);
        while let Some(partition) = self.revoked.first() {
            self.revoke_or_assign(*partition);
        }
        self.instances.iter_mut().for_each(|instance| instance.frozen = false);
        if self.instances.iter().all(Instance::is_stopping) {
            self.instances.retain(|instance| !instance.is_stopping());
            self.log.bury();
            self.start();
        }
    }

    /// Lets time pass until it holds, or for a minute.
    pub(super) async fn until(&mut self, holds: impl Fn(&Self) -> bool) -> Result<bool, String> {
        for _ in 0..300 {
            self.settle()?;
            if holds(self) {
                return Ok(true);
            }
            self.pass(200).await?;
        }
        Ok(false)
    }

    pub(super) async fn rest(&mut self, ms: u64) -> Result<(), String> {
        self.pass(ms).await?;
        self.settle()
    }

    /// Why instances can't work.
    pub(super) fn unready(&self) -> Vec<String> {
        let running = self.instances.iter().filter(|instance| !instance.is_stopping());
        running.flat_map(|instance| instance.readiness.missing()).map(|(_, why)| why).collect()
    }

    pub(super) fn stop_all(&self) {
        self.instances.iter().for_each(Instance::stop);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }
}

fn config_of(step: Step) -> Option<Config> {
    let Step::Configure { interval_ms, slots, grace_ms, ttl_intervals, max_rooms, max_distinct } = step
    else {
        return None;
    };
    let room_ttl_ms = interval_ms * ttl_intervals;
    Some(Config {
        interval_ms,
        slots,
        grace_ms,
        room_ttl_ms,
        max_rooms,
        max_distinct_per_room: max_distinct,
        max_distinct: 1_000_000,
    })
}
