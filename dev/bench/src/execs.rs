//! A command in a running container.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use runtime::{Container, ExecRequest};
use testkit::Bundle;

use crate::Scale;
use crate::bare::{Bare, quiet};
use crate::life::{PAIRS, Podman, floor_program};
use crate::measure::{Contestant, Phases, in_turn, since};
use crate::monitored::Monitored;
use crate::ours::Ours;
use crate::report::Table;

const TEXT: &str = "A static no-op in a running container of the same kind, to its end, with its exit status. `floor` joins cgroups and \
                    namespaces and execs. `RT exec` is the runtime alone; `conmon -e` is the contract that engines use today; ours is \
                    the library's `exec_sync` with output captured.";

pub(crate) fn measure(scale: Scale) -> Result<Vec<Table>> {
    let podman = Podman::new("runc");
    let started = podman.start();
    let mut contestants = vec![Contestant::of("floor", floor())];
    for runtime in ["runc", "crun", "wharf-oci"] {
        contestants.push(Contestant::of(&format!("{runtime} exec"), bare(runtime)));
    }
    for (monitor, runtime) in [("conmon", "runc"), ("conmon", "crun"), ("wharf-monitor", "runc")] {
        let whose = if monitor == "conmon" { "" } else { "ours: " };
        contestants
            .push(Contestant::of(&format!("{whose}{monitor} -e + {runtime}"), contract(monitor, runtime)));
    }
    for (monitor, runtime) in PAIRS {
        contestants.push(Contestant::of(&format!("ours: {monitor} + {runtime}"), ours(monitor, runtime)));
    }
    let exec = started.map(|()| || podman.exec());
    contestants.push(Contestant::of("podman exec: conmon + runc", exec));
    let series = in_turn(scale.rounds, contestants);
    podman.stop();
    Ok(vec![Table::of_times("exec", "exec", TEXT, &series)])
}

/// Something with an end to be made when it is dropped: containers must not outlive a failed table.
struct Kept<T> {
    value: T,
    end: fn(&T) -> Result<()>,
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        if let Err(error) = (self.end)(&self.value) {
            eprintln!("bench: {error:#}");
        }
    }
}

/// A running container of a runtime alone.
fn running(runtime: &str, bundle: Bundle) -> Result<(Kept<(Bare, Bundle)>, i32)> {
    let bare = Bare::new(runtime)?;
    let end = |(bare, bundle): &(Bare, Bundle)| bare.call(&["delete", "--force", bundle.id()]);
    let init = bare.create(&bundle)?;
    let kept = Kept { value: (bare, bundle), end };
    kept.value.0.call(&["start", kept.value.1.id()])?;
    Ok((kept, init.pid()))
}

fn floor() -> Result<impl FnMut() -> Result<Phases>> {
    let program = floor_program()?;
    let (kept, pid) = running("runc", Bundle::sleeper("floor").in_cgroup())?;
    Ok(move || {
        let begin = Instant::now();
        let mut command = Command::new(&program);
        command.arg("exec").arg(pid.to_string()).arg(kept.value.1.cgroup()).args(["/bin/busybox", "true"]);
        quiet(command)?;
        Ok(vec![("exec", since(begin))])
    })
}

fn bare(runtime: &str) -> Result<impl FnMut() -> Result<Phases> + use<>> {
    let (kept, _) = running(runtime, Bundle::sleeper("exec").in_cgroup().seccomp())?;
    Ok(move || {
        let begin = Instant::now();
        let (bare, bundle) = &kept.value;
        bare.call(&["exec", bundle.id(), "true"])?;
        Ok(vec![("exec", since(begin))])
    })
}

fn contract(monitor: &str, runtime: &str) -> Result<impl FnMut() -> Result<Phases> + use<>> {
    let monitored = Monitored::new(monitor, runtime)?;
    let bundle = Bundle::sleeper("exec").in_cgroup().seccomp();
    let spec = monitored.process(&bundle, &["true"])?;
    let made = monitored.start(&bundle)?;
    let kept = Kept { value: (monitored, made, bundle), end: |(monitored, made, _)| monitored.remove(made) };
    Ok(move || kept.value.0.exec(&kept.value.1, &spec))
}

fn ours(monitor: &str, runtime: &str) -> Result<impl FnMut() -> Result<Phases> + use<>> {
    let ours = Ours::new(monitor, runtime)?;
    let bundle = Bundle::sleeper("exec").in_cgroup().seccomp();
    let container = ours.start(&bundle)?;
    let end = |(ours, container, _): &(Ours, Container, Bundle)| {
        ours.remove(container);
        Ok(())
    };
    let kept = Kept { value: (ours, container, bundle), end };
    Ok(move || {
        let (ours, container, _) = &kept.value;
        let begin = Instant::now();
        let output = ours.block_on(container.exec_sync(ExecRequest::new(["true"]))).context("exec")?;
        let time = since(begin);
        ensure!(output.exit == model::Exit::Code(0), "exec: {:?}", output.exit);
        Ok(vec![("exec", time)])
    })
}
