//! What sections say of their values in the same words.

/// Puts a section's name before each key that the section refuses.
pub fn within<'a>(
    section: &'a str,
    refuse: &'a mut dyn FnMut(&str, String),
) -> impl FnMut(&str, String) + use<'a> {
    move |key, problem| refuse(&format!("{section}.{key}"), problem)
}

/// Refuses a number that is not `least` to `most`.
pub fn check_range(key: &str, value: u64, (least, most): (u64, u64), refuse: &mut dyn FnMut(&str, String)) {
    if !(least..=most).contains(&value) {
        refuse(key, format!("must be {least} to {most}, is {value}"));
    }
}

/// Refuses what is no address of a listener.
pub fn check_listen(key: &str, address: &str, refuse: &mut dyn FnMut(&str, String)) {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
        refuse(key, format!("must be host:port, is {address:?}"));
    }
}
