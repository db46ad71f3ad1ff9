//! The scenario `crowd`: post at a fixed rate while viewers watch, then compare.

use crate::{
    audit::{self, Expected, Verdict, Witness},
    clock::now_us,
    http, payload, post,
    progress::{self, Progress, Status},
    random,
    report::Report,
    schedule::{Schedule, Tickets},
    shared::Shared,
    snapshot::Snapshots,
    target::{HttpTarget, MqttTarget},
    viewers::{self, Access, audience::Audience},
};
use anyhow::{Context as _, bail};
use std::{path::PathBuf, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use wire::{Frame, Reaction, RoomName};

/// How long all viewers may take to connect, before the run starts without those that could not.
const ASSEMBLE_PATIENCE: Duration = Duration::from_secs(10);
/// Time between two looks at something that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Time between two updates of the progress.
const SHOW_INTERVAL: Duration = Duration::from_millis(250);

/// What to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) url: HttpTarget,
    pub(crate) live_url: HttpTarget,
    pub(crate) mqtt: MqttTarget,
    pub(crate) room: RoomName,
    pub(crate) rate_per_s: u32,
    pub(crate) duration: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) timeout: Duration,
    pub(crate) settle: Duration,
    pub(crate) connections: usize,
    pub(crate) reactions: Vec<Reaction>,
    pub(crate) count: u64,
    pub(crate) batch: Option<usize>,
    pub(crate) ws_viewers: usize,
    pub(crate) mqtt_viewers: usize,
    pub(crate) report: Option<PathBuf>,
}

/// The viewers of one protocol, watching.
pub(crate) struct Gallery {
    pub(crate) protocol: &'static str,
    pub(crate) audience: Shared<Audience>,
    _tasks: JoinSet<()>,
}

/// Runs the scenario. `stop` ends the posting early; before that there is no report. An error means that it could not be run.
pub(crate) async fn run(plan: &Plan, stop: &CancellationToken) -> anyhow::Result<Option<Report>> {
    progress::note(&format!("room {}", plan.room));
    let prepared = tokio::select! {
        prepared = prepare(plan) => Some(prepared?),
        () = stop.cancelled() => None,
    };
    let Some((baseline, galleries)) = prepared else { return Ok(None) };
    let poster = post_all(plan, &galleries, stop).await?;
    let expected = poster.tally.with(|tally| Expected {
        baseline,
        accepted: tally.accepted,
        accepted_counts: tally.accepted_counts(),
        unknown_counts: tally.unknown_counts(),
        odd_answers: tally.odd_answers,
    });
    let verdict = settle(plan, &expected, &galleries, &poster).await;
    Ok(Some(Report::new(plan, &poster, &galleries, verdict)))
}

/// All that comes before the posting: the room as it is, and viewers that watch it.
async fn prepare(plan: &Plan) -> anyhow::Result<(Option<Frame>, Vec<Gallery>)> {
    let baseline = baseline(plan).await?;
    drop(http::Connection::open(&plan.url, ASSEMBLE_PATIENCE).await?);
    Ok((baseline, assemble(plan).await?))
}

