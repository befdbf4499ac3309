//! Sizes (`64m`, `1.5GiB`) and durations (`10s`, `1h30m`) as people write them, and back.

use std::time::Duration;

/// Why a text is no size or duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?}: {cause}")]
pub struct QuantityError {
    what: &'static str,
    text: String,
    cause: &'static str,
}

/// Parses a size in bytes: a number, which may have a fraction, and a unit of b, k, m, g, t or p, which
/// may be followed by b or ib. Units are powers of 1024, as everywhere in container tools.
///
/// # Errors
/// [`QuantityError`] when it is something else or larger than 2^64.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    let error = |cause| QuantityError { what: "size", text: text.chars().take(64).collect(), cause };
    let lower = text.trim().to_ascii_lowercase();
    let split = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(split);
    let shift = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(error("the unit is one of b, k, m, g, t, p")),
    };
    let scaled = scale(number, 1 << shift).ok_or_else(|| error("not a number with a unit, such as 64m"))?;
    u64::try_from(scaled).map_err(|_| error("too large"))
}

/// `number`, decimal, times `unit`, rounded down.
fn scale(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || fraction.len() > 18
    {
        return None;
    }
    let value = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let tens = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    value(whole)?.checked_mul(unit)?.checked_add(value(fraction)? * unit / tens)
}

/// Prints a size for people: `512B`, `64MiB`, `1.5GiB`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (0..6).rev().find(|i| bytes >= 1u64 << (10 * (i + 1))).map_or(0, |i| i + 1);
    let size = 1u128 << (10 * unit);
    // In hundredths, so that no floating point is needed.
    let hundredths = u128::from(bytes) * 100 / size;
    let (whole, part) = (hundredths / 100, hundredths % 100);
    match part {
        0 => format!("{whole}{}", UNITS[unit]),
        _ if part.is_multiple_of(10) => format!("{whole}.{}{}", part / 10, UNITS[unit]),
        _ => format!("{whole}.{part:02}{}", UNITS[unit]),
    }
}

/// Parses a duration: numbers, which may have a fraction, each with a unit of d, h, m, s, ms, us or ns,
/// the larger first; a number alone is seconds.
///
/// # Errors
/// [`QuantityError`] when it is something else, or longer than 100 years.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    const UNITS: [(&str, u128); 7] = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1000),
        ("ns", 1),
    ];
    let error = |cause| QuantityError { what: "duration", text: text.chars().take(64).collect(), cause };
    let no_number = "not a number with a unit, such as 10s or 1h30m";
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(error(no_number));
    }
    let (mut nanos, mut last) = (0u128, u128::MAX);
    while !rest.is_empty() {
        let letters = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(letters);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (name, next) = after.split_at(end);
        let unit = if name.is_empty() && last == u128::MAX {
            1_000_000_000
        } else {
            let found = UNITS.iter().find(|(unit, _)| *unit == name);
            found.ok_or_else(|| error("the unit is one of d, h, m, s, ms, us, ns"))?.1
        };
        if unit >= last {
            return Err(error("the larger unit comes first"));
        }
        let part = scale(number, unit).ok_or_else(|| error(no_number))?;
        nanos = nanos.checked_add(part).ok_or_else(|| error("too long"))?;
        (last, rest) = (unit, next);
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| error("too long"))?;
    if seconds > 100 * 366 * 86_400 {
        return Err(error("too long"));
    }
    Ok(Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).unwrap_or(0)))
}

/// Prints a duration for people: `1h30m`, `2.5s`, `3ms`, `0s`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 && !duration.is_zero() {
        let nanos = duration.subsec_nanos();
        return match nanos {
            1_000_000.. => format!("{}ms", nanos / 1_000_000),
            1000.. => format!("{}us", nanos / 1000),
            _ => format!("{nanos}ns"),
        };
    }
    if seconds < 60 {
        let tenths = duration.subsec_millis() / 100;
        return if tenths == 0 { format!("{seconds}s") } else { format!("{seconds}.{tenths}s") };
    }
    let parts =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    parts.iter().filter(|(n, _)| *n > 0).take(2).map(|(n, unit)| format!("{n}{unit}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        let good = [
            ("0", 0),
            ("64m", 64 << 20),
            ("1.5g", 3 << 29),
            ("64MiB", 64 << 20),
            ("10 kb", 10 << 10),
            (".5k", 512),
            ("1b", 1),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "m", ".", "-1", "1.2.3", "64x", "64 m m", "99999999p", "0x10", "1e3", "NaN"] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
        let prints =
            [(0, "0B"), (1023, "1023B"), (64 << 20, "64MiB"), (3 << 29, "1.5GiB"), (1_100_000, "1.04MiB")];
        for (bytes, text) in prints {
            assert_eq!(format_size(bytes), text);
        }
    }

    #[test]
    fn durations() {
        let ms = Duration::from_millis;
        let good = [
            ("10", ms(10_000)),
            ("10s", ms(10_000)),
            ("1h30m", ms(5_400_000)),
            ("1.5s", ms(1500)),
            ("0", ms(0)),
            ("500ms", ms(500)),
            ("2d", ms(172_800_000)),
            ("1m1s1ms", ms(61_001)),
        ];
        for (text, duration) in good {
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
        }
        for bad in ["", "s", "-5s", "10x", "1s1h", "1s1s", "1h30", "1..5s", "inf", "99999999999d", "1 s"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
        let prints = [
            (0, "0s"),
            (1, "1ms"),
            (2500, "2.5s"),
            (61_000, "1m1s"),
            (5_400_000, "1h30m"),
            (90_061_000, "1d1h"),
        ];
        for (millis, text) in prints {
            assert_eq!(format_duration(ms(millis)), text);
        }
    }

    proptest! {
        #[test]
        fn whole_sizes_and_seconds_come_back(n in 0u64..1 << 40) {
            prop_assert_eq!(parse_size(&n.to_string()), Ok(n));
            prop_assert_eq!(parse_duration(&format!("{}s", n % 1_000_000)), Ok(Duration::from_secs(n % 1_000_000)));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = parse_size(&text);
            let _ = parse_duration(&text);
        }
    }
}
