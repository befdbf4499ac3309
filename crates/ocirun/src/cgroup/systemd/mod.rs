//! systemd as the maker of cgroups: a transient scope for each container (org.freedesktop.systemd1(5)).
//!
//! A client of our own, since what there is brings an async runtime along: six calls, one signal.
//!
//! ```text
//! root:  /run/systemd/private (no bus between), else the system bus
//! user:  $DBUS_SESSION_BUS_ADDRESS, else $XDG_RUNTIME_DIR/bus
//! StartTransientUnit ─▶ job ─▶ wait for JobRemoved(job, result) ─▶ result is "done"
//! ```

mod bus;
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_v1;
mod unified;
mod wire;

use std::time::{Duration, Instant};

use model::oci::LinuxResources;

use self::bus::Bus;
pub(crate) use self::bus::look_at as look_at_message;
pub use self::properties::Property;
pub(crate) use self::properties::{ignored as ignored_annotations, limits as limits_of};
pub use self::wire::Value;
use super::{Request, Unit};

/// How long systemd may take for a job. It is busy at boot; a container should not fail for that.
const PATIENCE: Duration = Duration::from_secs(30);

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// What systemd, or the way to it, said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection.
    #[error("{op} systemd at {address}: {cause}")]
    Bus {
        /// What was tried.
        op: &'static str,
        /// Where.
        address: String,
        /// Why not.
        cause: String,
    },
    /// An answer that is an error.
    #[error("{call} {unit}: {name}: {message}")]
    Call {
        /// The method.
        call: &'static str,
        /// The unit.
        unit: String,
        /// The error's name.
        name: String,
        /// Its text.
        message: String,
    },
    /// A job that did not end well.
    #[error("{call} {unit}: the job ended as {result}")]
    Job {
        /// The method that began it.
        call: &'static str,
        /// The unit.
        unit: String,
        /// systemd's word: `failed`, `canceled`, `timeout`, …
        result: String,
    },
    /// An annotation whose value is none of its property.
    #[error("annotation {0}: no value of this systemd property")]
    Annotation(String),
}

/// Starts the unit with `pid` in it and the limits of `request`.
///
/// # Errors
/// No systemd, or it refuses.
pub fn start(unit: &Unit, request: &Request<'_>, pid: i32, unified: bool) -> Result<(), Error> {
    let properties = properties::start(unit, request, pid, unified)?;
    let mut bus = Bus::connect(unit.user)?;
    bus.subscribe()?;
    let properties = known(&mut bus, properties);
    let arguments = [
        Value::Str(unit.name.clone()),
        // A unit of that name that is failed is replaced; one that runs is in the way.
        Value::Str("replace".to_owned()),
        properties::array(&properties),
        Value::Array("(sa(sv))", Vec::new()),
    ];
    match run(&mut bus, "StartTransientUnit", unit, &arguments) {
        Err(Error::Call { name, .. }) if name == UNIT_EXISTS => {
            // A failed unit of that name may be left of a container of earlier days.
            reset_failed(&mut bus, unit);
            run(&mut bus, "StartTransientUnit", unit, &arguments)
        }
        other => other,
    }
}

/// Stops the unit. One that is not there is stopped.
///
/// # Errors
/// No systemd, or it refuses.
pub fn stop(unit: &Unit) -> Result<(), Error> {
    let mut bus = Bus::connect(unit.user)?;
    bus.subscribe()?;
    let arguments = [Value::Str(unit.name.clone()), Value::Str("replace".to_owned())];
    let result = match run(&mut bus, "StopUnit", unit, &arguments) {
        Err(Error::Call { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
        other => other,
    };
    reset_failed(&mut bus, unit);
    result
}

/// Sets the limits of `to` as properties of the running unit, so that a reload of systemd keeps them. What only `from` has
/// is limited no more.
///
/// # Errors
/// No systemd, or it refuses.
pub fn set_properties(
    unit: &Unit,
    from: &LinuxResources,
    to: &LinuxResources,
    unified: bool,
) -> Result<(), Error> {
    let properties = properties::change(from, to, unified);
    if properties.is_empty() {
        return Ok(());
    }
    let mut bus = Bus::connect(unit.user)?;
    let properties = known(&mut bus, properties);
    let arguments = [Value::Str(unit.name.clone()), Value::Bool(true), properties::array(&properties)];
    call(&mut bus, "SetUnitProperties", unit, &arguments).map(drop)
}

/// Without those that this systemd is too old for: the cgroup's files have them all the same.
fn known(bus: &mut Bus, mut properties: Vec<Property>) -> Vec<Property> {
    if properties.iter().any(|property| property.since() > 0) {
        let version = version(bus).unwrap_or(0);
        properties.retain(|property| property.since() <= version);
    }
    properties
}

/// `257.9-1` is 257.
fn version(bus: &mut Bus) -> Option<u32> {
    let arguments = [Value::Str(MANAGER.to_owned()), Value::Str("Version".to_owned())];
    let answer = bus.call("org.freedesktop.DBus.Properties", "Get", &arguments).ok()?.ok()?;
    let Some(Value::Variant(value)) = answer.into_iter().next() else { return None };
    let Value::Str(text) = *value else { return None };
    let text = text.trim_start_matches('v');
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Ignored whatever it says: it is asked in case, and a unit that has not failed is an error to systemd.
fn reset_failed(bus: &mut Bus, unit: &Unit) {
    let _ = call(bus, "ResetFailedUnit", unit, &[Value::Str(unit.name.clone())]);
}

/// Calls a method that begins a job, and waits for its end.
fn run(bus: &mut Bus, method: &'static str, unit: &Unit, arguments: &[Value]) -> Result<(), Error> {
    let answer = call(bus, method, unit, arguments)?;
    let Some(Value::Path(job)) = answer.first() else {
        return Err(Error::Job { call: method, unit: unit.name.clone(), result: "no job".to_owned() });
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let signal = bus.signal("JobRemoved", deadline)?;
        // JobRemoved(id: u, job: o, unit: s, result: s)
        let [_, Value::Path(path), _, Value::Str(result)] = signal.as_slice() else { continue };
        if path != job {
            continue;
        }
        return match result.as_str() {
            "done" | "skipped" => Ok(()),
            result => Err(Error::Job { call: method, unit: unit.name.clone(), result: result.to_owned() }),
        };
    }
}

fn call(bus: &mut Bus, method: &'static str, unit: &Unit, arguments: &[Value]) -> Result<Vec<Value>, Error> {
    bus.call(MANAGER, method, arguments)?.map_err(|failure| Error::Call {
        call: method,
        unit: unit.name.clone(),
        name: failure.name,
        message: failure.message,
    })
}
