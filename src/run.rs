//! Starts the tiers of a role, and stops them.

use crate::{
    banner,
    cli::{Failure, Role},
    config::Config,
    desk::Desk,
    openapi,
    reload::Live,
};
use aggregator::Aggregator;
use anyhow::Context;
use axum::Router;
use control::Orders;
use eventlog::{EventLog, LogKind, OpenError};
use fanout::Fanout;
use history::History;
use ingest::{Front, Ingest};
use service::{
    CancellationToken, Condition, LogGuard, LostLines, Readiness, SystemClock, Tasks, admin, config::Sources,
    http, signal::StopSignals, telemetry,
};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// The longest wait for the last log lines: at the end of a stop, and of one that a second signal cut short.
const FLUSH: Duration = Duration::from_secs(1);
const FLUSH_CUT_SHORT: Duration = Duration::from_millis(100);

/// Runs `role` until a signal or a failure ends it.
pub(crate) fn run(role: Role, sources: Sources) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Running(error.into()))?;
    let mut logs = None;
    let ended = runtime.block_on(until_ended(role, sources, &mut logs));
    // Threads of the client library may not come back (librdkafka issue 5456): they end with the process.
    runtime.shutdown_background();
    if let Some(logs) = logs {
        logs.flush(if matches!(ended, Err(Failure::CutShort)) { FLUSH_CUT_SHORT } else { FLUSH });
    }
    ended
}

/// `logs` gets the guard of the log, which the caller flushes last.
async fn until_ended(role: Role, sources: Sources, logs: &mut Option<LogGuard>) -> Result<(), Failure> {
    let mut signals = StopSignals::listen().map_err(|error| Failure::Running(error.into()))?;
    let live = Live::load(role, sources)?;
    let lost = logs.insert(telemetry::init_logs(&live.current().log_output)).lost();
    let delay = Duration::from_millis(live.current().service.stop_delay_ms);
    let (stop, readiness) = (CancellationToken::new(), Readiness::default());
    let process = process(role, live, lost, readiness.clone(), stop.clone());
    tokio::pin!(process);
    let signal = tokio::select! {
        ended = &mut process => return ended.map_err(Failure::Running),
        signal = signals.next() => signal,
    };
    readiness.condition("stop").fail("stopping");
    tracing::info!(signal, delay_ms = delay.as_millis() as u64, "stopping; a second signal leaves at once");
    tokio::select! {
        ended = &mut process => return ended.map_err(Failure::Running),
        _ = signals.next() => return Err(Failure::CutShort),
        // Balancers go on sending until they have seen that this process is not ready.
        () = tokio::time::sleep(delay) => {}
    }
    stop.cancel();
    tokio::select! {
        ended = &mut process => ended.map_err(Failure::Running),
        _ = signals.next() => Err(Failure::CutShort),
    }
}

async fn process(
    role: Role,
    live: Live,
    lost: LostLines,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let config = live.current().clone();
    let fine = [aggregator::metrics::DELAY_SECONDS, fanout::metrics::FRAME_AGE_SECONDS];
    let metrics = telemetry::init_metrics(lost, &fine).context("metrics")?;
    describe_metrics(role, &config);
    prepare_for_connections(role, &config);
    warn_of_drains(role, &config);
    // Not ready before every part has had a say.
    let started = readiness.condition("start");
    let desk = Desk::default();
    let orders = Arc::<Orders>::default();
    let api = admin_api(&live, &orders);
    let admin_listener = http::bind(&config.service.admin_listen).await?;
    let mut outer = Tasks::new(CancellationToken::new());
    outer.spawn("metrics", telemetry::keep_up(metrics.clone(), outer.shutdown()));
    outer.spawn(
        "admin",
        http::serve(
            admin_listener,
            admin::router(
                readiness.clone(),
                metrics,
                &admin_names(&config),
                desk.router(live.shown()).merge(api.router()),
            ),
            http::Config::private(),
            outer.shutdown(),
        ),
    );
    let deadline = Duration::from_millis(config.service.stop_deadline_ms);
    let (ended, stopping_for) = timed(
        tiers(role, config, live, Admin { desk, api, orders }, readiness, started, stop.clone()),
        &stop,
    )
    .await;
    // The admin listener is the last to go, so that a drain can be watched. It has what is left of the deadline.
    outer.shutdown().cancel();
    let outer_ended = outer.join(deadline.saturating_sub(stopping_for)).await;
    ended?;
    outer_ended?;
    tracing::info!("stopped");
    Ok(())
}

