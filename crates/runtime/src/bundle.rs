//! The user's bundle: config.json read, checked, and made into the copy that monitor and runtime get.

use std::path::{Path, PathBuf};

use model::Id;
use serde_json::{Map, Value, json};
use sys::Ctx as _;

use crate::request::{CreateRequest, Io};
use crate::{Error, Result};

/// The largest config.json that is read, in bytes.
pub(crate) const CONFIG_MAX: u64 = 64 << 20;
/// The most mounts that are taken: the kernel has 100,000 for a whole namespace (fs.mount-max).
const MOUNTS_MAX: usize = 10_000;
/// The longest argument or variable that execve(2) takes, in bytes (MAX_ARG_STRLEN).
const STRING_MAX: usize = 131_071;
/// What execve(2) takes of arguments and variables at most, in bytes (three quarters of _STK_LIM).
const STRINGS_MAX: usize = 6 << 20;

const OP: &str = "read bundle";

/// A bundle that was read.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The user's directory, absolute; without one, the container's own.
    pub(crate) path: PathBuf,
    /// config.json as the runtime gets it.
    pub(crate) config: Value,
    /// linux.cgroupsPath in it.
    pub(crate) cgroup: String,
}

impl Bundle {
    /// Reads and checks the bundle of `request`, and fills in what belongs to us: an absolute root path,
    /// the cgroup, whether there is a terminal. Everything else stays as it is, known or not.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::NotFound`], naming the file and the field.
    pub(crate) fn read(request: &CreateRequest, own: &Path, systemd: bool) -> Result<Self> {
        if let Some(config) = &request.config {
            let (config, cgroup) = complete(config.clone(), request, own, systemd)
                .map_err(|cause| Error::invalid("read configuration of", &request.id, cause))?;
            return Ok(Self { path: own.to_owned(), config, cgroup });
        }
        let path = std::path::absolute(&request.bundle).ctx("resolve", &request.bundle)?;
        let file = path.join("config.json");
        let bytes = match sys::durable::read_bounded(&file, CONFIG_MAX) {
            Err(error) if error.is_gone() && !path.is_dir() => {
                return Err(Error::not_found(OP, path.display()));
            }
            Err(error) if error.is_gone() => return Err(Error::not_found(OP, file.display())),
            Err(error) if error.errno().is_none() => {
                return Err(Error::invalid(OP, file.display(), error.source));
            }
            result => result?,
        };
        let bad = |cause: String| Error::invalid(OP, file.display(), cause);
        let config = serde_json::from_slice(&bytes).map_err(|error| bad(format!("not JSON: {error}")))?;
        let (config, cgroup) = complete(config, request, &path, systemd).map_err(bad)?;
        Ok(Self { path, config, cgroup })
    }
}

/// Checks a configuration and fills it in; gives the cgroup too.
pub(crate) fn complete(
    mut config: Value,
    request: &CreateRequest,
    bundle: &Path,
    systemd: bool,
) -> Result<(Value, String), String> {
    check(&config)?;
    let cgroup = fill(&mut config, request, bundle, systemd)?;
    Ok((config, cgroup))
}

/// Checks what the lifecycle layer stands on, and what no kernel would take.
fn check(config: &Value) -> Result<(), String> {
    let config = config.as_object().ok_or("not an object")?;
    let version = config.get("ociVersion").and_then(Value::as_str).ok_or("ociVersion is missing")?;
    if version.split('.').next() != Some("1") {
        return Err(format!("ociVersion {version:?} is not 1.x"));
    }
    let process = config.get("process").and_then(Value::as_object).ok_or("process is missing")?;
    let args = strings(process, "args")?;
    if args.first().is_none_or(|program| program.is_empty()) {
        return Err("process.args is empty".to_owned());
    }
    let env = strings(process, "env")?;
    let mut total = 0;
    for (what, list) in [("args", &args), ("env", &env)] {
        for text in list {
            if text.len() > STRING_MAX {
                return Err(format!(
                    "process.{what} has an entry of {} bytes, at most {STRING_MAX} are taken",
                    text.len()
                ));
            }
            if text.contains('\0') {
                return Err(format!("process.{what} has an entry with a NUL"));
            }
            total += text.len() + 1;
        }
    }
    if total > STRINGS_MAX {
        return Err(format!(
            "process.args and process.env have {total} bytes, at most {STRINGS_MAX} are taken"
        ));
    }
    let root = config.get("root").and_then(|root| root.get("path")).and_then(Value::as_str);
    if root.is_none_or(str::is_empty) {
        return Err("root.path is missing".to_owned());
    }
    let mounts = config.get("mounts").and_then(Value::as_array).map_or(0, Vec::len);
    if mounts > MOUNTS_MAX {
        return Err(format!("mounts has {mounts} entries, at most {MOUNTS_MAX} are taken"));
    }
    Ok(())
}

