//! The port's archive of windows: searches `rollup.db` beside the thread that commits.

use super::Shared;
use crate::windows::{ArchiveError, Searched, WindowArchive, WindowQuery, readers::Readers};
use std::sync::Arc;
use wire::WindowRecord;

pub(super) struct EmbeddedWindows {
    readers: Readers,
    /// The file stays open and locked for as long as it is searched. Dropped after the readers.
    _shared: Arc<Shared>,
}

impl EmbeddedWindows {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { readers: Readers::new(shared.rollup.clone()), _shared: Arc::clone(shared) }
    }
}

impl WindowArchive for EmbeddedWindows {
    fn search(
        &self,
        query: &WindowQuery<'_>,
        each: &mut dyn FnMut(WindowRecord),
    ) -> Result<Searched, ArchiveError> {
        self.readers.search(query, each)
    }
}
