//! The hidden mode `pin`: makes namespaces and keeps them by a file each (a bind mount), with no process in them.
//!
//! ```text
//! wharf-monitor pin -d DIR -f NAME [-n] [-i] [-u] [-c] [-U --uid-mapping=M --gid-mapping=M] [-s KEY=VALUE]…
//! wharf-monitor pin --at net=/run/x --at ipc=/run/y … [--pid N]
//! ```
//! The first form is CRI-O's pinns: the files are `DIR/netns/NAME` and so on, a mapping is `INSIDE-OUTSIDE-COUNT@…`, and
//! `--net=host` keeps the namespace this process is in. The second names each file, and with `--pid` keeps those of a
//! process in place of new ones. What was pinned is undone when a later step fails.

mod act;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use lexopt::{Arg, Parser};
use sys::ns::Kind;

use crate::Error;

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The namespaces to keep.
    pub pins: Vec<Pin>,
    /// The mappings of a new user namespace, as in uid_map(5) and gid_map(5).
    pub mappings: Option<[String; 2]>,
    /// What to write in /proc/sys, inside the new namespaces: a path there, and the value.
    pub sysctls: Vec<(PathBuf, String)>,
    /// Turn the loopback interface of a new network namespace on.
    pub loopback: bool,
}

/// A namespace to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Its kind.
    pub kind: Kind,
    /// The file to keep it by.
    pub path: PathBuf,
    /// Which it is.
    pub source: Source,
}

/// Which namespace to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A new one.
    New,
    /// The one this process is in.
    Own,
    /// A process's.
    Process(i32),
}

/// Pins what these arguments (after `pin`) ask for; the status to exit with.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    match parse(args).and_then(|plan| act::run(&plan)) {
        Ok(()) => 0,
        Err(error) => {
            // The status tells as well, should stderr be closed.
            let _ = writeln!(std::io::stderr(), "wharf-monitor pin: {error}");
            1
        }
    }
}

/// Parses the arguments after `pin`.
///
/// # Errors
/// [`Error::Usage`].
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Plan, Error> {
    let mut given = Given::default();
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(usage)? {
        let short = matches!(arg, Arg::Short(_));
        let kind = match arg {
            Arg::Short('n') | Arg::Long("net") => Kind::Net,
            Arg::Short('i') | Arg::Long("ipc") => Kind::Ipc,
            Arg::Short('u') | Arg::Long("uts") => Kind::Uts,
            Arg::Short('U') | Arg::Long("user") => Kind::User,
            Arg::Short('c') | Arg::Long("cgroup") => Kind::Cgroup,
            Arg::Short('d') | Arg::Long("dir") => {
                given.dir = Some(parser.value().map_err(usage)?.into());
                continue;
            }
            Arg::Short('f') | Arg::Long("filename") => {
                given.name = Some(text(&mut parser)?);
                continue;
            }
            Arg::Short('s') | Arg::Long("sysctl") => {
                given.sysctls.push(parse_sysctl(&text(&mut parser)?)?);
                continue;
            }
            Arg::Long("uid-mapping") => {
                given.mappings[0] = Some(parse_mapping(&text(&mut parser)?)?);
                continue;
            }
            Arg::Long("gid-mapping") => {
                given.mappings[1] = Some(parse_mapping(&text(&mut parser)?)?);
                continue;
            }
            Arg::Long("at") => {
                given.files.push(parse_file(&text(&mut parser)?)?);
                continue;
            }
            Arg::Long("pid") => {
                let pid = text(&mut parser)?.parse().ok().filter(|pid| *pid > 0);
                given.pid = Some(pid.ok_or_else(|| usage("pid must be a positive number"))?);
                continue;
            }
            Arg::Long("loopback") => {
                given.loopback = true;
                continue;
            }
            // Accepted for pinns' callers; there is nothing to log.
            Arg::Short('l') | Arg::Long("log-level") => {
                text(&mut parser)?;
                continue;
            }
            other => return Err(usage(other.unexpected())),
        };
        // After a short one more may follow in the same word.
        let value = if short { None } else { parser.optional_value() };
        let source = match value {
            None => Source::New,
            Some(value) if value == "host" => Source::Own,
            Some(value) => return Err(usage(format!("namespace {}: not host", value.display()))),
        };
        given.kinds.push((kind, source));
    }
    given.plan()
}

