//! The head of a log line: `2026-11-23T23:32:41.482636418+00:00 stdout F `.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Stream;

/// The length of a head, the blank after the tag included.
pub(super) const HEAD_BYTES: usize = 45;
/// Where the tag is.
const TAG: usize = 43;
/// Time zones change at multiples of this, in seconds.
const QUARTER: i64 = 900;

/// Makes heads. Its time never goes back, whatever the system's clock is set to.
#[derive(Debug)]
pub(super) struct Stamp {
    head: [u8; HEAD_BYTES],
    last: Duration,
    /// The second that the head shows.
    second: Option<i64>,
    /// The quarter of an hour that `offset` is for.
    quarter: i64,
    offset: i64,
}

/// A head for whole lines and one for pieces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) whole: [u8; HEAD_BYTES],
    pub(super) piece: [u8; HEAD_BYTES],
}

impl Stamp {
    pub(super) fn new() -> Self {
        Self {
            head: *b"1970-01-01T00:00:00.000000000+00:00 stdout F ",
            last: Duration::ZERO,
            second: None,
            quarter: i64::MIN,
            offset: 0,
        }
    }

    /// The heads for what `stream` said now.
    pub(super) fn heads(&mut self, stream: Stream) -> Heads {
        // A clock before 1970 is the same as one at its beginning.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.heads_at(stream, now, sys::zone::local_offset)
    }

    fn heads_at(&mut self, stream: Stream, now: Duration, zone: impl Fn(i64) -> i64) -> Heads {
        self.last = self.last.max(now);
        let unix = i64::try_from(self.last.as_secs()).unwrap_or(0);
        if self.second != Some(unix) {
            self.second = Some(unix);
            self.write_second(unix, zone);
        }
        digits(&mut self.head[20..29], u64::from(self.last.subsec_nanos()));
        self.head[36..42].copy_from_slice(stream.as_str().as_bytes());
        let mut heads = Heads { whole: self.head, piece: self.head };
        heads.piece[TAG] = b'P';
        heads
    }

    fn write_second(&mut self, unix: i64, zone: impl Fn(i64) -> i64) {
        let quarter = unix.div_euclid(QUARTER);
        if quarter != self.quarter {
            self.quarter = quarter;
            self.offset = zone(unix);
        }
        let local = unix + self.offset;
        let (year, month, day) = civil(local.div_euclid(86_400));
        let clock = local.rem_euclid(86_400);
        let offset = self.offset.abs() / 60;
        let parts = [
            (0..4, year.clamp(0, 9999)),
            (5..7, month),
            (8..10, day),
            (11..13, clock / 3600),
            (14..16, clock / 60 % 60),
            (17..19, clock % 60),
            (30..32, offset / 60),
            (33..35, offset % 60),
        ];
        for (place, value) in parts {
            digits(&mut self.head[place], value.unsigned_abs());
        }
        self.head[29] = if self.offset < 0 { b'-' } else { b'+' };
    }
}

/// Writes `value` in decimal into all of `place`.
fn digits(place: &mut [u8], mut value: u64) {
    for byte in place.iter_mut().rev() {
        *byte = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar. Counted in eras of
/// 400 years that begin on a first of March, so that the leap day is the last of its year.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(stamp: &mut Stamp, stream: Stream, secs: u64, nanos: u32, offset: i64) -> String {
        let heads = stamp.heads_at(stream, Duration::new(secs, nanos), |_| offset);
        assert_eq!(heads.piece[TAG], b'P');
        String::from_utf8(heads.whole.to_vec()).unwrap()
    }

    #[test]
    fn dates() {
        let cases = [
            (0, 0, 0, "1970-01-01T00:00:00.000000000+00:00 stdout F "),
            (951_782_399, 1, 0, "2000-02-28T23:59:59.000000001+00:00 stdout F "),
            (951_782_400, 0, 0, "2000-02-29T00:00:00.000000000+00:00 stdout F "),
            (951_868_800, 0, 0, "2000-03-01T00:00:00.000000000+00:00 stdout F "),
            (1_764_026_761, 482_636_418, 0, "2025-11-24T23:26:01.482636418+00:00 stdout F "),
            (1_764_026_761, 999_999_999, 3_600, "2025-11-25T00:26:01.999999999+01:00 stdout F "),
            (1_764_026_761, 0, -34_200, "2025-11-24T13:56:01.000000000-09:30 stdout F "),
            (4_102_444_799, 0, 0, "2099-12-31T23:59:59.000000000+00:00 stdout F "),
        ];
        for (secs, nanos, offset, expected) in cases {
            assert_eq!(text(&mut Stamp::new(), Stream::Stdout, secs, nanos, offset), expected);
        }
        assert!(text(&mut Stamp::new(), Stream::Stderr, 5, 0, 0).ends_with(" stderr F "));
    }

    #[test]
    fn never_goes_back() {
        let mut stamp = Stamp::new();
        let late = text(&mut stamp, Stream::Stdout, 1000, 5, 0);
        assert_eq!(text(&mut stamp, Stream::Stdout, 999, 7, 0), late);
        assert_eq!(text(&mut stamp, Stream::Stdout, 1000, 4, 0), late);
        assert!(text(&mut stamp, Stream::Stdout, 1000, 6, 0) > late);
    }

    #[test]
    fn offset_is_asked_for_each_quarter() {
        let mut stamp = Stamp::new();
        let zone = |unix: i64| if unix < 1800 { 0 } else { 3600 };
        let mut at = |secs| {
            String::from_utf8(stamp.heads_at(Stream::Stdout, Duration::from_secs(secs), zone).whole.to_vec())
                .unwrap()
        };
        assert!(at(1799).starts_with("1970-01-01T00:29:59.000000000+00:00"));
        assert!(at(1800).starts_with("1970-01-01T01:30:00.000000000+01:00"));
    }
}
