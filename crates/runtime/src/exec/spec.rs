//! The process of an exec: the container's own, with what the request says instead.

use serde_json::{Value, json};

use crate::bundle::CONFIG_MAX;
use crate::dir::Dir;
use crate::request::{ExecRequest, ExecStreams};
use crate::{Error, Result};

const OP: &str = "exec";

/// What of config.json an exec needs: most of it, as the seccomp profile, is skipped.
#[derive(serde::Deserialize)]
struct Config {
    #[serde(default)]
    process: Value,
}

/// The process document (runtime-spec, config.md, process) for `request` in the container in `dir`.
pub(crate) fn process(dir: &Dir, request: &ExecRequest, streams: ExecStreams) -> Result<Vec<u8>> {
    let path = dir.file("config.json");
    let bytes = sys::durable::read_bounded(&path, CONFIG_MAX)?;
    let config: Config =
        serde_json::from_slice(&bytes).map_err(|error| Error::invalid("read", path.display(), error))?;
    let process =
        build(config.process, request, streams).map_err(|cause| Error::invalid(OP, dir.id(), cause))?;
    serde_json::to_vec(&process).map_err(|error| Error::invalid(OP, dir.id(), error))
}

pub(crate) fn build(
    mut process: Value,
    request: &ExecRequest,
    streams: ExecStreams,
) -> Result<Value, String> {
    if request.args.first().is_none_or(String::is_empty) {
        return Err("no program is given".to_owned());
    }
    if request.args.iter().any(|arg| arg.contains('\0')) {
        return Err("an argument has a NUL".to_owned());
    }
    if !process.is_object() {
        return Err("config.json has no process".to_owned());
    }
    process["args"] = json!(request.args);
    environment(&mut process, request)?;
    if let Some(cwd) = &request.cwd {
        if !cwd.starts_with('/') || cwd.contains('\0') {
            return Err(format!("working directory {cwd:?} is no absolute path"));
        }
        process["cwd"] = json!(cwd);
    }
    process["terminal"] = json!(streams.terminal.is_some());
    match streams.terminal.flatten() {
        Some(size) => process["consoleSize"] = json!({ "height": size.rows, "width": size.columns }),
        None => _ = process.as_object_mut().and_then(|process| process.remove("consoleSize")),
    }
    if let Some(user) = &request.user {
        let (uid, gid) = parse_user(user)?;
        let umask = process.pointer_mut("/user/umask").map(Value::take).unwrap_or_default();
        process["user"] = json!({ "uid": uid, "gid": gid });
        if !umask.is_null() {
            process["user"]["umask"] = umask;
        }
        if uid != 0 && process["capabilities"].is_object() {
            // What the kernel does when root becomes somebody else.
            process["capabilities"]["effective"] = json!([]);
            process["capabilities"]["permitted"] = json!([]);
        }
    }
    if process["capabilities"].is_object() {
        process["capabilities"]["ambient"] = json!([]);
        process["capabilities"]["inheritable"] = json!([]);
    }
    if request.privileged {
        let all = model::capability::names();
        let all: Vec<&&str> = all.iter().take(last_capability()).collect();
        process["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
        process["noNewPrivileges"] = json!(false);
        for field in ["apparmorProfile", "selinuxLabel"] {
            process.as_object_mut().and_then(|process| process.remove(field));
        }
    }
    Ok(process)
}

/// How many capabilities the kernel has.
fn last_capability() -> usize {
    let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
    text.trim().parse::<usize>().map_or(usize::MAX, |last| last + 1)
}

fn environment(process: &mut Value, request: &ExecRequest) -> Result<(), String> {
    let mut env: Vec<Value> = process["env"].as_array().cloned().unwrap_or_default();
    for (name, value) in &request.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(format!("{name:?} is no environment variable"));
        }
        env.retain(|entry| {
            entry.as_str().and_then(|text| text.split_once('=')).is_none_or(|(n, _)| n != name)
        });
        env.push(json!(format!("{name}={value}")));
    }
    process["env"] = Value::Array(env);
    Ok(())
}

fn parse_user(user: &str) -> Result<(u32, u32), String> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
    match (uid.parse(), gid.parse()) {
        // 2^32-1 means "no change" to the system calls.
        (Ok(uid), Ok(gid)) if uid != u32::MAX && gid != u32::MAX => Ok((uid, gid)),
        _ => Err(format!("user {user:?} is not UID or UID:GID in numbers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Value {
        json!({
            "args": ["sh"], "env": ["PATH=/bin", "A=1"], "cwd": "/", "user": { "uid": 0, "gid": 0, "umask": 18 },
            "capabilities": { "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "ambient": ["CAP_KILL"] },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1, "soft": 1 }], "noNewPrivileges": true,
        })
    }

    #[test]
    fn the_containers_own_process_with_changes() {
        let mut request = ExecRequest::new(["ls", "-l"]);
        request.env.insert("A".to_owned(), "2=3".to_owned());
        request.cwd = Some("/tmp".to_owned());
        request.user = Some("7:8".to_owned());
        let made = build(own(), &request, ExecStreams::default()).unwrap();
        assert_eq!(made["args"], json!(["ls", "-l"]));
        assert_eq!(made["env"], json!(["PATH=/bin", "A=2=3"]));
        assert_eq!(made["user"], json!({ "uid": 7, "gid": 8, "umask": 18 }));
        assert_eq!(made["capabilities"]["bounding"], json!(["CAP_KILL"]));
        assert_eq!(made["capabilities"]["effective"], json!([]));
        assert_eq!(made["capabilities"]["ambient"], json!([]));
        assert_eq!(made["rlimits"], own()["rlimits"]);
        assert_eq!(made["terminal"], json!(false));
        let mut odd = own();
        odd["user"] = json!("root");
        assert_eq!(
            build(odd, &request, ExecStreams::default()).unwrap()["user"],
            json!({ "uid": 7, "gid": 8 })
        );
        request.user = None;
        request.privileged = true;
        let made = build(own(), &request, ExecStreams::default()).unwrap();
        assert!(made["capabilities"]["effective"].as_array().unwrap().len() > 30);
        assert_eq!(made["noNewPrivileges"], json!(false));
    }

    #[test]
    fn what_is_no_exec() {
        let good = ExecRequest::new(["ls"]);
        let with = |change: fn(&mut ExecRequest)| {
            let mut request = good.clone();
            change(&mut request);
            build(own(), &request, ExecStreams::default()).unwrap_err()
        };
        assert_eq!(with(|r| r.args.clear()), "no program is given");
        assert_eq!(with(|r| r.args.push("\0".into())), "an argument has a NUL");
        assert!(with(|r| r.cwd = Some("tmp".into())).contains("no absolute path"));
        assert!(with(|r| r.user = Some("root".into())).contains("in numbers"));
        assert!(with(|r| _ = r.env.insert("A=B".into(), String::new())).contains("no environment variable"));
    }
}
