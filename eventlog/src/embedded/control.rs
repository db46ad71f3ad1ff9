//! `control`, what operators order: a table in `rollup.db`, written by the commit thread. Readers load it, and hear of each write
//! after that in memory.

use super::{
    Shared, broken,
    database::{self, StoreError, int, uint},
    rollup,
};
use crate::{
    BoxFuture, ControlEvent, ControlPut, ControlReader, ControlRecord, FeedError, PutError,
    control::check_expected,
};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::sync::Arc;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task::{JoinHandle, spawn_blocking},
};

/// Writes that a reader may lag behind before it has to load again.
pub(super) const QUEUED_MAX: usize = 1_024;

/// Why a write came to no end.
pub(super) enum Failed {
    /// Nothing was written.
    Refused(PutError),
    /// It is not known what was written.
    Store(StoreError),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Writes a key in one transaction, synced, if it holds what is expected.
pub(super) fn write(conn: &Connection, put: &ControlPut) -> Result<u64, Failed> {
    let ControlPut { key, value, expected } = put;
    // Rolled back when it is dropped.
    let tx = conn.unchecked_transaction()?;
    let current =
        tx.query_row("select version from control where key = ?1", [key], |row| row.get(0).map(uint));
    check_expected(*expected, current.optional()?).map_err(Failed::Refused)?;
    let version = newest_version(&tx)? + 1;
    match value {
        Some(value) => tx.execute(
            "insert or replace into control (key, version, value) values (?1, ?2, ?3)",
            params![key, int(version), &value[..]],
        )?,
        None => tx.execute("delete from control where key = ?1", [key])?,
    };
    tx.execute("update meta set value = ?1 where key = 'control_version'", [int(version)])?;
    tx.commit()?;
    Ok(version)
}

fn newest_version(conn: &Connection) -> rusqlite::Result<u64> {
    conn.query_row("select value from meta where key = 'control_version'", [], |row| row.get(0).map(uint))
}

/// All keys, and the version of the newest write that is in them.
fn load(conn: &Connection) -> Result<(u64, Vec<ControlRecord>), StoreError> {
    let tx = conn.unchecked_transaction()?;
    let newest = newest_version(&tx)?;
    let mut rows = tx.prepare("select key, version, value from control order by version")?;
    let record = |row: &rusqlite::Row<'_>| {
        let value: Vec<u8> = row.get(2)?;
        Ok(ControlRecord { key: row.get(0)?, version: uint(row.get(1)?), value: Some(value.into()) })
    };
    let records = rows.query_map([], record)?.collect::<Result<_, _>>()?;
    Ok((newest, records))
}

type Loading = JoinHandle<Result<(u64, Vec<ControlRecord>), StoreError>>;

pub(super) struct EmbeddedControlReader {
    shared: Arc<Shared>,
    writes: broadcast::Receiver<ControlRecord>,
    /// Kept here, so that a caller that cancels `next` loses nothing.
    loading: Option<Loading>,
    /// The newest version that was loaded.
    loaded: u64,
    is_told: bool,
}

impl EmbeddedControlReader {
    pub(super) fn open(shared: &Arc<Shared>) -> Self {
        // Before the load, so that no write between the two is missed.
        let writes = shared.control.subscribe();
        let path = shared.rollup.clone();
        let loading = Some(spawn_blocking(move || load(&database::reader(&path)?)));
        Self { shared: Arc::clone(shared), writes, loading, loaded: 0, is_told: false }
    }

    async fn advance(&mut self) -> Result<ControlEvent, FeedError> {
        if let Some(loading) = &mut self.loading {
            let loaded = loading.await;
            self.loading = None;
            let loaded = loaded.map_err(broken)?;
            let (newest, records) =
                loaded.map_err(|error| broken(self.shared.recent.stop(rollup::FILE, &error)))?;
            self.loaded = newest;
            if !records.is_empty() {
                return Ok(ControlEvent::Records(records));
            }
        }
        if !std::mem::replace(&mut self.is_told, true) {
            return Ok(ControlEvent::CaughtUp);
        }
        loop {
            match self.writes.recv().await {
                Ok(record) if record.version <= self.loaded => {}
                Ok(record) => return Ok(ControlEvent::Records(vec![record])),
                Err(RecvError::Lagged(_)) => return Err(broken("this reader of orders lags too far behind")),
                Err(RecvError::Closed) => return Err(broken("the log is closed")),
            }
        }
    }
}

impl ControlReader for EmbeddedControlReader {
    fn next(&mut self) -> BoxFuture<'_, Result<ControlEvent, FeedError>> {
        Box::pin(self.advance())
    }
}
