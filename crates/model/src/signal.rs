//! Signals by name and number (signal(7), x86-64 and arm64).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names by number; aliases come after.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const ALIASES: [(&str, u8); 3] = [("IOT", 6), ("CLD", 17), ("POLL", 29)];
/// The first real-time signal that programs see: glibc and runc keep 32 and 33 for threads.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

/// A signal, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(u8);

/// Why a text or number is no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("signal {0:?}: not a name such as TERM, SIGTERM or RTMIN+3, nor a number from 1 to 64")]
pub struct SignalError(String);

impl Signal {
    /// Hang-up.
    pub const HUP: Self = Self(1);
    /// Interrupt, Ctrl-C.
    pub const INT: Self = Self(2);
    /// The end that cannot be refused.
    pub const KILL: Self = Self(9);
    /// The polite end: the default stop signal.
    pub const TERM: Self = Self(15);

    /// The signal of this number.
    ///
    /// # Errors
    /// [`SignalError`] outside 1 to 64.
    pub fn from_number(number: i64) -> Result<Self, SignalError> {
        match u8::try_from(number) {
            Ok(n @ 1..=RTMAX) => Ok(Self(n)),
            _ => Err(SignalError(number.to_string())),
        }
    }

    /// The number, 1 to 64.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }
}

impl FromStr for Signal {
    type Err = SignalError;

    /// Takes `TERM`, `SIGTERM`, `term`, `RTMIN`, `RTMIN+3`, `SIGRTMAX-2` and numbers.
    fn from_str(text: &str) -> Result<Self, SignalError> {
        let error = || SignalError(text.chars().take(64).collect());
        if text.bytes().next().is_some_and(|b| b.is_ascii_digit()) {
            let number = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
            return number.and_then(|n| Self::from_number(n).ok()).ok_or_else(error);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(at) = NAMES.iter().position(|n| *n == name) {
            return u8::try_from(at + 1).map(Self).map_err(|_| error());
        }
        if let Some((_, number)) = ALIASES.iter().find(|(n, _)| *n == name) {
            return Ok(Self(*number));
        }
        real_time(name).map(Self).ok_or_else(error)
    }
}

fn real_time(name: &str) -> Option<u8> {
    let offset = |text: &str, sign: char| match text {
        "" => Some(0),
        _ => text.strip_prefix(sign).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?.parse().ok(),
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        RTMIN.checked_add(offset(rest, '+')?)?
    } else {
        RTMAX.checked_sub(offset(name.strip_prefix("RTMAX")?, '-')?)?
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0) - 1) {
            Some(name) => f.pad(&format!("SIG{name}")),
            None if self.0 == RTMIN => f.pad("SIGRTMIN"),
            None if self.0 > RTMIN => f.pad(&format!("SIGRTMIN+{}", self.0 - RTMIN)),
            None => f.pad(&self.0.to_string()),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Signal {
    type Error = SignalError;

    fn try_from(text: String) -> Result<Self, SignalError> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let good = [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigterm", 15),
            ("9", 9),
            ("KILL", 9),
            ("SIGIOT", 6),
            ("POLL", 29),
            ("SYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMIN+30", 64),
            ("RTMAX", 64),
            ("RTMAX-14", 50),
            ("64", 64),
        ];
        for (text, number) in good {
            assert_eq!(text.parse::<Signal>().map(Signal::number), Ok(number), "{text}");
        }
        for bad in [
            "", "0", "65", "-1", "+5", "SIG", "NOPE", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN+", "15 ",
            "1e1",
        ] {
            assert!(bad.parse::<Signal>().is_err(), "{bad:?}");
        }
        assert!("9".repeat(1 << 20).parse::<Signal>().unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn every_signal_prints_what_parses_back() {
        for number in 1..=64 {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(signal.to_string().parse(), Ok(signal));
        }
        assert_eq!(Signal::from_number(37).unwrap().to_string(), "SIGRTMIN+3");
        assert_eq!(serde_json::to_string(&Signal::TERM).unwrap(), "\"SIGTERM\"");
    }
}
