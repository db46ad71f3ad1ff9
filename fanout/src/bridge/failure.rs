//! Why a connection failed, and what is said of it.

use rumqttc::{ConnectionError, StateError};

/// Why a connection failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// One of [`crate::metrics::BRIDGE_CAUSES`].
    pub(super) cause: &'static str,
    pub(super) why: String,
}

impl Failure {
    /// The broker takes nothing.
    pub(super) fn stalled(why: &str) -> Self {
        Self { cause: "stalled", why: why.into() }
    }

    /// The client library, or we, panicked.
    pub(super) fn fault() -> Self {
        Self { cause: "fault", why: "panicked".into() }
    }

    /// What the client library says before the connection stands.
    pub(super) fn connecting(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::NetworkTimeout => Self { cause: "unreachable", why: "no answer in time".into() },
            ConnectionError::Io(error) => Self { cause: "unreachable", why: error.to_string() },
            ConnectionError::ConnectionRefused(code) => {
                Self { cause: "refused", why: format!("the broker refuses the connection: {code:?}") }
            }
            ConnectionError::MqttState(error) => {
                let why =
                    format!("no answer to CONNECT: {error}; is it the right port, with or without TLS?");
                Self { cause: "lost", why }
            }
            error => Self::connected(error),
        }
    }

    /// What it says afterwards.
    pub(super) fn connected(error: &ConnectionError) -> Self {
        let cause = match error {
            ConnectionError::Tls(_) => "tls",
            ConnectionError::FlushTimeout
            | ConnectionError::MqttState(StateError::AwaitPingResp | StateError::CollisionTimeout) => {
                "stalled"
            }
            _ => "lost",
        };
        Self { cause, why: error.to_string() }
    }

    /// Whether it goes on until somebody changes something.
    fn needs_somebody(&self) -> bool {
        ["refused", "tls", "fault"].contains(&self.cause)
    }
}

/// What was said last, so that nothing is said twice.
#[derive(Debug, Default)]
pub(super) struct Said {
    why: Option<String>,
    is_connected: bool,
}

impl Said {
    /// Says it, unless no failure was said since the last time.
    pub(super) fn connected(&mut self) {
        if self.connects() {
            tracing::info!("the bridge is connected");
        }
    }

    /// Says it, unless it is what was said before.
    pub(super) fn failed(&mut self, failure: &Failure) {
        let (cause, why) = (failure.cause, failure.why.as_str());
        if !self.fails(why) {
            tracing::debug!(cause, why, "the bridge failed again");
        } else if failure.needs_somebody() {
            tracing::error!(cause, why, "the bridge fails; viewers are not affected; trying again");
        } else {
            tracing::warn!(cause, why, "the bridge is not connected; trying again");
        }
    }

    /// All was well for a long time: the next failure is news.
    pub(super) fn forget(&mut self) {
        self.why = None;
    }

    /// Whether it is news.
    fn connects(&mut self) -> bool {
        !std::mem::replace(&mut self.is_connected, true)
    }

    /// Whether it is news.
    fn fails(&mut self, why: &str) -> bool {
        let is_news = self.why.as_deref() != Some(why);
        if is_news {
            (self.why, self.is_connected) = (Some(why.to_owned()), false);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rumqttc::ConnectReturnCode;
    use std::io;

    #[test]
    fn failures_are_told_apart_by_who_has_to_do_something() {
        let io = || ConnectionError::Io(io::Error::from(io::ErrorKind::ConnectionRefused));
        let refused = ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        let aborted = || ConnectionError::MqttState(StateError::ConnectionAborted);
        for (failure, cause) in [
            (Failure::connecting(&io()), "unreachable"),
            (Failure::connecting(&ConnectionError::NetworkTimeout), "unreachable"),
            (Failure::connecting(&refused), "refused"),
            (Failure::connecting(&aborted()), "lost"),
            (Failure::connected(&aborted()), "lost"),
            (Failure::connected(&io()), "lost"),
            (Failure::connected(&ConnectionError::FlushTimeout), "stalled"),
            (Failure::connected(&ConnectionError::MqttState(StateError::AwaitPingResp)), "stalled"),
        ] {
            assert_eq!(failure.cause, cause, "{failure:?}");
            assert!(crate::metrics::BRIDGE_CAUSES.contains(&cause));
        }
    }

    #[test]
    fn a_connection_that_comes_and_goes_for_the_same_reason_is_said_once() {
        let mut said = Said::default();
        assert!(said.connects() && said.fails("closed"));
        assert!(said.connects() && !said.fails("closed") && !said.connects() && !said.fails("closed"));
        assert!(said.fails("no route") && said.connects());
        said.forget();
        assert!(said.fails("no route"), "after a long time it is news");
    }
}
