//! From the flags of `run` and `create` to a create request.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use model::oci::LinuxResources;
use model::spec::{ContainerSpec, Host, Mount, Network};
use model::{Id, Name};
use runtime::{CreateRequest, Io, Stdin};

use crate::args::{ContainerArgs, LimitArgs, NetArg};
use crate::{terminal, users};

/// The annotation that keeps a container's stop signal, as podman and CRI-O name it.
pub(crate) const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";
const CPU_PERIOD_US: u64 = 100_000;

/// Works out what the flags mean.
pub(crate) fn prepare(args: &ContainerArgs) -> anyhow::Result<CreateRequest> {
    let id = match &args.id {
        Some(id) => Id::new(id.as_str())?,
        None => random_id()?,
    };
    let mut request = match (&args.bundle, &args.rootfs) {
        (Some(bundle), _) => CreateRequest::new(id, std::path::absolute(bundle).context("bundle")?),
        (None, Some(rootfs)) => CreateRequest::from_config(id, spec(args, rootfs)?),
        (None, None) => bail!("neither a bundle nor a root file system was given"),
    };
    request.name = args.name.as_deref().map(Name::new).transpose()?;
    request.handler.clone_from(&args.handler);
    request.io = if args.tty {
        Io::Terminal { size: terminal::size() }
    } else if args.interactive {
        Io::Pipes { stdin: Stdin::Once }
    } else {
        Io::Pipes { stdin: Stdin::None }
    };
    request.log = match &args.log {
        Some(log) if log.as_os_str() == "none" => None,
        Some(log) => Some(std::path::absolute(log).context("log")?),
        None => Some("container.log".into()),
    };
    request.log_size_max = args.log_size_max;
    request.cgroup_parent.clone_from(&args.cgroup_parent);
    request.labels = labels(&args.label)?;
    if let Some(signal) = args.stop_signal {
        request.annotations.insert(STOP_SIGNAL.to_owned(), signal.to_string());
    }
    request.deadline = args.timeout;
    Ok(request)
}

fn spec(args: &ContainerArgs, rootfs: &Path) -> anyhow::Result<serde_json::Value> {
    let rootfs =
        std::fs::canonicalize(rootfs).with_context(|| format!("root file system {}", rootfs.display()))?;
    if !rootfs.is_dir() {
        bail!("root file system {}: not a directory", rootfs.display());
    }
    let process = &args.process;
    let user = process.user.as_deref().map(|text| users::look_up(&rootfs, text)).transpose()?;
    let mut mounts = process.mount.iter().map(|m| m.parse()).collect::<Result<Vec<Mount>, _>>()?;
    for volume in &process.volume {
        mounts.push(Mount::from_volume(volume)?);
    }
    let spec = ContainerSpec {
        rootfs,
        args: args.args.clone(),
        env: variables(&process.env),
        workdir: process.workdir.clone(),
        user: user.unwrap_or_default(),
        hostname: process.hostname.clone(),
        terminal: args.tty,
        read_only: process.read_only,
        network: match process.net {
            NetArg::Host => Network::Host,
            NetArg::None => Network::None,
        },
        cap_add: process.cap_add.clone(),
        cap_drop: process.cap_drop.clone(),
        privileged: process.privileged,
        seccomp_unconfined: process.no_seccomp,
        mounts,
        resources: resources(&args.limits)?,
        ..ContainerSpec::default()
    };
    let cgroup_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    Ok(spec.to_config(Host { cgroup_v2 })?)
}

/// The limits as the OCI runtime specification has them.
pub(crate) fn resources(limits: &LimitArgs) -> anyhow::Result<LinuxResources> {
    let mut value = serde_json::json!({});
    if let Some(memory) = limits.memory {
        value["memory"]["limit"] = memory.into();
    }
    if let Some(swap) = limits.memory_swap {
        value["memory"]["swap"] = swap.into();
    }
    if let Some(cpus) = limits.cpus {
        if !(cpus.is_finite() && (0.01..=65_536.0).contains(&cpus)) {
            bail!("--cpus {cpus}: from 0.01 to 65536");
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "in range by the check above"
        )]
        let quota = (cpus * CPU_PERIOD_US as f64).round() as i64;
        value["cpu"]["quota"] = quota.into();
        value["cpu"]["period"] = CPU_PERIOD_US.into();
    }
    if let Some(shares) = limits.cpu_shares {
        value["cpu"]["shares"] = shares.into();
    }
    if let Some(cpus) = &limits.cpuset_cpus {
        value["cpu"]["cpus"] = cpus.as_str().into();
    }
    if let Some(pids) = limits.pids_limit {
        value["pids"]["limit"] = pids.into();
    }
    Ok(serde_json::from_value(value)?)
}

/// `NAME=value` as it is, `NAME` with our own value, or left out where we have none.
pub(crate) fn variables(given: &[String]) -> Vec<String> {
    let full = |text: &String| match text.contains('=') {
        true => Some(text.clone()),
        false => std::env::var(text).ok().map(|value| format!("{text}={value}")),
    };
    given.iter().filter_map(full).collect()
}

fn labels(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            bail!("label {text:?}: it has no name");
        }
        Ok((name.to_owned(), value.to_owned()))
    };
    given.iter().map(pair).collect()
}

fn random_id() -> anyhow::Result<Id> {
    use std::fmt::Write as _;
    let mut bytes = [0; 32];
    let n =
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).context("random id")?;
    let mut text = String::with_capacity(2 * n);
    for byte in &bytes[..n] {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
    }
    Ok(Id::new(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_resources() {
        let limits = LimitArgs {
            memory: Some(64 << 20),
            cpus: Some(0.5),
            pids_limit: Some(-1),
            ..LimitArgs::default()
        };
        let value = serde_json::to_value(resources(&limits).unwrap()).unwrap();
        assert_eq!(value["memory"]["limit"], 64 << 20);
        assert_eq!((&value["cpu"]["quota"], &value["cpu"]["period"]), (&50_000.into(), &100_000.into()));
        assert_eq!(value["pids"]["limit"], -1);
        for cpus in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(resources(&LimitArgs { cpus: Some(cpus), ..LimitArgs::default() }).is_err(), "{cpus}");
        }
    }

    #[test]
    fn ids_are_64_hex_digits_and_differ() {
        let (one, two) = (random_id().unwrap(), random_id().unwrap());
        assert_eq!(one.as_str().len(), 64);
        assert_ne!(one, two);
        assert!(one.as_str().bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
