//! How long tasks of a cgroup had to wait (PSI; the kernel's accounting/psi.rst), in the JSON form of `runc events`.

use std::path::Path;

use serde::{Serialize, Serializer};

/// Waiting for one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: Waits,
    /// All that were not idle waited.
    pub full: Waits,
}

/// Shares of the time, and all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Waits {
    /// Of the last 10 s.
    pub avg10: Percent,
    /// Of the last minute.
    pub avg60: Percent,
    /// Of the last 5 minutes.
    pub avg300: Percent,
    /// Microseconds.
    pub total: u64,
}

/// A percentage in hundredths, which is what the kernel shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Percent(u32);

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 100.0)
    }
}

impl Pressure {
    /// Reads a `*.pressure` file; none before Linux 4.20, and where it is turned off.
    pub(super) fn read(path: &Path) -> Option<Self> {
        std::fs::read_to_string(path).ok().map(|text| Self::parse(&text))
    }

    /// `some avg10=0.12 avg60=0.00 avg300=0.00 total=345` and the same of `full`; what is unknown is left out.
    fn parse(text: &str) -> Self {
        let mut pressure = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let waits = match words.next() {
                Some("some") => &mut pressure.some,
                Some("full") => &mut pressure.full,
                _ => continue,
            };
            for (name, value) in words.filter_map(|word| word.split_once('=')) {
                match name {
                    "avg10" => waits.avg10 = percent(value),
                    "avg60" => waits.avg60 = percent(value),
                    "avg300" => waits.avg300 = percent(value),
                    "total" => waits.total = value.parse().unwrap_or(0),
                    _ => {}
                }
            }
        }
        pressure
    }
}

/// `12.34`, always with two decimals.
fn percent(text: &str) -> Percent {
    Percent(text.replacen('.', "", 1).parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_form_becomes_runcs() {
        let text = "some avg10=12.30 avg60=0.05 avg300=100.00 total=4096\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\nodd x\n";
        let shown = serde_json::to_value(Pressure::parse(text)).unwrap();
        let full = serde_json::json!({"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 7});
        let some = serde_json::json!({"avg10": 12.3, "avg60": 0.05, "avg300": 100.0, "total": 4096});
        assert_eq!(shown, serde_json::json!({"some": some, "full": full}));
        assert_eq!(Pressure::parse(""), Pressure::default());
        assert_eq!(Pressure::read(Path::new("/nonexistent")), None);
    }
}
