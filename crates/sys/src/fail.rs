//! Failpoints: named places where a test lets this process fail, die or wait.
//!
//! Without the cargo feature `failpoints`, [`point`] is an empty inline function. With it, the environment
//! variable `WHARF_FAILPOINTS` says what happens where, `;` between the points:
//!
//! ```text
//! durable.rename=kill;create.start=error@2;stop.signal=sleep:500
//! ```
//!
//! `error` makes the place return an error, `kill` ends this process with SIGKILL, `sleep:MS` waits.
//! `@N` limits it to the Nth time that this process comes by. `WHARF_FAILPOINTS_TRACE=PATH` appends the
//! name of every point that is passed to a file, one a line. Both are read once, at the first point. `set`
//! adds rules to a process that runs, and `acted` counts how often they did something.

#[cfg(not(feature = "failpoints"))]
use std::io;

/// The place called `name` is passed.
///
/// # Errors
/// What `WHARF_FAILPOINTS` asks for here; without the feature never.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "must cost nothing in programs that ship")]
pub fn point(_name: &'static str) -> io::Result<()> {
    Ok(())
}

#[cfg(feature = "failpoints")]
pub use active::{acted, point, set};

/// What to do at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg(any(feature = "failpoints", test))]
enum Action {
    Error,
    Kill,
    Sleep(u64),
}

/// One entry of `WHARF_FAILPOINTS`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg(any(feature = "failpoints", test))]
struct Rule {
    name: String,
    action: Action,
    /// Only this pass, counted from 1.
    only: Option<u64>,
}

/// Reads the variable's text. A rule that can't be read is an error: a test with a typo must not pass.
#[cfg(any(feature = "failpoints", test))]
fn parse(text: &str) -> Result<Vec<Rule>, String> {
    text.split(';').map(str::trim).filter(|rule| !rule.is_empty()).map(parse_rule).collect()
}

#[cfg(any(feature = "failpoints", test))]
fn parse_rule(rule: &str) -> Result<Rule, String> {
    let (name, what) = rule.split_once('=').ok_or_else(|| format!("failpoint `{rule}`: no ="))?;
    let (what, only) = match what.split_once('@') {
        Some((what, pass)) => {
            let pass = pass.parse().map_err(|_| format!("failpoint `{rule}`: no number after @"))?;
            (what, Some(pass))
        }
        None => (what, None),
    };
    let action = match what.split_once(':') {
        None if what == "error" => Action::Error,
        None if what == "kill" => Action::Kill,
        Some(("sleep", ms)) => {
            Action::Sleep(ms.parse().map_err(|_| format!("failpoint `{rule}`: no milliseconds"))?)
        }
        _ => return Err(format!("failpoint `{rule}`: not error, kill or sleep:MS")),
    };
    Ok(Rule { name: name.to_owned(), action, only })
}

#[cfg(feature = "failpoints")]
mod active {
    use std::fs::{File, OpenOptions};
    use std::io::{self, Write as _};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::time::Duration;

    use super::{Action, Rule, parse};

    struct Config {
        rules: Vec<(Rule, AtomicU64)>,
        trace: Option<File>,
        invalid: Option<String>,
    }

    /// The rules of [`set`], each with how often it was passed.
    static SET: Mutex<Vec<(Rule, u64)>> = Mutex::new(Vec::new());
    static ACTED: AtomicU64 = AtomicU64::new(0);

    /// Puts these rules, written as in `WHARF_FAILPOINTS`, in the place of those that were set before; those of
    /// the environment stay.
    ///
    /// # Errors
    /// What is wrong with them; then nothing is changed.
    pub fn set(rules: &str) -> Result<(), String> {
        let rules = parse(rules)?.into_iter().map(|rule| (rule, 0)).collect();
        *SET.lock().unwrap_or_else(PoisonError::into_inner) = rules;
        Ok(())
    }

    /// How often a rule of [`set`] has acted in this process.
    #[must_use]
    pub fn acted() -> u64 {
        ACTED.load(Ordering::Relaxed)
    }

