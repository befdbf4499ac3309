//! What the monitor itself has to say: to stderr while it has one, and to syslog if asked.

use std::fmt;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

/// How grave a message is; the order is that of `--log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something was not done.
    Error,
    /// Something is odd, or was left out.
    Warning,
    /// What goes on.
    Info,
    /// Steps.
    Debug,
    /// Data.
    Trace,
}

impl Level {
    /// From the option's value; empty is the default.
    ///
    /// # Errors
    /// conmon's text for a word that is no level.
    pub fn parse(word: &str) -> Result<Self, String> {
        match word.to_ascii_lowercase().as_str() {
            "error" | "fatal" | "panic" => Ok(Self::Error),
            "" | "warn" | "warning" => Ok(Self::Warning),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(format!("No such log level {word}")),
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Error => 'e',
            Self::Warning => 'w',
            Self::Info => 'i',
            Self::Debug => 'd',
            Self::Trace => 't',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// syslog(3)'s number.
    fn priority(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warning => 4,
            Self::Info => 6,
            Self::Debug | Self::Trace => 7,
        }
    }
}

#[derive(Debug)]
struct Settings {
    level: Level,
    /// The container's short id, if syslog is to be told.
    syslog: Option<String>,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Sets what is shown from now on; before, warnings and errors go to stderr. The first call counts.
pub fn init(level: Level, syslog_id: Option<&str>) {
    let syslog = syslog_id.map(|id| id.chars().take(20).collect());
    // A second call would be a mistake of ours that harms nobody.
    let _ = SETTINGS.set(Settings { level, syslog });
}

/// Says `text`. Never fails, never blocks on syslog.
pub fn say(level: Level, text: impl fmt::Display) {
    let settings = SETTINGS.get();
    if level > settings.map_or(Level::Warning, |settings| settings.level) {
        return;
    }
    // stderr may be gone; there is nobody to tell that to.
    let _ = writeln!(std::io::stderr(), "[conmon:{}]: {text}", level.letter());
    if let Some(id) = settings.and_then(|settings| settings.syslog.as_ref()) {
        let line = format!(
            "<{}>conmon[{}]: conmon {id} <{}>: {text}",
            8 + level.priority(),
            std::process::id(),
            level.word()
        );
        if let Ok(socket) = UnixDatagram::unbound()
            && socket.set_nonblocking(true).is_ok()
        {
            // As syslog(3): without a daemon the message is lost.
            let _ = socket.send_to(line.as_bytes(), "/dev/log");
        }
    }
}

/// Says an error.
pub fn error(text: impl fmt::Display) {
    say(Level::Error, text);
}

/// Says a warning.
pub fn warning(text: impl fmt::Display) {
    say(Level::Warning, text);
}

/// Says a step.
pub fn debug(text: impl fmt::Display) {
    say(Level::Debug, text);
}