fn strings<'a>(process: &'a Map<String, Value>, field: &str) -> Result<Vec<&'a str>, String> {
    let bad = || format!("process.{field} is no list of texts");
    match process.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(|text| text.as_str().ok_or_else(bad)).collect(),
        Some(_) => Err(bad()),
    }
}

fn fill(config: &mut Value, request: &CreateRequest, bundle: &Path, systemd: bool) -> Result<String, String> {
    let root = config["root"]["path"].as_str().unwrap_or_default();
    let root = bundle.join(root);
    if !root.is_dir() {
        return Err(format!("root.path: {} is no directory", root.display()));
    }
    config["root"]["path"] = json!(root);
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        bind_from(mount, bundle);
    }
    let terminal = config["process"]["terminal"].as_bool().unwrap_or(false);
    match request.io {
        Io::Terminal { .. } => config["process"]["terminal"] = json!(true),
        Io::Null | Io::Pipes { .. } if terminal => {
            return Err("process.terminal is true, but the streams are no terminal".to_owned());
        }
        Io::Null | Io::Pipes { .. } => {}
    }
    let cgroup = cgroup(config["linux"]["cgroupsPath"].as_str(), request, systemd)?;
    if !config["linux"].is_object() {
        config["linux"] = json!({});
    }
    config["linux"]["cgroupsPath"] = json!(cgroup);
    Ok(cgroup)
}

/// The source of a bind mount is relative to the bundle (runtime-spec, config.md, mounts).
fn bind_from(mount: &mut Value, bundle: &Path) {
    let bind = mount["type"].as_str() == Some("bind")
        || mount["options"]
            .as_array()
            .is_some_and(|options| options.iter().any(|o| o == "bind" || o == "rbind"));
    if let Some(source) = mount["source"].as_str().filter(|source| bind && !source.is_empty()) {
        mount["source"] = json!(bundle.join(source));
    }
}

fn cgroup(given: Option<&str>, request: &CreateRequest, systemd: bool) -> Result<String, String> {
    let parent = request.cgroup_parent.as_deref().filter(|parent| !parent.is_empty());
    let path = match given.filter(|path| !path.is_empty()) {
        Some(path) => path.to_owned(),
        None if systemd => format!("{}:wharfinger:{}", parent.unwrap_or("system.slice"), request.id),
        None => format!("{}/{}", parent.unwrap_or("/wharfinger").trim_end_matches('/'), request.id),
    };
    let parts: Vec<&str> = path.split(':').collect();
    match (systemd, parts.as_slice()) {
        (true, [slice, _, name]) if slice.ends_with(".slice") && !name.is_empty() && !path.contains('/') => {
            Ok(path)
        }
        (true, _) => Err(format!("linux.cgroupsPath {path:?} is not SLICE:PREFIX:NAME, which systemd needs")),
        (false, [_]) => {
            let path = format!("/{}", path.trim_matches('/'));
            let names = || path.split('/').skip(1);
            if path.contains('\0') || names().any(|name| name.is_empty() || name == "." || name == "..") {
                return Err(format!("linux.cgroupsPath {path:?} is not the path of a cgroup"));
            }
            if matches!(path.as_str(), "/wharfinger" | "/wharfinger-monitor") {
                return Err(format!("linux.cgroupsPath {path:?} is where the containers' own cgroups are"));
            }
            Ok(path)
        }
        (false, _) => {
            Err(format!("linux.cgroupsPath {path:?} is systemd's, but cgroups are made by cgroupfs"))
        }
    }
}