/// What was given, before it is known what it amounts to.
#[derive(Debug, Default)]
struct Given {
    kinds: Vec<(Kind, Source)>,
    dir: Option<PathBuf>,
    name: Option<String>,
    files: Vec<(Kind, PathBuf)>,
    pid: Option<i32>,
    mappings: [Option<String>; 2],
    sysctls: Vec<(PathBuf, String)>,
    loopback: bool,
}

impl Given {
    fn plan(self) -> Result<Plan, Error> {
        let mut pins = Vec::new();
        if !self.kinds.is_empty() {
            let dir = self.dir.ok_or_else(|| usage("Path for pinning namespaces not specified"))?;
            let name = self.name.ok_or_else(|| usage("Filename for pinning namespaces not specified"))?;
            if Path::new(&name).components().collect::<Vec<_>>() != [Component::Normal(name.as_ref())] {
                return Err(usage(format!("filename {name}: not a plain name")));
            }
            pins.extend(self.kinds.iter().map(|(kind, source)| Pin {
                kind: *kind,
                path: dir.join(format!("{}ns", kind.file())).join(&name),
                source: *source,
            }));
        }
        let source = self.pid.map_or(Source::New, Source::Process);
        pins.extend(self.files.into_iter().map(|(kind, path)| Pin { kind, path, source }));
        if pins.is_empty() {
            return Err(usage("No namespace specified for pinning"));
        }
        for (place, pin) in pins.iter().enumerate() {
            if pins[..place].iter().any(|earlier| earlier.kind == pin.kind) {
                return Err(usage(format!("namespace {} is named twice", pin.kind.file())));
            }
        }
        let new_user = pins.iter().any(|pin| pin.kind == Kind::User && pin.source == Source::New);
        let mappings = match (new_user, self.mappings) {
            (true, [Some(uids), Some(gids)]) => Some([uids, gids]),
            (true, _) => return Err(usage("Creating new user namespace but mappings not specified")),
            (false, [None, None]) => None,
            (false, _) => return Err(usage("Mappings specified without creating a new user namespace")),
        };
        Ok(Plan { pins, mappings, sysctls: self.sysctls, loopback: self.loopback })
    }
}

fn text(parser: &mut Parser) -> Result<String, Error> {
    let value = parser.value().map_err(usage)?;
    value.into_string().map_err(|value| usage(format!("{}: not UTF-8", value.display())))
}

/// `net=/run/x`. The kinds that only a child enters can be kept, but not made.
fn parse_file(text: &str) -> Result<(Kind, PathBuf), Error> {
    let (kind, path) = text.split_once('=').ok_or_else(|| usage(format!("{text}: not KIND=PATH")))?;
    let kind = Kind::ALL.into_iter().find(|known| known.file() == kind);
    let kind = kind.ok_or_else(|| usage(format!("{text}: no such kind of namespace")))?;
    if path.is_empty() {
        return Err(usage(format!("{text}: no path")));
    }
    Ok((kind, path.into()))
}

/// `net.ipv4.ip_forward=1`. A slash stands for a dot in a name, as in sysctl(8).
fn parse_sysctl(text: &str) -> Result<(PathBuf, String), Error> {
    let bad = |why: &str| usage(format!("sysctl must be in the form of 'key=value'; {why} in {text}"));
    let (key, value) = text.split_once('=').ok_or_else(|| bad("'=' missing"))?;
    if key.is_empty() || value.is_empty() {
        return Err(bad("key or value empty"));
    }
    let swap = |letter| match letter {
        '.' if !key.contains('/') => '/',
        other => other,
    };
    let path: PathBuf = key.chars().map(swap).collect::<String>().into();
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(bad("key is no name"));
    }
    Ok((path, value.to_owned()))
}

