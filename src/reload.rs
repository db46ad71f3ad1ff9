//! Configuration that is read again while running.

use crate::{
    cli::{Failure, Role},
    config::{self, Config},
};
use service::{
    CancellationToken,
    config::{FileWatch, Sources},
};
use std::{collections::HashSet, convert::Infallible, sync::Arc};
use tokio::sync::watch;
use wire::RoomName;

/// Hands each tier its section, and new versions of it.
pub(crate) struct Live {
    role: Role,
    sources: Sources,
    changes: FileWatch,
    /// What the process was started with.
    started: Config,
    /// What is in force, but for what needs a restart.
    current: Config,
    admin: watch::Sender<Arc<control::admin::Config>>,
    ingest: watch::Sender<Arc<ingest::Config>>,
    aggregator: watch::Sender<Arc<aggregator::Config>>,
    fanout: watch::Sender<Arc<fanout::Config>>,
    history: watch::Sender<Arc<history::Settings>>,
    /// Of ingest's section: fanout tells it viewers.
    catalogue: watch::Sender<Arc<Vec<String>>>,
    /// Of ingest's section: viewers may always wait for these.
    rooms: watch::Sender<Arc<HashSet<RoomName>>>,
    /// What operators see of the configuration, without secrets.
    shown: watch::Sender<Arc<str>>,
}

/// The rooms that ingest's section names. They were checked.
fn rooms(config: &Config) -> Arc<HashSet<RoomName>> {
    Arc::new(config.ingest.rooms.iter().filter_map(|room| room.parse().ok()).collect())
}

/// What the history has to know of all sections.
fn settings(config: &Config) -> Arc<history::Settings> {
    Arc::new(history::Settings {
        config: config.history.clone(),
        window_ms: config.aggregator.interval_ms,
        grace_ms: config.aggregator.grace_ms,
        partitions: config.log.partitions,
        retention_ms: config.log.history_retention_ms,
    })
}

impl Live {
    /// Reads the configuration for the first time.
    pub(crate) fn load(role: Role, sources: Sources) -> Result<Self, Failure> {
        // Before the file is read, so that no change is missed; and no SIGHUP ends the process.
        let changes = FileWatch::new(sources.file.clone()).map_err(|error| Failure::Running(error.into()))?;
        let config = config::load(role, &sources).map_err(Failure::Config)?;
        Ok(Self {
            role,
            changes,
            started: config.clone(),
            shown: watch::Sender::new(config::shown(&sources).into()),
            catalogue: watch::Sender::new(Arc::new(config.ingest.displayed_catalogue())),
            rooms: watch::Sender::new(rooms(&config)),
            admin: watch::Sender::new(Arc::new(config.admin.clone())),
            ingest: watch::Sender::new(Arc::new(config.ingest.clone())),
            aggregator: watch::Sender::new(Arc::new(config.aggregator)),
            fanout: watch::Sender::new(Arc::new(config.fanout.clone())),
            history: watch::Sender::new(settings(&config)),
            current: config,
            sources,
        })
    }

    /// What is in force.
    pub(crate) fn current(&self) -> &Config {
        &self.current
    }

    /// The configuration as operators see it, without secrets.
    pub(crate) fn shown(&self) -> watch::Receiver<Arc<str>> {
        self.shown.subscribe()
    }

    pub(crate) fn admin(&self) -> watch::Receiver<Arc<control::admin::Config>> {
        self.admin.subscribe()
    }

    pub(crate) fn ingest(&self) -> watch::Receiver<Arc<ingest::Config>> {
        self.ingest.subscribe()
    }

    pub(crate) fn aggregator(&self) -> watch::Receiver<Arc<aggregator::Config>> {
        self.aggregator.subscribe()
    }

    pub(crate) fn fanout(&self) -> watch::Receiver<Arc<fanout::Config>> {
        self.fanout.subscribe()
    }

    pub(crate) fn history(&self) -> watch::Receiver<Arc<history::Settings>> {
        self.history.subscribe()
    }

    pub(crate) fn catalogue(&self) -> watch::Receiver<Arc<Vec<String>>> {
        self.catalogue.subscribe()
    }

    pub(crate) fn rooms(&self) -> watch::Receiver<Arc<HashSet<RoomName>>> {
        self.rooms.subscribe()
    }

