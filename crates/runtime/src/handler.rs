//! A handler: an OCI runtime with its monitor, checked, and asked at most once what it is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::OnceCell;

use crate::config::{CgroupManager, HandlerConfig, HandlerKind, RuntimeConfig};
use crate::process::{Program, args, check_program, said};
use crate::record::{HandlerRecord, MonitorRecord};
use crate::{Error, Result, blocking};

/// The most that a handler may say about itself, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// A handler that can be used.
#[derive(Debug)]
pub struct Handler {
    config: HandlerConfig,
    manager: CgroupManager,
    probe_timeout: Duration,
    version: OnceCell<Version>,
    features: OnceCell<Arc<Value>>,
}

/// A handler and whether it can be used.
#[derive(Debug, Clone)]
pub struct HandlerReport {
    /// Its name.
    pub name: String,
    /// Whether it is the default.
    pub default: bool,
    /// The handler, or why it can't be used.
    pub handler: Result<Arc<Handler>, String>,
}

/// What `--version` says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Version {
    /// The program's own name: "runc".
    pub program: String,
    /// Its version: "1.1.5+ds1".
    pub version: String,
    /// The runtime specification's version, if it says so.
    pub spec: Option<String>,
    /// All lines.
    pub text: String,
}

impl Handler {
    /// Checks a handler's configuration; the error says why it can't be used.
    pub(crate) fn check(config: &HandlerConfig, all: &RuntimeConfig) -> Result<Self, String> {
        if config.name.is_empty() || config.name.chars().any(char::is_control) {
            return Err(format!("{:?} is no name", config.name));
        }
        if config.kind == HandlerKind::Vm {
            return Err("type vm is not supported: it needs a containerd shim".to_owned());
        }
        if config.create_timeout < all.create_timeout_floor {
            return Err(format!(
                "create timeout {:?} is shorter than {:?}",
                config.create_timeout, all.create_timeout_floor
            ));
        }
        let mut config = config.clone();
        config.path = check_program(&config.path)?;
        config.monitor.path = check_program(&config.monitor.path).map_err(|why| format!("monitor {why}"))?;
        if let Some((name, _)) = config
            .monitor
            .env
            .iter()
            .find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'))
        {
            return Err(format!("monitor environment: {name:?} is no variable"));
        }
        Ok(Self {
            config,
            manager: all.cgroup_manager.decided(),
            probe_timeout: all.probe_timeout,
            version: OnceCell::new(),
            features: OnceCell::new(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its program.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.config.path
    }

    /// Its configuration, with paths resolved.
    #[must_use]
    pub fn config(&self) -> &HandlerConfig {
        &self.config
    }

    /// Who makes its cgroups: never `Auto`.
    #[must_use]
    pub fn cgroup_manager(&self) -> CgroupManager {
        self.manager
    }

    /// What `--version` says; asked once, an error is not kept.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Invalid`] for an answer that is none, [`Error::Runtime`] for a failure.
    pub async fn version(&self) -> Result<Version> {
        let ask = || async {
            let answer = self.ask("ask version of handler", "--version").await?;
            parse_version(&answer).ok_or_else(|| {
                let shown: String = said(&answer).chars().take(80).collect();
                Error::invalid("ask version of handler", self.name(), format!("answers {shown:?}"))
            })
        };
        self.version.get_or_try_init(ask).await.cloned()
    }

    /// What `features` says: the document of the runtime specification (features.md). Asked once.
    ///
    /// # Errors
    /// As [`Self::version`]; [`Error::Unsupported`] when the runtime has no such command.
    pub async fn features(&self) -> Result<Arc<Value>> {
        let ask = || async {
            let op = "ask features of handler";
            let answer = self.ask(op, "features").await.map_err(|error| match error {
                Error::Runtime { object, message, .. } => Error::unsupported(op, object, message),
                other => other,
            })?;
            parse_features(&answer).map(Arc::new).map_err(|cause| Error::invalid(op, self.name(), cause))
        };
        self.features.get_or_try_init(ask).await.cloned()
    }

    async fn ask(&self, op: &'static str, question: &'static str) -> Result<Vec<u8>> {
        let (name, path, timeout) = (self.name().to_owned(), self.path().to_owned(), self.probe_timeout);
        blocking::long(move || {
            let program = Program {
                op,
                object: &name,
                path: &path,
                args: args([question]),
                stdin: &[],
                timeout,
                stdout_max: ANSWER_MAX,
            };
            let ran = program.run()?;
            if !ran.status.success() {
                return Err(Error::runtime(op, &name, format!("{}: {}", ran.status, said(&ran.stderr))));
            }
            Ok(ran.stdout)
        })
        .await
    }

    /// What a container's record keeps of it.
    pub(crate) fn record(&self) -> HandlerRecord {
        HandlerRecord {
            name: self.config.name.clone(),
            path: self.config.path.clone(),
            root: self.config.root.clone(),
            args: self.config.args.clone(),
            systemd: self.manager == CgroupManager::Systemd,
        }
    }

    pub(crate) fn monitor_record(&self) -> MonitorRecord {
        let monitor = &self.config.monitor;
        MonitorRecord { path: monitor.path.clone(), env: monitor.env.clone(), process: None, cgroup: None }
    }
}

/// `NAME version X.Y.Z…` in the first line, as runc, crun and conmon have it.
pub(crate) fn parse_version(answer: &[u8]) -> Option<Version> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut words = text.lines().next()?.split_whitespace();
    let program = words.next()?;
    let version = words.next_back()?;
    if !version.starts_with(|c: char| c.is_ascii_digit()) || version.chars().any(char::is_control) {
        return None;
    }
    let spec = text.lines().find_map(|line| line.strip_prefix("spec:")).map(|spec| spec.trim().to_owned());
    Some(Version {
        program: program.to_owned(),
        version: version.to_owned(),
        spec,
        text: text.trim_end().to_owned(),
    })
}

/// A document of features.md.
pub(crate) fn parse_features(answer: &[u8]) -> std::result::Result<Value, String> {
    match serde_json::from_slice::<Value>(answer) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err("answers no JSON object".to_owned()),
        Err(error) => Err(format!("answers no JSON: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_known_runtimes_and_odd_answers() {
        let version = |text: &str| parse_version(text.as_bytes());
        let runc = version("runc version 1.1.5+ds1\ncommit: x\nspec: 1.0.2-dev\n").unwrap();
        assert_eq!((runc.program.as_str(), runc.version.as_str()), ("runc", "1.1.5+ds1"));
        assert_eq!(runc.spec.as_deref(), Some("1.0.2-dev"));
        let crun = version("crun version 1.8.1\ncommit: f8a\nrundir: /run/crun\nspec: 1.0.0").unwrap();
        assert_eq!(crun.version, "1.8.1");
        for odd in ["", "\n", "runc", "what?", "no newline at all", "\n\nrunc version 1.0", "a version x1"] {
            assert_eq!(version(odd), None, "{odd:?}");
        }
        assert_eq!(parse_version(b"\xff\xfe version 1.0"), None);
    }
}