    /// What the rules of [`set`] say here.
    fn set_here(name: &str) -> Option<Action> {
        let mut rules = SET.lock().unwrap_or_else(PoisonError::into_inner);
        let mut action = None;
        for (rule, passes) in rules.iter_mut().filter(|(rule, _)| rule.name == name) {
            *passes += 1;
            if rule.only.is_none_or(|only| only == *passes) {
                action = Some(rule.action);
            }
        }
        action
    }

    /// The place called `name` is passed.
    ///
    /// # Errors
    /// What `WHARF_FAILPOINTS` or [`set`] asks for here, and everywhere if that variable can't be read.
    pub fn point(name: &'static str) -> io::Result<()> {
        static CONFIG: OnceLock<Config> = OnceLock::new();
        let config = CONFIG.get_or_init(Config::from_env);
        if let Some(mut trace) = config.trace.as_ref() {
            // One write of one line: O_APPEND keeps the lines of several processes whole.
            trace.write_all(format!("{name}\n").as_bytes())?;
        }
        if let Some(invalid) = &config.invalid {
            return Err(io::Error::other(invalid.clone()));
        }
        for (rule, passes) in config.rules.iter().filter(|(rule, _)| rule.name == name) {
            let pass = passes.fetch_add(1, Ordering::Relaxed) + 1;
            if rule.only.is_none_or(|only| only == pass) {
                act(name, rule.action)?;
            }
        }
        if let Some(action) = set_here(name) {
            ACTED.fetch_add(1, Ordering::Relaxed);
            act(name, action)?;
        }
        Ok(())
    }

    fn act(name: &str, action: Action) -> io::Result<()> {
        match action {
            Action::Error => return Err(io::Error::other(format!("failpoint {name}"))),
            Action::Kill => {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
                // Still here: the first process of a pid namespace, which no signal of its own ends.
                std::process::abort();
            }
            Action::Sleep(ms) => std::thread::sleep(Duration::from_millis(ms)),
        }
        Ok(())
    }

    impl Config {
        fn from_env() -> Self {
            let trace = std::env::var_os("WHARF_FAILPOINTS_TRACE").map(|path| {
                OpenOptions::new().append(true).create(true).open(path).map_err(|error| error.to_string())
            });
            let rules = parse(&std::env::var("WHARF_FAILPOINTS").unwrap_or_default());
            let mut config = Self { rules: Vec::new(), trace: None, invalid: None };
            match trace {
                Some(Ok(file)) => config.trace = Some(file),
                Some(Err(error)) => config.invalid = Some(format!("WHARF_FAILPOINTS_TRACE: {error}")),
                None => {}
            }
            match rules {
                Ok(rules) => config.rules = rules.into_iter().map(|rule| (rule, AtomicU64::new(0))).collect(),
                Err(error) => config.invalid = Some(error),
            }
            config
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let rule = |name: &str, action, only| Rule { name: name.to_owned(), action, only };
        assert_eq!(
            parse("a.b=error; c=kill@3;d=sleep:20;").unwrap(),
            [
                rule("a.b", Action::Error, None),
                rule("c", Action::Kill, Some(3)),
                rule("d", Action::Sleep(20), None)
            ]
        );
        assert_eq!(parse("").unwrap(), []);
        for bad in ["a", "a=b", "a=sleep", "a=sleep:x", "a=kill@", "a=error:5"] {
            parse(bad).unwrap_err();
        }
    }

    #[cfg(feature = "failpoints")]
    #[test]
    fn rules_can_be_set_while_it_runs() {
        set("sys.test.set=error@2").unwrap();
        let before = acted();
        assert!(
            point("sys.test.set").is_ok() && point("sys.test.set").is_err() && point("sys.test.set").is_ok()
        );
        assert_eq!(acted() - before, 1);
        set("sys.test.set").unwrap_err();
        set("").unwrap();
    }

    #[test]
    fn an_unnamed_point_passes() {
        assert!(point("sys.test.nothing").is_ok());
    }
}
