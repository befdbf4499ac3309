//! The device policy: ordered rules → one state, as cgroup v1's kernel side would hold it.
//!
//! The state is a default and the exceptions from it. v1 gets the steps from the state that `devices.list` shows to
//! the wanted one, so that an update never takes away for a moment what a running container may use. v2 gets a
//! program made of the same state.

use std::collections::BTreeMap;
use std::fmt;

use model::oci::LinuxDeviceCgroup;

use super::{Error, impossible};

/// Which devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Devices {
    /// Block or character.
    pub kind: Kind,
    /// Major number, or every one.
    pub major: Option<u32>,
    /// Minor number, or every one.
    pub minor: Option<u32>,
}

/// Kind of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Block.
    Block,
    /// Character.
    Char,
}

/// A set of `r`, `w` and `m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access(u8);

impl Access {
    /// Making a node: bits as in `BPF_DEVCG_ACC_…`.
    const MAKE: u8 = 1;
    const READ: u8 = 2;
    const WRITE: u8 = 4;

    /// The bits, as BPF has them.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        text.chars().try_fold(Self(0), |access, letter| {
            let bit = match letter {
                'm' => Self::MAKE,
                'r' => Self::READ,
                'w' => Self::WRITE,
                _ => return None,
            };
            Some(Self(access.0 | bit))
        })
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// A line for `devices.allow` or `devices.deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Into which of the two.
    pub allow: bool,
    /// Which devices; nothing is all of them.
    pub devices: Option<Devices>,
    /// What may be done.
    pub access: Access,
}

/// A default and the exceptions from it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DevicePolicy {
    /// Whether what no exception matches is allowed.
    pub default_allow: bool,
    /// What is the other way round.
    pub exceptions: BTreeMap<Devices, Access>,
}

/// What every container may use, after its own rules: nodes may be made, and /dev's usual ones used.
const ALLOWED: [(Kind, Option<u32>, Option<u32>, &str); 11] = [
    (Kind::Char, None, None, "m"),
    (Kind::Block, None, None, "m"),
    (Kind::Char, Some(1), Some(3), "rwm"),    // null
    (Kind::Char, Some(1), Some(8), "rwm"),    // random
    (Kind::Char, Some(1), Some(7), "rwm"),    // full
    (Kind::Char, Some(5), Some(0), "rwm"),    // tty
    (Kind::Char, Some(1), Some(5), "rwm"),    // zero
    (Kind::Char, Some(1), Some(9), "rwm"),    // urandom
    (Kind::Char, Some(136), None, "rwm"),     // pts/*
    (Kind::Char, Some(5), Some(2), "rwm"),    // ptmx
    (Kind::Char, Some(10), Some(200), "rwm"), // net/tun
];

impl DevicePolicy {
    /// The policy of `rules`, and of what every container may use. Nothing else is allowed.
    ///
    /// # Errors
    /// A rule that means nothing, or one that forbids a part of what a wildcard allows: v1's kernel ignores it.
    pub fn of(rules: &[LinuxDeviceCgroup]) -> Result<Self, Error> {
        let mut policy = Self::default();
        for (index, rule) in rules.iter().enumerate() {
            let field = format!("linux.resources.devices[{index}]");
            policy.apply(parse(&field, rule)?).map_err(|cause| impossible(field, cause))?;
        }
        for (kind, major, minor, access) in ALLOWED {
            let (devices, access) =
                (Devices { kind, major, minor }, Access::parse(access).unwrap_or_default());
            policy
                .apply(Rule { allow: true, devices: Some(devices), access })
                .map_err(|cause| impossible("linux.resources.devices", cause))?;
        }
        Ok(policy)
    }

    /// The policy that a `devices.list` shows. Of one that allows by default, v1 does not show the exceptions.
    #[must_use]
    pub fn from_list(text: &str) -> Self {
        let mut policy = Self::default();
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let (Some(kind), Some(numbers), Some(access)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let kind = match kind {
                "a" => {
                    policy = Self { default_allow: true, exceptions: BTreeMap::new() };
                    continue;
                }
                "b" => Kind::Block,
                _ => Kind::Char,
            };
            let Some((major, minor)) = numbers.split_once(':') else { continue };
            let (major, minor) = (major.parse().ok(), minor.parse().ok());
            let access = Access::parse(access).unwrap_or_default();
            policy.exceptions.insert(Devices { kind, major, minor }, access);
        }
        policy
    }

    /// The lines that make this policy from `now`.
    #[must_use]
    pub fn steps_from(&self, now: &Self) -> Vec<Rule> {
        let mut steps = Vec::new();
        let empty = BTreeMap::new();
        let mut old = &now.exceptions;
        if now.default_allow || now.default_allow != self.default_allow {
            // What is denied now can't be read, or counts for nothing: begin anew.
            let access = Access(Access::MAKE | Access::READ | Access::WRITE);
            steps.push(Rule { allow: self.default_allow, devices: None, access });
            old = &empty;
        }
        let change = |from: &BTreeMap<Devices, Access>, to: &BTreeMap<Devices, Access>, allow: bool| {
            let changed = from.iter().map(move |(devices, access)| {
                let access = access.without(to.get(devices).copied().unwrap_or_default());
                Rule { allow, devices: Some(*devices), access }
            });
            changed.filter(|rule| rule.access != Access::default()).collect::<Vec<_>>()
        };
        steps.extend(change(old, &self.exceptions, self.default_allow));
        steps.extend(change(&self.exceptions, old, !self.default_allow));
        steps
    }