/// What is on the admin listener beside health and metrics, and what the tiers share with it.
struct Admin {
    desk: Desk,
    api: Arc<control::admin::Api>,
    orders: Arc<Orders>,
}

fn admin_api(live: &Live, orders: &Arc<Orders>) -> Arc<control::admin::Api> {
    let ingest = live.ingest();
    control::admin::Api::new(control::admin::Deps {
        orders: Arc::clone(orders),
        config: live.admin(),
        tones: Arc::new(move || ingest.borrow().skin_tones()),
        clock: Arc::new(SystemClock),
    })
}

/// Runs `tiers`, and returns also for how long they have been stopping when they end.
async fn timed<T>(tiers: impl Future<Output = T>, stop: &CancellationToken) -> (T, Duration) {
    tokio::pin!(tiers);
    tokio::select! {
        ended = &mut tiers => return (ended, Duration::ZERO),
        () = stop.cancelled() => {}
    }
    let began = Instant::now();
    (tiers.await, began.elapsed())
}

async fn tiers(
    role: Role,
    config: Config,
    live: Live,
    Admin { desk, api, orders }: Admin,
    readiness: Readiness,
    started: Condition,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let condition = readiness.condition("log");
    let Some(log) = until_open(&config, &condition, &stop).await? else { return Ok(()) };
    let deadline = Duration::from_millis(config.service.stop_deadline_ms);
    let mut tasks = Tasks::new(stop);
    api.open(Arc::clone(&log));
    let (followed, condition) = (Arc::clone(&log), readiness.condition("orders"));
    let follower = control::Follower { log: followed, orders: Arc::clone(&orders), condition };
    tasks.spawn("orders", follower.run(tasks.shutdown()));
    let (mut front, mut routes, mut desk_routes) = (None, Router::new(), Router::new());
    let mut description = openapi::Description::default();
    if matches!(role, Role::All | Role::Ingest) {
        let deps =
            ingest::Deps { log: Arc::clone(&log), readiness: readiness.clone(), orders: Arc::clone(&orders) };
        let tier = Ingest::new(live.ingest(), deps);
        front = Some(tier.front());
        desk_routes = desk_routes.merge(tier.desk_router());
        description.add(live.ingest(), ingest::openapi);
        tasks.spawn("ingest", tier.run(tasks.shutdown()));
    }
    if matches!(role, Role::All | Role::Aggregator) {
        let clock = Arc::new(SystemClock);
        let deps = aggregator::Deps { log: Arc::clone(&log), readiness: readiness.clone(), clock };
        tasks.spawn("aggregator", Aggregator::new(live.aggregator(), deps).run(tasks.shutdown()));
    }
    if matches!(role, Role::All | Role::Fanout) {
        let (catalogue, rooms) = (live.catalogue(), live.rooms());
        let deps =
            fanout::Deps { log: Arc::clone(&log), readiness: readiness.clone(), catalogue, rooms, orders };
        let tier = Fanout::new(live.fanout(), deps)?;
        routes = routes.merge(tier.router());
        desk_routes = desk_routes.merge(tier.desk_router());
        if config.fanout.web {
            routes = routes
                .merge(web::public(&web::FrameAncestors::new(config.fanout.frame_ancestors.configured())));
        }
        description.add(live.fanout(), fanout::openapi);
        tasks.spawn("fanout", tier.run(tasks.shutdown()));
    }
    if matches!(role, Role::All | Role::History) {
        let deps = history::Deps { log, readiness: readiness.clone(), clock: Arc::new(SystemClock) };
        let tier = History::new(live.history(), deps);
        routes = routes.merge(tier.router());
        description.add(live.history(), history::openapi);
        tasks.spawn("history", tier.run(tasks.shutdown()));
    }
    desk.show_rooms(desk_routes);
    routes = routes.merge(openapi::router(description)).merge(admin::public_health(readiness));
    if matches!(role, Role::Fanout | Role::History) {
        // Where ingest is, it answers for what is no route.
        routes = routes.fallback(openapi::nothing_here);
    }
    // What changed while the log was waited for is read now: the tiers were made of what the process was started with.
    tasks.spawn("reload", live.run(tasks.shutdown()));
    let address = serve(role, &config, front, routes, &mut tasks).await?;
    started.hold();
    banner::print(role, &config, address);
    tasks.join(deadline).await.context("a part of the process failed")
}