/// `0-100000-65536@…` to the lines of uid_map.
fn parse_mapping(text: &str) -> Result<String, Error> {
    let mut lines = String::new();
    for entry in text.split('@').filter(|entry| !entry.is_empty()) {
        let numbers: Vec<u32> = entry.split('-').filter_map(|number| number.parse().ok()).collect();
        let [inside, outside, count] = numbers[..] else {
            return Err(usage(format!("mapping {entry}: not INSIDE-OUTSIDE-COUNT")));
        };
        lines += &format!("{inside} {outside} {count}\n");
    }
    if lines.is_empty() { Err(usage("mapping is empty")) } else { Ok(lines) }
}

fn usage(error: impl ToString) -> Error {
    Error::Usage(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &str) -> Result<Plan, String> {
        parse(args.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    fn pin(kind: Kind, path: &str, source: Source) -> Pin {
        Pin { kind, path: path.into(), source }
    }

    #[test]
    fn as_pinns() {
        let got = plan("-d /run/ns -f abc --net --ipc=host -u -s net.ipv4.ip_forward=1 -s kernel/shm.x=a=b")
            .unwrap();
        let pins = vec![
            pin(Kind::Net, "/run/ns/netns/abc", Source::New),
            pin(Kind::Ipc, "/run/ns/ipcns/abc", Source::Own),
            pin(Kind::Uts, "/run/ns/utsns/abc", Source::New),
        ];
        let sysctls = vec![("net/ipv4/ip_forward".into(), "1".into()), ("kernel/shm.x".into(), "a=b".into())];
        assert_eq!(got, Plan { pins, sysctls, ..Plan::default() });
        let mapped = plan("-d/r -f a -Un --uid-mapping=0-1000-10@10-5000-1@ --gid-mapping=0-7-1").unwrap();
        assert_eq!(mapped.mappings, Some(["0 1000 10\n10 5000 1\n".into(), "0 7 1\n".into()]));
    }

    #[test]
    fn by_file() {
        let got = plan("--at net=/a --at pid=/b --pid 7 --loopback").unwrap();
        let pins = vec![pin(Kind::Net, "/a", Source::Process(7)), pin(Kind::Pid, "/b", Source::Process(7))];
        assert_eq!(got, Plan { pins, loopback: true, ..Plan::default() });
    }

    #[test]
    fn what_is_refused() {
        let cases = [
            ("", "No namespace specified for pinning"),
            ("-d /r -f a", "No namespace specified for pinning"),
            ("-n -f a", "Path for pinning namespaces not specified"),
            ("-n -d /r", "Filename for pinning namespaces not specified"),
            ("-n -d /r -f ../a", "filename ../a: not a plain name"),
            ("-n -n -d /r -f a", "namespace net is named twice"),
            ("-U -d /r -f a", "Creating new user namespace but mappings not specified"),
            ("-n -d /r -f a --uid-mapping=0-0-1", "Mappings specified without creating a new user namespace"),
            ("--uid-mapping=0-0", "mapping 0-0: not INSIDE-OUTSIDE-COUNT"),
            ("--net=other", "namespace other: not host"),
            ("-s a", "sysctl must be in the form of 'key=value'; '=' missing in a"),
            ("-s =1", "sysctl must be in the form of 'key=value'; key or value empty in =1"),
            ("-s ../x=1", "sysctl must be in the form of 'key=value'; key is no name in ../x=1"),
            ("--at what=/x", "what=/x: no such kind of namespace"),
            ("--at net=", "net=: no path"),
            ("--at net=/x --pid 0", "pid must be a positive number"),
            ("--no-such", "invalid option '--no-such'"),
        ];
        for (args, text) in cases {
            assert_eq!(plan(args).unwrap_err(), text, "{args}");
        }
    }
}
