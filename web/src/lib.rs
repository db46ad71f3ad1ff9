//! What browsers get: the client library, the stage, the pages, built into the binary.
//!
//! - [`public`] serves the viewers' side: the pages `/`, `/rooms/{room}` and `/overlay/{room}`, and the scripts that any site may include.
//! - [`desk`] serves the producers' and operators' page. It belongs on the admin listener.
//!
//! The files beside this crate's manifest are served as they are: ES2017 modules, no build step. Only the pages are completed: they name their
//! scripts under `/assets/{revision}/`, where the revision is a digest of all files, so that browsers may keep them for ever.

mod asset;
mod files;
mod headers;
mod routes;

pub use headers::FrameAncestors;
pub use routes::{desk, public};