/// Serves the public, where the role does. Gives the address.
async fn serve(
    role: Role,
    config: &Config,
    front: Option<Front>,
    routes: Router,
    tasks: &mut Tasks,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(listen) = public_listen(role, config) else { return Ok(None) };
    let listener = http::bind(listen).await?;
    if matches!(role, Role::All | Role::Fanout) {
        fanout::tune(&listener, &config.fanout)?;
    }
    let address = listener.local_addr()?;
    let (limits, shutdown) = (config.http.clone(), tasks.shutdown());
    match front {
        Some(front) => tasks.spawn("http", http::serve(listener, front.with(routes), limits, shutdown)),
        None => tasks.spawn("http", http::serve(listener, routes, limits, shutdown)),
    }
    Ok(Some(address))
}

/// Every connection is an open file.
fn prepare_for_connections(role: Role, config: &Config) {
    let files = match service::files::raise_limit() {
        Ok(files) => files,
        Err(error) => return tracing::warn!(%error, "the limit of open files could not be raised"),
    };
    let viewers = config.fanout.max_viewers as u64;
    if matches!(role, Role::All | Role::Fanout) && files <= viewers + service::files::RESERVED {
        tracing::warn!(files, viewers, "fanout.max_viewers is above the limit of open files (ulimit -Hn)");
    }
}

/// What is drained for longer than a stop may take is cut off.
fn warn_of_drains(role: Role, config: &Config) {
    let stop_deadline_ms = config.service.stop_deadline_ms;
    for (key, tier, drain_ms) in [
        ("ingest.drain_ms", Role::Ingest, config.ingest.drain_ms),
        ("fanout.drain_ms", Role::Fanout, config.fanout.drain_ms),
    ] {
        if (role == Role::All || role == tier) && drain_ms >= stop_deadline_ms {
            tracing::warn!(
                key,
                drain_ms,
                stop_deadline_ms,
                "a drain may be cut off by service.stop_deadline_ms"
            );
        }
    }
}

/// Where a role serves the public; all tiers in one process share ingest's listener.
fn public_listen(role: Role, config: &Config) -> Option<&str> {
    match role {
        Role::All | Role::Ingest => Some(&config.ingest.listen),
        Role::Fanout => Some(&config.fanout.listen),
        Role::History => Some(&config.history.listen),
        Role::Aggregator => None,
    }
}

/// Opens the log, and waits for one that is away. `None`: stopped meanwhile.
async fn until_open(
    config: &Config,
    condition: &Condition,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Arc<dyn EventLog>>> {
    loop {
        let Some(opened) = stop.run_until_cancelled(eventlog::open(&config.log)).await else {
            return Ok(None);
        };
        match opened {
            Ok(log) => {
                condition.hold();
                return Ok(Some(log));
            }
            Err(error @ OpenError::Invalid(_)) => return Err(error.into()),
            Err(error @ OpenError::Unavailable(_)) => {
                tracing::warn!(%error, "waiting for the event log");
                condition.fail(error.to_string());
                stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await;
            }
        }
    }
}

/// Registers the metrics of what runs here: one that stays at zero elsewhere would raise alarms, or keep them quiet.
fn describe_metrics(role: Role, config: &Config) {
    service::metrics::describe();
    control::metrics::describe();
    if matches!(role, Role::All | Role::Ingest) {
        ingest::metrics::describe();
    }
    if matches!(role, Role::All | Role::Aggregator) {
        eventlog::metrics::describe();
        aggregator::metrics::describe();
    }
    if matches!(role, Role::All | Role::Fanout) {
        eventlog::metrics::describe_follower();
        fanout::metrics::describe();
        if config.fanout.bridge.enabled {
            fanout::metrics::describe_bridge();
        }
        if config.log.kind == LogKind::Kafka {
            fanout::metrics::describe_occupancy();
        }
    }
    if matches!(role, Role::All | Role::History) {
        history::metrics::describe();
    }
}

/// Host names by which the admin listener may be asked, besides those that everybody's has.
fn admin_names(config: &Config) -> Vec<String> {
    let own = config.service.admin_listen.rsplit_once(':').map(|(host, _)| host.to_owned());
    config.service.admin_hosts.iter().cloned().chain(own).collect()
}
