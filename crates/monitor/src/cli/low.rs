//! What was typed, by the rules of GLib's option parser, which conmon uses.

use std::ffi::OsString;

use super::options::{Kind, OPTIONS, Opt, Store};

/// The options as typed; of one given twice, the last counts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the option of its name; help_text() says what it means")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Low {
    pub api_version: bool,
    pub bundle: Option<OsString>,
    pub cid: Option<OsString>,
    pub conmon_pidfile: Option<OsString>,
    pub container_pidfile: Option<OsString>,
    pub control_socket: Option<OsString>,
    pub cuuid: Option<OsString>,
    pub exec: bool,
    pub exec_attach: bool,
    pub exec_process_spec: Option<OsString>,
    pub exit_command: Option<OsString>,
    pub exit_command_args: Vec<OsString>,
    pub exit_delay: i32,
    pub exit_dir: Option<OsString>,
    pub full_attach: bool,
    pub help: bool,
    pub leave_stdin_open: bool,
    pub log_allowlist_dirs: Vec<OsString>,
    pub log_global_size_max: i64,
    pub log_labels: Vec<OsString>,
    pub log_level: Option<OsString>,
    pub log_max_files: i32,
    pub log_paths: Vec<OsString>,
    pub log_rotate: bool,
    pub log_size_max: i64,
    pub log_tag: Option<OsString>,
    pub name: Option<OsString>,
    pub no_new_keyring: bool,
    pub no_partial_message: bool,
    pub no_pivot: bool,
    pub no_sync_log: bool,
    pub persist_dir: Option<OsString>,
    pub replace_listen_pid: bool,
    pub restore: Option<OsString>,
    pub runtime: Option<OsString>,
    pub runtime_args: Vec<OsString>,
    pub runtime_opts: Vec<OsString>,
    pub sdnotify_socket: Option<OsString>,
    pub socket_dir_path: Option<OsString>,
    pub stdin: bool,
    pub sync: bool,
    pub syslog: bool,
    pub systemd_cgroup: bool,
    pub terminal: bool,
    pub timeout: i32,
    pub version: bool,
}

impl Default for Low {
    fn default() -> Self {
        Self {
            api_version: false,
            bundle: None,
            cid: None,
            conmon_pidfile: None,
            container_pidfile: None,
            control_socket: None,
            cuuid: None,
            exec: false,
            exec_attach: false,
            exec_process_spec: None,
            exit_command: None,
            exit_command_args: Vec::new(),
            exit_delay: 0,
            exit_dir: None,
            full_attach: false,
            help: false,
            leave_stdin_open: false,
            log_allowlist_dirs: Vec::new(),
            log_global_size_max: -1,
            log_labels: Vec::new(),
            log_level: None,
            log_max_files: 1,
            log_paths: Vec::new(),
            log_rotate: false,
            log_size_max: -1,
            log_tag: None,
            name: None,
            no_new_keyring: false,
            no_partial_message: false,
            no_pivot: false,
            no_sync_log: false,
            persist_dir: None,
            replace_listen_pid: false,
            restore: None,
            runtime: None,
            runtime_args: Vec::new(),
            runtime_opts: Vec::new(),
            sdnotify_socket: None,
            socket_dir_path: None,
            stdin: false,
            sync: false,
            syslog: false,
            systemd_cgroup: false,
            terminal: false,
            timeout: 0,
            version: false,
        }
    }
}

impl Low {
    /// Parses the arguments after the program's name. Positional ones are ignored (`--api-version 1` has one).
    ///
    /// # Errors
    /// What is wrong, in GLib's words.
    pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut low = Self::default();
        let mut parser = lexopt::Parser::from_args(args);
        loop {
            let (shown, option) = match parser.next() {
                Ok(None) => return Ok(low),
                Ok(Some(lexopt::Arg::Value(_))) => continue,
                Ok(Some(lexopt::Arg::Short(short))) => {
                    (format!("-{short}"), OPTIONS.iter().find(|o| o.short == Some(short)))
                }
                Ok(Some(lexopt::Arg::Long(long))) => {
                    (format!("--{long}"), OPTIONS.iter().find(|o| o.long == long))
                }
                Err(error) => return Err(error.to_string()),
            };
            let Some(option) = option else { return Err(format!("Unknown option {shown}")) };
            low.take(&mut parser, &shown, option)?;
        }
    }

    fn take(&mut self, parser: &mut lexopt::Parser, shown: &str, option: &Opt) -> Result<(), String> {
        let long = shown.starts_with("--");
        if let Store::Flag(store) = option.store {
            // A bundle's other flags look like an attached value, so only a long option is asked for one.
            if long && let Some(value) = parser.optional_value() {
                // conmon takes no `=1` here, but its documentation reads as if it did.
                if option.long != "api-version" {
                    return Err(format!("Unknown option {shown}={}", value.to_string_lossy()));
                }
            }
            store(self);
            return Ok(());
        }
        if !long && let Some(attached) = parser.optional_value() {
            return Err(format!("Unknown option {shown}{}", attached.to_string_lossy()));
        }
        let value = parser.value().map_err(|_| format!("Missing argument for {shown}"))?;
        match option.store {
            Store::Text(store) => store(self, value),
            Store::Int(store) => store(self, integer(&value.to_string_lossy(), shown, option.kind)?),
            Store::Flag(_) => {}
        }
        Ok(())
    }
}

