//! Mounts: the standard ones, and those of `--mount` and `--volume`.

use std::str::FromStr;

use serde_json::{Value, json};

use super::SpecError;

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// Where, absolute, in the container.
    pub target: String,
    /// `bind`, `tmpfs`, `proc`, …
    pub kind: String,
    /// The host's path for a bind, else a word.
    pub source: String,
    /// Options of mount(8).
    pub options: Vec<String>,
}

impl Mount {
    fn new(target: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        Self {
            target: target.to_owned(),
            kind: kind.to_owned(),
            source: source.to_owned(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
        }
    }

    /// The entry in config.json.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"destination": self.target, "type": self.kind, "source": self.source, "options": self.options})
    }

    /// Parses `SOURCE:TARGET[:OPTIONS]` of `--volume`.
    ///
    /// # Errors
    /// [`SpecError`] when it is something else or a path is relative.
    pub fn from_volume(text: &str) -> Result<Self, SpecError> {
        let mut parts = text.splitn(3, ':');
        let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let mut mount = Self::new(target, "bind", source, &["rbind", "rprivate"]);
        mount.options.extend(parts.next().into_iter().flat_map(|o| o.split(',')).map(str::to_owned));
        mount.check(text)
    }

    fn check(self, text: &str) -> Result<Self, SpecError> {
        if !self.target.starts_with('/') || self.target.split('/').any(|part| part == "..") {
            return Err(SpecError::new("mount", text, "the target is not an absolute path"));
        }
        if self.target.split('/').all(|part| part.is_empty() || part == ".") {
            return Err(SpecError::new("mount", text, "the target is the root itself"));
        }
        if self.kind == "bind" && !self.source.starts_with('/') {
            return Err(SpecError::new("mount", text, "the source is not an absolute path"));
        }
        if self.target.contains('\0') || self.source.contains('\0') {
            return Err(SpecError::new("mount", text, "it has a NUL byte"));
        }
        Ok(self)
    }
}

impl FromStr for Mount {
    type Err = SpecError;

    /// Parses `type=bind,source=/a,target=/b,ro` and `type=tmpfs,target=/t,size=64m,mode=1777`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut mount = Self::new("", "bind", "", &[]);
        let mut propagation = "rprivate";
        for part in text.split(',') {
            let (key, value) = part.split_once('=').map_or((part, None), |(k, v)| (k, Some(v)));
            let given = || value.filter(|v| !v.is_empty()).map(str::to_owned);
            let needed =
                || given().ok_or_else(|| SpecError::new("mount", text, format!("{key} has no value")));
            let yes = match value {
                None | Some("true" | "1") => true,
                Some(_) => false,
            };
            match key {
                "type" => mount.kind = needed()?,
                "source" | "src" => mount.source = needed()?,
                "target" | "destination" | "dst" => mount.target = needed()?,
                "ro" | "readonly" => mount.options.push(if yes { "ro" } else { "rw" }.to_owned()),
                "rw" => mount.options.push(if yes { "rw" } else { "ro" }.to_owned()),
                "nosuid" | "nodev" | "noexec" | "suid" | "dev" | "exec" => mount.options.push(key.to_owned()),
                "bind-propagation" | "propagation" => {
                    let known = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
                    let found = known.into_iter().find(|k| value == Some(k));
                    propagation =
                        found.ok_or_else(|| SpecError::new("mount", text, "no such propagation"))?;
                }
                "size" | "tmpfs-size" => {
                    let bytes = crate::quantity::parse_size(&needed()?)
                        .map_err(|e| SpecError::new("mount", text, e.to_string()))?;
                    mount.options.push(format!("size={bytes}"));
                }
                "mode" | "tmpfs-mode" => mount.options.push(format!("mode={}", needed()?)),
                _ => return Err(SpecError::new("mount", text, format!("unknown option {key:?}"))),
            }
        }
        match mount.kind.as_str() {
            "bind" => mount.options.splice(0..0, ["rbind".to_owned(), propagation.to_owned()]).for_each(drop),
            "tmpfs" => {
                mount.source = "tmpfs".to_owned();
                mount.options.splice(0..0, ["nosuid".to_owned(), "nodev".to_owned()]).for_each(drop);
            }
            _ => return Err(SpecError::new("mount", text, "the type is bind or tmpfs")),
        }
        mount.check(text)
    }
}

/// What every container has.
pub(super) fn standard(writable: &str) -> Vec<Mount> {
    vec![
        Mount::new("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        Mount::new("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        Mount::new(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        Mount::new("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        Mount::new("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        Mount::new("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", writable]),
        Mount::new(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", writable],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_the_command_line() {
        let parse = |text: &str| {
            text.parse::<Mount>()
                .map(|m| format!("{} {} {} {}", m.kind, m.source, m.target, m.options.join(",")))
        };
        let good = [
            ("type=bind,source=/a,target=/b,ro", "bind /a /b rbind,rprivate,ro"),
            ("src=/a,dst=/b,bind-propagation=rshared", "bind /a /b rbind,rshared"),
            (
                "type=tmpfs,target=/t,size=64m,mode=1777,noexec",
                "tmpfs tmpfs /t nosuid,nodev,size=67108864,mode=1777,noexec",
            ),
            ("type=bind,source=/a,target=/b,ro=false", "bind /a /b rbind,rprivate,rw"),
        ];
        for (text, expected) in good {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in [
            "",
            "type=bind",
            "type=bind,source=a,target=/b",
            "type=bind,source=/a,target=b",
            "type=proc,target=/p",
            "type=bind,source=/a,target=/../b",
            "type=bind,source=/a,target=/",
            "type=bind,source=,target=/b",
            "type=bind,source=/a,target=/b,frob",
            "type=tmpfs,target=/t,size=x",
            "type=bind,source=/a,target=//.",
            "source=/a,target=/b,bind-propagation=loud",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn volumes() {
        let mount = Mount::from_volume("/a:/b:ro,noexec").unwrap();
        assert_eq!((mount.source.as_str(), mount.target.as_str()), ("/a", "/b"));
        assert_eq!(mount.options, ["rbind", "rprivate", "ro", "noexec"]);
        for bad in ["", "/a", "a:/b", "/a:b", "/a:/"] {
            assert!(Mount::from_volume(bad).is_err(), "{bad:?}");
        }
    }
}
