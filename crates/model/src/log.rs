//! The CRI's log format: `TIME STREAM TAG CONTENT\n`, one record a line.
//!
//! TIME is RFC 3339 with nanoseconds, STREAM is stdout or stderr, TAG is F for a line that is whole or the
//! last piece of one, P for a piece that more follows. More tags may follow after colons; they mean nothing
//! yet. CONTENT is bytes, taken as they came.

use std::fmt;

const NANOS: u64 = 1_000_000_000;
const DAY_S: u64 = 86_400;

/// Which output a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Whether a record ends its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    /// It does.
    Full,
    /// More of the line follows in a later record of the same stream.
    Partial,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was written, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// Where it came from.
    pub stream: Stream,
    /// Whether it ends its line.
    pub tag: Tag,
    /// What was written, without the newline.
    pub content: &'a [u8],
}

/// Why a line is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Fewer than three fields.
    #[error("log line: not `TIME STREAM TAG CONTENT`")]
    Fields,
    /// The first field is no time.
    #[error("log line: the time is not RFC 3339, or before 1970 or after 2554")]
    Time,
    /// The second field is something else.
    #[error("log line: the stream is neither stdout nor stderr")]
    Stream,
    /// The third field begins with something else.
    #[error("log line: the tag is neither F nor P")]
    Tag,
}

impl<'a> Record<'a> {
    /// Parses one line, with or without its newline.
    ///
    /// # Errors
    /// [`LogError`] when it is no record.
    pub fn parse(line: &'a [u8]) -> Result<Self, LogError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut fields = line.splitn(4, |b| *b == b' ');
        let mut field = || fields.next().ok_or(LogError::Fields);
        let (time, stream, tags) = (field()?, field()?, field()?);
        // An empty record may have lost its last space.
        let content = fields.next().unwrap_or_default();
        let time = std::str::from_utf8(time).ok().and_then(parse_time).ok_or(LogError::Time)?;
        let stream = match stream {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return Err(LogError::Stream),
        };
        let tag = match tags.split(|b| *b == b':').next() {
            Some(b"F") => Tag::Full,
            Some(b"P") => Tag::Partial,
            _ => return Err(LogError::Tag),
        };
        Ok(Self { time_ns: time, stream, tag, content })
    }

    /// The record as a line with its newline. The content must have none.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(HEAD_LEN + self.content.len() + 1);
        line.extend_from_slice(&head(self.time_ns, self.stream, self.tag));
        line.extend_from_slice(self.content);
        line.push(b'\n');
        line
    }
}

/// Bytes before the content: 35 of time, 8 of stream with its spaces, 2 of tag.
pub const HEAD_LEN: usize = 45;

/// The bytes before the content: `2026-11-23T23:32:41.482636418+00:00 stdout F `.
#[must_use]
pub fn head(time_ns: u64, stream: Stream, tag: Tag) -> [u8; HEAD_LEN] {
    let mut out = *b"0000-00-00T00:00:00.000000000+00:00 stdout F ";
    let civil = Civil::of(time_ns / NANOS);
    let fields = [
        (0, 4, civil.year),
        (5, 2, civil.month),
        (8, 2, civil.day),
        (11, 2, civil.hour),
        (14, 2, civil.minute),
        (17, 2, civil.second),
        (20, 9, time_ns % NANOS),
    ];
    for (at, width, value) in fields {
        digits(&mut out[at..at + width], value);
    }
    if stream == Stream::Stderr {
        out[36..42].copy_from_slice(b"stderr");
    }
    if tag == Tag::Partial {
        out[43] = b'P';
    }
    out
}

fn digits(out: &mut [u8], mut value: u64) {
    for byte in out.iter_mut().rev() {
        *byte = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

/// Prints nanoseconds since the epoch as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rfc3339(pub u64);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = head(self.0, Stream::Stdout, Tag::Full);
        let text = std::str::from_utf8(&head[..29]).map_err(|_| fmt::Error)?;
        f.pad(&format!("{text}Z"))
    }
}

/// Parses an RFC 3339 time, with `Z` or an offset, with no fraction or one of any length (beyond
/// nanoseconds it is cut), into nanoseconds since the epoch; none for anything else, or before 1970.
#[must_use]
pub fn parse_time(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |at: usize, len: usize| -> Option<u64> {
        let digits = bytes.get(at..at + len)?;
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')))
    };
    let is = |at: usize, letters: &[u8]| bytes.get(at).is_some_and(|b| letters.contains(b));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    if !(1..=12).contains(&month) || day == 0 || day > month_days(year, month) {
        return None;
    }
    // A leap second counts as the next one.
    if year < 1969 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(after) = rest.strip_prefix('.') {
        let len = after.bytes().take_while(u8::is_ascii_digit).count();
        if len == 0 {
            return None;
        }
        for at in 0..9 {
            nanos =
                nanos * 10 + after.as_bytes().get(at).filter(|_| at < len).map_or(0, |b| u64::from(b - b'0'));
        }
        rest = after.get(len..)?;
    }
    let offset = parse_offset(rest)?;
    let seconds = i64::try_from(days_of(year, month, day)?).ok()? * i64::try_from(DAY_S).ok()?
        + i64::try_from(hour * 3600 + minute * 60 + second).ok()?
        - offset;
    u64::try_from(seconds).ok()?.checked_mul(NANOS)?.checked_add(nanos)
}

/// Seconds east of UTC.
fn parse_offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let bytes = text.as_bytes();
    let sign = match bytes.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let two = |at: usize| -> Option<i64> {
        let digits = bytes.get(at..at + 2)?;
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| i64::from(digits[0] - b'0') * 10 + i64::from(digits[1] - b'0'))
    };
    let (hours, minutes) = (two(1)?, two(4)?);
    (bytes.len() == 6 && bytes[3] == b':' && hours < 24 && minutes < 60)
        .then(|| sign * (hours * 3600 + minutes * 60))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date, none before it (but for the day before, which an offset can save).
fn days_of(year: u64, month: u64, day: u64) -> Option<u64> {
    let leaps = |y: u64| y / 4 - y / 100 + y / 400;
    let before_year = year.checked_sub(1970)? * 365 + leaps(year - 1) - leaps(1969);
    let before_month: u64 = (1..month).map(|m| month_days(year, m)).sum();
    Some(before_year + before_month + day - 1)
}

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    /// Counts from 0000-03-01, so that the leap day is the last of a year, in eras of 400 years.
    fn of(seconds: u64) -> Self {
        let (days, in_day) = (seconds / DAY_S + 719_468, seconds % DAY_S);
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted + 2) / 5 + 1,
            hour: in_day / 3600,
            minute: in_day / 60 % 60,
            second: in_day % 60,
        }
    }
}

#[cfg(test)]
mod tests;
