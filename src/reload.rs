//! Configuration that is read again while running.

use crate::{
    cli::Role,
    config::{self, Config},
};
use service::{
    CancellationToken,
    config::{FileWatch, Sources},
};
use std::{io, sync::Arc};
use tokio::sync::watch;

/// Hands each tier its section, and new versions of it.
pub(crate) struct Live {
    role: Role,
    sources: Sources,
    current: Config,
    ingest: watch::Sender<Arc<ingest::Config>>,
    aggregator: watch::Sender<Arc<aggregator::Config>>,
    fanout: watch::Sender<Arc<fanout::Config>>,
}

impl Live {
    pub(crate) fn new(role: Role, config: Config, sources: Sources) -> Self {
        Self {
            role,
            sources,
            ingest: watch::Sender::new(Arc::new(config.ingest.clone())),
            aggregator: watch::Sender::new(Arc::new(config.aggregator.clone())),
            fanout: watch::Sender::new(Arc::new(config.fanout.clone())),
            current: config,
        }
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

    /// Reads the configuration again whenever there is a reason to.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> io::Result<()> {
        let mut changes = FileWatch::new(self.sources.file.clone())?;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                change = changes.changed() => {
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
        let _ = self.ingest.send_replace(Arc::new(new.ingest.clone()));
        let _ = self.aggregator.send_replace(Arc::new(new.aggregator.clone()));
        let _ = self.fanout.send_replace(Arc::new(new.fanout.clone()));
        tracing::info!(
            interval_ms = new.aggregator.interval_ms,
            top_n = new.fanout.top_n,
            "configuration in force"
        );
        self.current = new;
    }

    /// Sections with changes that a running process doesn't take.
    fn needs_restart(&self, new: &Config) -> Vec<&'static str> {
        let old = &self.current;
        [
            ("service", old.service != new.service),
            ("log_output", old.log_output != new.log_output),
            ("log", old.log != new.log),
            ("ingest.listen", old.ingest.listen != new.ingest.listen),
            ("fanout.listen", old.fanout.listen != new.fanout.listen),
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
