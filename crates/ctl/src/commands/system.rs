//! handlers, check, recover, completions, man.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use serde_json::json;

use super::{print, print_json};
use crate::args::{Cli, Global, HandlersArgs, JsonArg};
use crate::setup;
use crate::table::table;

pub(super) async fn handlers(global: &Global, args: &HandlersArgs) -> anyhow::Result<ExitCode> {
    let runtimes = setup::runtimes(global)?;
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for report in runtimes.handlers() {
        let mut value = json!({"name": report.name, "default": report.default});
        let (program, version, trouble) = match &report.handler {
            Err(trouble) => (String::new(), String::new(), trouble.clone()),
            Ok(handler) => {
                let monitor = &handler.config().monitor.path;
                value["path"] = json!(handler.path());
                value["monitor"] = json!(monitor);
                value["cgroup_manager"] = json!(handler.cgroup_manager().as_str());
                if args.features {
                    match handler.features().await {
                        Ok(features) => value["features"] = (*features).clone(),
                        Err(error) => value["features_error"] = json!(error.to_string()),
                    }
                }
                let program = format!("{} below {}", handler.path().display(), monitor.display());
                match handler.version().await {
                    Ok(version) => {
                        value["version"] = json!(version);
                        (program, format!("{} {}", version.program, version.version), String::new())
                    }
                    Err(error) => (program, String::new(), error.to_string()),
                }
            }
        };
        if !trouble.is_empty() {
            value["trouble"] = json!(trouble);
        }
        let name = if report.default { format!("{} (default)", report.name) } else { report.name };
        rows.push(vec![name, program, version, trouble]);
        values.push(value);
    }
    if args.json || args.features {
        print_json(&values)?;
    } else {
        print(table(&["HANDLER", "PROGRAM", "VERSION", "TROUBLE"], &rows).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

const HANDLER: &str = "handler";
const DEFAULT_HANDLER: &str = "default handler";
/// The first with mount_setattr(2), which `wharf-oci` needs.
const OLDEST_KERNEL: (u32, u32) = (5, 12);

/// One thing that containers need.
struct Finding {
    what: &'static str,
    good: bool,
    tells: String,
}

pub(super) async fn check(global: &Global, args: &JsonArg) -> anyhow::Result<ExitCode> {
    let mut findings = vec![root_user(), kernel(), cgroups()];
    match setup::runtimes(global) {
        Err(error) => findings.push(Finding { what: "handlers", good: false, tells: format!("{error:#}") }),
        Ok(runtimes) => {
            findings.push(Finding {
                what: "state root",
                good: true,
                tells: setup::config(global)?.root.display().to_string(),
            });
            for report in runtimes.handlers() {
                let (good, tells) = match &report.handler {
                    Err(trouble) => (false, format!("{}: {trouble}", report.name)),
                    Ok(handler) => match handler.version().await {
                        Ok(version) => {
                            (true, format!("{}: {} {}", report.name, version.program, version.version))
                        }
                        Err(error) => (false, error.to_string()),
                    },
                };
                let what = if report.default { DEFAULT_HANDLER } else { HANDLER };
                findings.push(Finding { what, good, tells });
            }
        }
    }
    // A handler that nobody asks for may be missing.
    let good = findings.iter().filter(|f| f.what != HANDLER).all(|f| f.good);
    if args.json {
        let value = |f: &Finding| json!({"what": f.what, "good": f.good, "tells": f.tells});
        print_json(&json!({"good": good, "findings": findings.iter().map(value).collect::<Vec<_>>()}))?;
    } else {
        let row = |f: &Finding| {
            vec![if f.good { "ok" } else { "TROUBLE" }.to_owned(), f.what.to_owned(), f.tells.clone()]
        };
        let rows: Vec<_> = findings.iter().map(row).collect();
        print(table(&["", "WHAT", ""], &rows).trim_end())?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn root_user() -> Finding {
    let uid = rustix::process::geteuid();
    let tells =
        if uid.is_root() { "root".to_owned() } else { format!("uid {}: containers need root", uid.as_raw()) };
    Finding { what: "user", good: uid.is_root(), tells }
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let good = version(&release).is_none_or(|version| version >= OLDEST_KERNEL);
    let (major, minor) = OLDEST_KERNEL;
    let tells = if good { release } else { format!("{release}: wharf-oci needs {major}.{minor} or later") };
    Finding { what: "kernel", good, tells }
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn cgroups() -> Finding {
    let base = Path::new("/sys/fs/cgroup");
    let (good, tells) = if base.join("cgroup.controllers").exists() {
        (true, "v2".to_owned())
    } else if base.join("memory").is_dir() && base.join("freezer").is_dir() {
        (true, "v1".to_owned())
    } else {
        (false, "no memory and freezer hierarchy below /sys/fs/cgroup".to_owned())
    };
    Finding { what: "cgroups", good, tells }
}

pub(super) async fn recover(global: &Global, args: &JsonArg) -> anyhow::Result<ExitCode> {
    let recovered = setup::runtimes(global)?.recover().await?;
    let failed: Vec<String> =
        recovered.failed.iter().map(|(what, error)| format!("{what}: {error}")).collect();
    if args.json {
        print_json(&json!({
            "undone": recovered.undone, "exited": recovered.exited, "deleted": recovered.deleted,
            "stopping": recovered.stopping, "failed": failed,
        }))?;
    } else {
        for (what, ids) in [
            ("undone", &recovered.undone),
            ("exited", &recovered.exited),
            ("deleted", &recovered.deleted),
            ("stopping", &recovered.stopping),
        ] {
            for id in ids {
                print(format_args!("{what:9} {id}"))?;
            }
        }
        for line in &failed {
            print(format_args!("{:9} {line}", "failed"))?;
        }
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    clap_complete::generate(shell, &mut Cli::command(), "wharf", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(directory: &Path) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    clap_mangen::generate_to(Cli::command(), directory)
        .with_context(|| format!("write man pages into {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_kernels() {
        assert_eq!(version("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version("5.10.0-28-amd64"), Some((5, 10)));
        assert_eq!(version("7.0"), Some((7, 0)));
        assert_eq!(version("strange"), None);
        assert!(kernel().good, "the tests run containers here");
    }
}
