//! How a process starts, is watched and stops. Knows nothing of reactions.
//!
//! - [`config`]: layers of configuration, all errors at once, reload.
//! - [`telemetry`]: logs and metrics.
//! - [`Tasks`]: named tasks; one that ends early stops the process.
//! - [`Readiness`], [`admin`]: `/healthz`, `/readyz`, `/metrics`.
//! - [`http`]: serving requests until told to stop, and [`Problem`], the error body of every route.
//! - [`openapi`]: what the routes of a tier add to the description of the API; [`cors`]: who may ask from a web page.
//! - [`signal`]: SIGTERM and SIGINT; the second one leaves at once.
//! - [`files`]: how many a process may have open.
//! - [`Clock`]: the time, injected. [`Backoff`]: pauses between attempts.

pub mod admin;
mod backoff;
mod clock;
pub mod config;
pub mod cors;
pub mod files;
pub mod http;
mod log_writer;
pub mod metrics;
pub mod openapi;
mod problem;
mod readiness;
pub mod signal;
mod tasks;
pub mod telemetry;

pub use backoff::Backoff;
pub use clock::{Clock, ManualClock, SystemClock};
pub use log_writer::{LogGuard, LostLines, Stream, print};
pub use problem::Problem;
pub use readiness::{Condition, Readiness};
pub use tasks::{TaskError, Tasks};
pub use tokio_util::sync::CancellationToken;