/// The room before the first request, once it is at rest.
async fn baseline(plan: &Plan) -> anyhow::Result<Option<Frame>> {
    let deadline = Instant::now() + plan.settle;
    loop {
        let frame = Snapshots::at(&plan.live_url).of(&plan.room).await?;
        if frame.as_ref().is_none_or(|frame| frame.count == 0) {
            return Ok(frame);
        }
        if Instant::now() >= deadline {
            bail!(
                "room {} is not at rest: somebody reacts in it, so that no count could be exact",
                plan.room
            );
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// Starts the viewers and waits until they are connected. Late ones may come later, but some must be there.
async fn assemble(plan: &Plan) -> anyhow::Result<Vec<Gallery>> {
    let id_prefix = format!("lg{}x", random::token());
    let galleries: Vec<_> = [
        (Access::WebSocket(plan.live_url.clone()), plan.ws_viewers),
        (Access::Mqtt { target: plan.mqtt.clone(), id_prefix }, plan.mqtt_viewers),
    ]
    .into_iter()
    .filter(|(_, viewers)| *viewers > 0)
    .map(|(access, viewers)| {
        let audience = Shared::new(Audience::new(plan.room.clone(), viewers));
        let tasks = viewers::spawn(&access, &plan.room, &audience);
        Gallery { protocol: access.name(), audience, _tasks: tasks }
    })
    .collect();
    let deadline = Instant::now() + ASSEMBLE_PATIENCE;
    while Instant::now() < deadline {
        if galleries.iter().all(Gallery::is_complete) || galleries.iter().any(Gallery::is_locked_out) {
            break;
        }
        sleep(LOOK_INTERVAL / 10).await;
    }
    check(&galleries)?;
    Ok(galleries)
}

/// Fails when nobody of a gallery is connected. Those who are locked out come first: because of them nobody waited for the
/// others.
fn check(galleries: &[Gallery]) -> anyhow::Result<()> {
    let locked_out = galleries.iter().filter(|gallery| gallery.is_locked_out());
    locked_out.chain(galleries).try_for_each(Gallery::check)
}

impl Gallery {
    fn is_complete(&self) -> bool {
        self.audience.with(|audience| audience.connected() == audience.seats().len())
    }

    /// Every viewer has tried, and none came in.
    fn is_locked_out(&self) -> bool {
        self.audience.with(|audience| {
            audience.seats().iter().all(|seat| seat.connects == 0 && seat.last_error.is_some())
        })
    }

    /// Fails when nobody is connected, warns when somebody is not.
    fn check(&self) -> anyhow::Result<()> {
        let protocol = self.protocol;
        let (connected, viewers, error) = self.audience.with(|audience| {
            let error = audience.seats().iter().find_map(|seat| seat.last_error.clone());
            (audience.connected(), audience.seats().len(), error.unwrap_or_else(|| "no answer".to_owned()))
        });
        if connected == 0 {
            bail!("none of {viewers} {protocol} viewers can connect: {error}");
        }
        if connected < viewers {
            progress::note(&format!(
                "only {connected} of {viewers} {protocol} viewers are connected: {error}"
            ));
        }
        Ok(())
    }
}

/// Posts all of the schedule, or until `stop`.
async fn post_all(
    plan: &Plan,
    galleries: &[Gallery],
    stop: &CancellationToken,
) -> anyhow::Result<post::Poster> {
    let payloads = payload::payloads(&plan.reactions, plan.count, plan.batch);
    let tickets = Tickets::new(Schedule::new(plan.rate_per_s, plan.duration), plan.timeout);
    let mut poster = post::Poster::new(plan.url.clone(), &plan.room, payloads.into(), tickets)?;
    poster.warm_up = plan.warm_up;
    poster.patience = plan.timeout;
    poster.stop = stop.child_token();
    poster.start = Instant::now();
    let timed_from_us = now_us() + u64::try_from(plan.warm_up.as_micros())?;
    for gallery in galleries {
        gallery.audience.with(|audience| audience.timed_from_us = timed_from_us);
    }

    let mut progress = Progress::start("posting", plan.duration, 0);
    let mut shows = interval(SHOW_INTERVAL);
    shows.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = poster.start + plan.duration + plan.timeout;
    let mut connections = poster.spawn(plan.connections);
    loop {
        tokio::select! {
            ended = connections.join_next() => match ended {
                Some(ended) => ended.context("a connection's task failed")?,
                None => break,
            },
            _ = shows.tick() => progress.show(&status(&poster, galleries)),
            // Whatever is under way is finished, so that its outcome is known.
            () = sleep_until(end), if !poster.stop.is_cancelled() => poster.stop.cancel(),
        }
    }
    poster.tickets.with(|tickets| tickets.close(poster.start.elapsed()));
    Ok(poster)
}

fn status(poster: &post::Poster, galleries: &[Gallery]) -> Status {
    let mut status = poster.tally.with(|tally| Status {
        sent: tally.sent,
        accepted: tally.accepted,
        refused: tally.sent - tally.by_status.get(&202).copied().unwrap_or(0),
        viewers_connected: 0,
        viewers: 0,
        delay_us: None,
    });
    for gallery in galleries {
        gallery.audience.with(|audience| {
            status.viewers_connected += audience.connected();
            status.viewers += audience.seats().len();
            status.delay_us = status.delay_us.max(audience.newest_delay_us);
        });
    }
    status
}

/// Waits until everybody agrees and the room is at rest, at most the time to settle.
async fn settle(plan: &Plan, expected: &Expected, galleries: &[Gallery], poster: &post::Poster) -> Verdict {
    let deadline = Instant::now() + plan.settle;
    let mut progress = Progress::start("settling", plan.settle, status(poster, galleries).sent);
    loop {
        let in_time = Instant::now() < deadline;
        let snapshot = Snapshots::at(&plan.live_url).of(&plan.room).await.map(Witness::snapshot);
        let snapshot = snapshot.map_err(|error| format!("{error:#}"));
        let viewers: Vec<_> = galleries.iter().flat_map(Gallery::witnesses).collect();
        let verdict = audit::judge(expected, &viewers, snapshot.as_ref());
        let at_rest = viewers.iter().chain(&snapshot).all(Witness::is_at_rest);
        if !in_time || (verdict.clean && at_rest) {
            return verdict;
        }
        progress.show(&status(poster, galleries));
        sleep(LOOK_INTERVAL).await;
    }
}

impl Gallery {
    fn witnesses(&self) -> Vec<Witness> {
        self.audience.with(|audience| {
            let seats = audience.seats().iter().enumerate();
            seats.map(|(index, seat)| Witness::viewer(self.protocol, index, seat)).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gallery(protocol: &'static str, connect: impl FnOnce(&mut Audience)) -> Gallery {
        let mut audience = Audience::new("r".parse().unwrap(), 1);
        connect(&mut audience);
        Gallery { protocol, audience: Shared::new(audience), _tasks: JoinSet::new() }
    }

    #[test]
    fn who_is_locked_out_is_named_and_not_who_is_still_on_the_way() {
        let on_the_way = gallery("websocket", |_| {});
        let locked_out = gallery("mqtt", |audience| audience.disconnect(0, "refused".to_owned()));
        let said = check(&[on_the_way, locked_out]).unwrap_err().to_string();
        assert_eq!(said, "none of 1 mqtt viewers can connect: refused");
    }

    #[test]
    fn a_gallery_with_somebody_in_it_will_do() {
        check(&[gallery("websocket", |audience| audience.connect(0, 0))]).unwrap();
    }
}
