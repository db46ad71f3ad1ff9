//! Layers of configuration: defaults < file < environment < `--set`. All errors come at once.

mod layers;
mod load;
mod mend;
mod watch;

pub use layers::Sources;
pub use load::{ConfigError, ConfigErrors, load};
pub use watch::{Change, FileWatch};
