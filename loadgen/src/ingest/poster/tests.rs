//! Posters against the bare server.
