//! The metrics of this crate.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

/// Gauge: rooms with orders.
pub const ROOMS: &str = "uproar_control_rooms";
/// Gauge: 1 while this process follows the orders, 0 while it acts on the last that it read.
pub const FOLLOWING: &str = "uproar_control_following";
/// Counter: records of `control` that could not be read and were passed over.
pub const ALIEN: &str = "uproar_control_alien_records_total";
/// Counter: changes that the admin API made, by role (`produce`, `operate`).
pub const CHANGES: &str = "uproar_control_changes_total";
/// Counter: requests that the admin API refused, by status.
pub const REFUSED: &str = "uproar_control_refused_total";

/// Every status that the admin API refuses a request with.
pub(crate) const STATUSES: [&str; 10] =
    ["400", "401", "403", "404", "405", "409", "413", "422", "501", "503"];

/// Registers help texts, and starts the counters at zero.
pub fn describe() {
    describe_gauge!(ROOMS, Unit::Count, "Rooms with orders");
    describe_gauge!(
        FOLLOWING,
        "1 while the orders are followed, 0 while the last that were read are in force"
    );
    describe_counter!(ALIEN, "Records of control that could not be read and were passed over");
    describe_counter!(CHANGES, "Changes of orders by role");
    describe_counter!(REFUSED, "Requests that the admin API refused, by status");
    gauge!(ROOMS).set(0.0);
    gauge!(FOLLOWING).set(0.0);
    counter!(ALIEN).absolute(0);
    for role in ["produce", "operate"] {
        counter!(CHANGES, "role" => role).absolute(0);
    }
    for status in STATUSES {
        counter!(REFUSED, "status" => status).absolute(0);
    }
}