/// strtoll(3) with base 0, as GLib calls it: `0x` is hexadecimal, a leading `0` octal.
fn integer(text: &str, shown: &str, kind: Kind) -> Result<i64, String> {
    let wrong = || format!("Cannot parse integer value '{text}' for {shown}");
    let trimmed = text.trim_start();
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(wrong());
    }
    let out_of_range = || format!("Integer value '{text}' for {shown} out of range");
    let value = i128::from_str_radix(digits, radix).map_err(|_| out_of_range())?;
    let value = i64::try_from(if negative { -value } else { value }).map_err(|_| out_of_range())?;
    if kind == Kind::Int32 && i32::try_from(value).is_err() {
        return Err(out_of_range());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Low, String> {
        Low::parse(line.iter().map(OsString::from))
    }

    #[test]
    fn glib_rules() {
        let low = parse(&[
            "--api-version",
            "1",
            "-ti",
            "--cid=c1",
            "-b",
            "-odd",
            "stray",
            "--exit-command-arg",
            "",
        ]);
        let low = low.unwrap();
        assert!(low.api_version && low.terminal && low.stdin);
        assert_eq!((low.cid, low.bundle), (Some("c1".into()), Some("-odd".into())));
        assert_eq!(low.exit_command_args, [OsString::new()]);
        let low = parse(&["--exit-command-arg", "--root", "--exit-command-arg=--", "-T", "0x10"]).unwrap();
        assert_eq!((low.exit_command_args, low.timeout), (vec!["--root".into(), "--".into()], 16));
        let low = parse(&["-c", "a", "-c", "b", "-l", "x", "-l", "y", "--restore-arg", "r"]).unwrap();
        assert_eq!((low.cid, low.log_paths.len(), low.runtime_opts.len()), (Some("b".into()), 2, 1));
        assert!(!parse(&["--", "--sync"]).unwrap().sync);
    }

    #[test]
    fn what_glib_refuses() {
        let cases: &[(&[&str], &str)] = &[
            (&["--foo"], "Unknown option --foo"),
            (&["-x"], "Unknown option -x"),
            (&["-cabc"], "Unknown option -cabc"),
            (&["--sync=1"], "Unknown option --sync=1"),
            (&["--cid"], "Missing argument for --cid"),
            (&["-T", "soon"], "Cannot parse integer value 'soon' for -T"),
            (&["-T", ""], "Cannot parse integer value '' for -T"),
            (&["-T", "08"], "Cannot parse integer value '08' for -T"),
            (
                &["--log-max-files", "2147483648"],
                "Integer value '2147483648' for --log-max-files out of range",
            ),
            (
                &["--log-size-max=99999999999999999999"],
                "Integer value '99999999999999999999' for --log-size-max out of range",
            ),
        ];
        for (line, text) in cases {
            assert_eq!(parse(line).unwrap_err(), *text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_survived(
            words in proptest::collection::vec(
                proptest::prelude::prop_oneof![
                    proptest::sample::select(OPTIONS.iter().map(|o| format!("--{}", o.long)).collect::<Vec<_>>()),
                    proptest::sample::select(OPTIONS.iter().filter_map(|o| Some(format!("-{}", o.short?))).collect::<Vec<_>>()),
                    "-{0,3}[a-z=0-9é -]{0,12}",
                    ".{0,8}",
                ],
                0..12,
            )
        ) {
            // Either it is understood, or there is a text that says why not.
            if let Err(text) = Low::parse(words.iter().map(OsString::from)) {
                assert!(!text.is_empty());
            }
        }
    }

    #[test]
    fn names_are_unique() {
        for (at, option) in OPTIONS.iter().enumerate() {
            for other in &OPTIONS[..at] {
                assert_ne!(option.long, other.long);
                assert!(option.short.is_none() || option.short != other.short, "{}", option.long);
            }
        }
    }
}