    /// Reads the configuration again whenever there is a reason to.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                change = self.changes.changed() => {
                    tracing::info!(?change, "reading the configuration again");
                    self.reload();
                }
            }
        }
    }

    /// A configuration that is not right leaves the old values in force.
    fn reload(&mut self) {
        let new = match config::load(self.role, &self.sources) {
            Ok(new) => new,
            Err(errors) => {
                for error in errors.lines() {
                    tracing::error!(error, "configuration refused, the old values stay in force");
                }
                return;
            }
        };
        if new == self.current {
            tracing::info!("configuration unchanged");
            return;
        }
        for section in self.needs_restart(&new) {
            tracing::warn!(section, "a changed value takes effect at the next start");
        }
        let _ = self.shown.send_replace(config::shown(&self.sources).into());
        let _ = self.catalogue.send_replace(Arc::new(new.ingest.displayed_catalogue()));
        let _ = self.rooms.send_replace(rooms(&new));
        let _ = self.admin.send_replace(Arc::new(new.admin.clone()));
        let _ = self.ingest.send_replace(Arc::new(new.ingest.clone()));
        let _ = self.aggregator.send_replace(Arc::new(new.aggregator));
        let _ = self.fanout.send_replace(Arc::new(new.fanout.clone()));
        let _ = self.history.send_replace(settings(&new));
        tracing::info!(
            interval_ms = new.aggregator.interval_ms,
            top_n = new.fanout.top_n,
            "configuration in force"
        );
        self.current = new;
    }

    /// Sections with changes that a running process doesn't take.
    fn needs_restart(&self, new: &Config) -> Vec<&'static str> {
        let old = &self.started;
        [
            ("service", old.service != new.service),
            ("http", old.http != new.http),
            ("log_output", old.log_output != new.log_output),
            ("log", old.log != new.log),
            ("ingest.listen", old.ingest.listen != new.ingest.listen),
            ("fanout.listen", old.fanout.listen != new.fanout.listen),
            ("history.listen", old.history.listen != new.history.listen),
            ("history.dir", old.history.dir != new.history.dir),
            ("history.max_queries", old.history.max_queries != new.history.max_queries),
            ("fanout.web", old.fanout.web != new.fanout.web),
            ("fanout.frame_ancestors", old.fanout.frame_ancestors != new.fanout.frame_ancestors),
            // Of MQTT and server-sent events, both.
            ("fanout.write_timeout_ms", old.fanout.write_timeout_ms != new.fanout.write_timeout_ms),
            ("fanout.send_buffer_bytes", old.fanout.send_buffer_bytes != new.fanout.send_buffer_bytes),
            ("fanout.unsent_bytes", old.fanout.unsent_bytes != new.fanout.unsent_bytes),
            ("fanout.shards", old.fanout.shards != new.fanout.shards),
            ("fanout.mqtt.enabled", old.fanout.mqtt.enabled != new.fanout.mqtt.enabled),
            ("fanout.mqtt.listen", old.fanout.mqtt.listen != new.fanout.mqtt.listen),
            ("fanout.broker", old.fanout.broker != new.fanout.broker),
            ("fanout.bridge", old.fanout.bridge != new.fanout.bridge),
        ]
        .into_iter()
        .filter_map(|(section, changed)| changed.then_some(section))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_running_process_does_not_take_is_named() {
        let live =
            Live::load(Role::All, Sources::default()).unwrap_or_else(|_| panic!("the defaults are right"));
        let named = |set: &str| {
            let sources = Sources { sets: vec![set.to_owned()], ..Sources::default() };
            live.needs_restart(&config::load(Role::All, &sources).unwrap())
        };
        for (set, section) in [
            ("service.stop_deadline_ms=5000", "service"),
            ("http.max_connections=5", "http"),
            ("log.partitions=5", "log"),
            ("ingest.listen=127.0.0.1:1", "ingest.listen"),
            ("fanout.send_buffer_bytes=8192", "fanout.send_buffer_bytes"),
            ("history.max_queries=5", "history.max_queries"),
            ("fanout.unsent_bytes=2048", "fanout.unsent_bytes"),
            ("fanout.write_timeout_ms=30000", "fanout.write_timeout_ms"),
        ] {
            assert_eq!(named(set), [section]);
        }
        for set in [
            "aggregator.interval_ms=500",
            "ingest.cors_origins=[]",
            "fanout.cors_origins=[]",
            "fanout.top_n=3",
            "fanout.occupancy=false",
            "history.cors_origins=[]",
        ] {
            assert!(named(set).is_empty(), "{set}");
        }
    }
}
