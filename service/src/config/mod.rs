//! Layers of configuration: defaults < file < environment < `--set`. All errors come at once.

mod check;
mod layers;
mod load;
mod mend;
mod shown;
mod watch;

pub use check::{check_listen, check_path, check_range, within};
pub use layers::Sources;
pub use load::{ConfigError, ConfigErrors, load};
pub use shown::shown;
pub use watch::{Change, FileWatch};
