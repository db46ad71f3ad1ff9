//! Why the tier can't go on.

use eventlog::OpenError;

/// The tier ended, and starting it again will not help until somebody changes something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log refused for good.
    #[error("the aggregator can't join its group: {0}")]
    Log(OpenError),
}
