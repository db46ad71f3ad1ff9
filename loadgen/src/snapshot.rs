//! Snapshots: rooms as those who join would see them.

use crate::{http::Connection, target::HttpTarget};
use anyhow::{Context as _, bail};
use std::time::Duration;
use wire::{Frame, RoomName};

/// How long the server may take for one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fetches snapshots one after the other, over one connection.
pub(crate) struct Snapshots<'a> {
    live: &'a HttpTarget,
    connection: Option<Connection>,
}

impl<'a> Snapshots<'a> {
    /// Of the server at `live`.
    pub(crate) fn at(live: &'a HttpTarget) -> Self {
        Self { live, connection: None }
    }

    /// The room's newest frame, if it has one.
    pub(crate) async fn of(&mut self, room: &RoomName) -> anyhow::Result<Option<Frame>> {
        let live = self.live;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(live, PATIENCE).await?,
        };
        let path = format!("/v1/rooms/{room}");
        let (status, body) = connection.get(live, &path, PATIENCE).await?;
        self.connection = Some(connection);
        match status.as_u16() {
            200 => Ok(Some(Frame::decode(&body).with_context(|| format!("GET {path}"))?)),
            404 => Ok(None),
            other => bail!("GET {live}{path}: {other} {}", String::from_utf8_lossy(&body)),
        }
    }
}
