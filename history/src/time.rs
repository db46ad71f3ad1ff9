//! How a time is written: ms since the epoch, or RFC 3339.

/// The latest time that is taken, ms since the epoch: what JavaScript reads exactly.
pub const TIME_MAX_MS: u64 = wire::COUNT_MAX;

/// Reads a time as ms since the epoch: a whole number of ms, or a time of RFC 3339 such as `2026-11-30T20:15:00Z`.
///
/// `None`: it is neither, or lies before the epoch or after [`TIME_MAX_MS`].
pub fn parse(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let ms = if is_number { text.parse().ok()? } else { rfc3339(text)? };
    (ms <= TIME_MAX_MS).then_some(ms)
}

/// RFC 3339, section 5.6. A fraction is cut after the ms. A leap second is the second after it.
fn rfc3339(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?;
        let add = |n: i64, digit: &u8| digit.is_ascii_digit().then(|| n * 10 + i64::from(digit - b'0'));
        digits.iter().try_fold(0, add)
    };
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|byte| wanted.contains(byte));
    let separators = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let is_time = hour < 24 && minute < 60 && second <= 60;
    if !separators || !is_time || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let (fraction_ms, zone) = fraction(&bytes[19..])?;
    let seconds = days_from_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    u64::try_from((seconds - offset_s(zone)?) * 1_000 + fraction_ms).ok()
}

/// The ms of a fraction of a second, if there is one, and what follows it.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let ms = (0..3).fold(0, |ms, at| {
        let digit = if at < digits { rest[at] - b'0' } else { 0 };
        ms * 10 + i64::from(digit)
    });
    (digits > 0).then_some((ms, &rest[digits..]))
}

/// How many seconds a zone is ahead of UTC.
fn offset_s(zone: &[u8]) -> Option<i64> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    match *zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digit(h1)? * 10 + digit(h2)?, digit(m1)? * 10 + digit(m2)?);
            let ahead = hours * 3_600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if sign == b'+' { ahead } else { -ahead })
        }
        _ => None,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    // Since the first day of year 1.
    let of_years = before * 365 + before / 4 - before / 100 + before / 400;
    let of_months: i64 = (1..month).map(|month| days_in(year, month)).sum();
    // 719,162 days lie before 1970.
    of_years + of_months + day - 1 - 719_162
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn times_are_ms_or_rfc_3339() {
        for (text, ms) in [
            ("0", 0),
            ("1763000000123", 1_763_000_000_123),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00z", 951_825_600_000),
            ("2026-11-30T20:15:00Z", 1_796_069_700_000),
            ("2026-11-30t20:15:00.5Z", 1_796_069_700_500),
            ("2026-11-30T20:15:00.123456789Z", 1_796_069_700_123),
            ("2026-11-30T21:45:00+01:30", 1_796_069_700_000),
            ("2026-11-30T15:15:00-05:00", 1_796_069_700_000),
            ("1990-12-31T23:59:60Z", 662_688_000_000),
        ] {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-1",
            "1.5",
            "now",
            "9007199254740992",
            "99999999999999999999",
            "1969-12-31T23:59:59Z",
            "2026-11-30",
            "2026-11-30T20:15:00",
            "2026-11-30T20:15Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-11-30T24:00:00Z",
            "2026-11-30T20:60:00Z",
            "2026-11-30T20:15:61Z",
            "2026-11-30T20:15:00.Z",
            "2026-11-30T20:15:00+1:00",
            "2026-11-30T20:15:00+24:00",
            "2026-11-30T20:15:00Zz",
            "2026-11-30T20:15:0é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_second_is_read_as_it_is_written(seconds in 0u64..8_000_000_000) {
            let http = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            // Such as "Sun, 06 Nov 1994 08:49:37 GMT".
            let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
            let month = months.iter().position(|name| *name == &http[8..11]).unwrap() + 1;
            let text = format!("{}-{month:02}-{}T{}Z", &http[12..16], &http[5..7], &http[17..25]);
            prop_assert_eq!(parse(&text), Some(seconds * 1_000), "{}", text);
        }
    }
}