/// Where the cgroup `cgroups_path` is below the hierarchies' mount points.
pub(crate) fn cgroup_dir(cgroups_path: &str, id: &Id) -> String {
    let mut parts = cgroups_path.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(slice), Some(prefix), Some(name)) => {
            let scope =
                if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
            format!("{}/{scope}", slice_dir(slice))
        }
        (Some(path), None, None) => path.to_owned(),
        _ => format!("/wharfinger/{id}"),
    }
}

/// `a-b.slice` is `/a.slice/a-b.slice` (systemd.slice(5)).
pub(crate) fn slice_dir(slice: &str) -> String {
    let name = slice.trim_end_matches(".slice");
    let mut dir = String::new();
    if name == "-" {
        return dir;
    }
    for (at, _) in name.match_indices('-').chain([(name.len(), "")]) {
        dir.push_str(&format!("/{}.slice", &name[..at]));
    }
    dir
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Value {
        json!({ "ociVersion": "1.0.2", "process": { "args": ["sh"], "cwd": "/" }, "root": { "path": "r" } })
    }

    #[test]
    fn what_is_no_configuration() {
        assert_eq!(check(&good()), Ok(()));
        type Break = fn(&mut Value);
        let cases: [(Break, &str); 11] = [
            (|c| *c = json!([]), "not an object"),
            (|c| c["ociVersion"] = json!(null), "ociVersion is missing"),
            (|c| c["ociVersion"] = json!("2.0.0"), "ociVersion \"2.0.0\" is not 1.x"),
            (|c| c["process"] = json!(null), "process is missing"),
            (|c| c["process"]["args"] = json!([]), "process.args is empty"),
            (|c| c["process"]["args"] = json!("sh"), "process.args is no list of texts"),
            (|c| c["process"]["env"] = json!(["A=b\0"]), "process.env has an entry with a NUL"),
            (
                |c| c["process"]["env"] = json!(["x".repeat(131_072)]),
                "process.env has an entry of 131072 bytes",
            ),
            (|c| c["process"]["env"] = json!(vec!["x".repeat(100_000); 105]), "at most 6291456 are taken"),
            (|c| c["root"] = json!({}), "root.path is missing"),
            (|c| c["mounts"] = json!(vec![json!({}); 100_000]), "mounts has 100000 entries"),
        ];
        for (breaks, cause) in cases {
            let mut config = good();
            breaks(&mut config);
            let error = check(&config).unwrap_err();
            assert!(error.contains(cause), "{error} is not {cause}");
        }
    }

    #[test]
    fn cgroups_by_manager() {
        let mut request = CreateRequest::new(Id::new("x").unwrap(), "/b");
        assert_eq!(cgroup(None, &request, false).unwrap(), "/wharfinger/x");
        assert_eq!(cgroup(None, &request, true).unwrap(), "system.slice:wharfinger:x");
        assert_eq!(cgroup(Some("a/b"), &request, false).unwrap(), "/a/b");
        request.cgroup_parent = Some("/pods/p1/".to_owned());
        assert_eq!(cgroup(None, &request, false).unwrap(), "/pods/p1/x");
        request.cgroup_parent = Some("a-b.slice".to_owned());
        assert_eq!(cgroup(None, &request, true).unwrap(), "a-b.slice:wharfinger:x");
        for (path, systemd) in [("/", false), ("/a/../b", false), ("a.slice:b:c", false), ("/a/b", true)] {
            assert!(cgroup(Some(path), &request, systemd).is_err(), "{path}");
        }
        let id = Id::new("x").unwrap();
        assert_eq!(cgroup_dir("a-b.slice:wharfinger:x", &id), "/a.slice/a-b.slice/wharfinger-x.scope");
        assert_eq!(cgroup_dir("-.slice::x", &id), "/x.scope");
        assert_eq!(cgroup_dir("/wharfinger/x", &id), "/wharfinger/x");
    }
}