    fn apply(&mut self, rule: Rule) -> Result<(), String> {
        let Some(devices) = rule.devices else {
            *self = Self { default_allow: rule.allow, exceptions: BTreeMap::new() };
            return Ok(());
        };
        if rule.allow != self.default_allow {
            self.exceptions.entry(devices).or_default().0 |= rule.access.0;
            return Ok(());
        }
        let wider = [(None, devices.minor), (devices.major, None), (None, None)];
        for (major, minor) in wider {
            let wider = Devices { major, minor, ..devices };
            let overlap = self.exceptions.get(&wider).is_some_and(|access| access.0 & rule.access.0 != 0);
            if wider != devices && overlap {
                return Err(format!("{rule} takes a part out of the earlier rule for {wider}"));
            }
        }
        if let Some(access) = self.exceptions.get_mut(&devices) {
            *access = access.without(rule.access);
            if *access == Access::default() {
                self.exceptions.remove(&devices);
            }
        }
        Ok(())
    }
}

fn parse(field: &str, rule: &LinuxDeviceCgroup) -> Result<Rule, Error> {
    let invalid = |cause: String| Err(impossible(field, cause));
    let access = match rule.access.as_deref() {
        None | Some("") => return invalid("access is missing".to_owned()),
        Some(text) => match Access::parse(text) {
            Some(access) => access,
            None => return invalid(format!("unknown access {text:?}")),
        },
    };
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => None,
        Some("b") => Some(Kind::Block),
        Some("c" | "u") => Some(Kind::Char),
        Some(other) => return invalid(format!("unknown type {other:?}")),
    };
    let number = |value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => {
            u32::try_from(value).map(Some).map_err(|_| format!("no device has the number {value}"))
        }
    };
    let numbers = number(rule.major).and_then(|major| Ok((major, number(rule.minor)?)));
    match numbers {
        Ok((major, minor)) => {
            Ok(Rule { allow: rule.allow, devices: kind.map(|kind| Devices { kind, major, minor }), access })
        }
        Err(cause) => invalid(cause),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.devices {
            Some(devices) => write!(f, "{devices} {}", self.access),
            None => write!(f, "a *:* {}", self.access),
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |value: Option<u32>| value.map_or_else(|| "*".to_owned(), |value| value.to_string());
        let kind = match self.kind {
            Kind::Block => 'b',
            Kind::Char => 'c',
        };
        write!(f, "{kind} {}:{}", number(self.major), number(self.minor))
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MAKE, "m")] {
            if self.0 & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> LinuxDeviceCgroup {
        LinuxDeviceCgroup {
            allow,
            kind: Some(kind.to_owned()),
            major: Some(major),
            minor: Some(minor),
            access: Some(access.to_owned()),
        }
    }

    fn lines(steps: &[Rule]) -> Vec<String> {
        steps.iter().map(|step| format!("{}{step}", if step.allow { '+' } else { '-' })).collect()
    }

    #[test]
    fn a_new_containers_policy() {
        let rules = [rule(false, "a", -1, -1, "rwm"), rule(true, "b", 8, 0, "r"), rule(true, "c", 1, 3, "r")];
        let policy = DevicePolicy::of(&rules).unwrap();
        let steps = lines(&policy.steps_from(&DevicePolicy::from_list("a *:* rwm\n")));
        assert_eq!(steps[..3], ["-a *:* rwm", "+b *:* m", "+b 8:0 r"]);
        assert!(steps.contains(&"+c 1:3 rwm".to_owned()) && steps.contains(&"+c 136:* rwm".to_owned()));
        // What is there already needs no step.
        let list: String =
            policy.exceptions.iter().map(|(devices, access)| format!("{devices} {access}\n")).collect();
        assert_eq!(policy.steps_from(&DevicePolicy::from_list(&list)), []);
    }

    #[test]
    fn steps_change_only_what_differs() {
        let now = DevicePolicy::from_list("c 1:3 rwm\nb 8:0 rw\nc 10:229 rw\n");
        let wanted = DevicePolicy::from_list("c 1:3 rwm\nb 8:0 rm\nc 7:7 r\n");
        assert_eq!(lines(&wanted.steps_from(&now)), ["-b 8:0 w", "-c 10:229 rw", "+b 8:0 m", "+c 7:7 r"]);
    }

    #[test]
    fn all_but_some() {
        let rules = [rule(true, "a", -1, -1, "rwm"), rule(false, "b", 8, -1, "w")];
        let policy = DevicePolicy::of(&rules).unwrap();
        let steps = lines(&policy.steps_from(&DevicePolicy::from_list("c 1:3 rwm\n")));
        assert_eq!(steps, ["+a *:* rwm", "-b 8:* w"]);
        assert_eq!(lines(&policy.steps_from(&policy)), ["+a *:* rwm", "-b 8:* w"]);
    }

    #[test]
    fn rules_that_mean_nothing() {
        let hole = [rule(true, "c", 1, -1, "rw"), rule(false, "c", 1, 11, "w")];
        let missing = LinuxDeviceCgroup { access: None, ..rule(true, "c", 1, 3, "") };
        let cases = [
            (&hole[..], "takes a part out of the earlier rule for c 1:*"),
            (&[rule(true, "p", 1, 3, "r")][..], "unknown type \"p\""),
            (&[rule(true, "c", 1, 3, "rx")][..], "unknown access \"rx\""),
            (&[rule(true, "c", 1, 3, "")][..], "access is missing"),
            (&[missing][..], "access is missing"),
            (&[rule(true, "c", -2, 3, "r")][..], "no device has the number -2"),
        ];
        for (rules, expected) in cases {
            let error = DevicePolicy::of(rules).unwrap_err().to_string();
            assert!(error.starts_with("linux.resources.devices[") && error.contains(expected), "{error}");
        }
    }
}
