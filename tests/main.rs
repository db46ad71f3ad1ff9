//! The integration tests: one binary, so that it links once.
//!
//! They start the real `uproar` and talk to it as its users do. Those on Kafka start real brokers (see `kafka/`).

#![expect(unreachable_pub, reason = "a binary of tests has no outside")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail the test")]

mod harness;

mod api;
mod audit;
mod chaos;
mod compose;
mod config_reload;
mod end_to_end;
mod history;
mod kafka_log;
mod kafka_tiers;
mod log_output;
mod occupancy;
mod orders;
mod overload;
mod readme;
mod repartition;
mod rooms;
mod shutdown;
mod start;
mod tidy;
mod viewers;
