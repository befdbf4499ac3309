//! config.json of the OCI runtime specification 1.3 (config.md): what every platform has.
//!
//! Unknown fields are ignored, absent and `null` are the same. Values that only the kernel or a table of
//! names can judge stay as they were written; [`Spec`] says nothing about their validity.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::linux::Linux;
use super::process::Process;
use super::resources::nullable;

/// The whole of config.json.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The specification's version, as in semver.
    pub oci_version: String,
    /// The program, absent where a container is only created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root filesystem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The host name in the container's uts namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The NIS domain name in the container's uts namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Mounts, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub mounts: Vec<Mount>,
    /// Programs run at points of the container's life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Words about the container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

/// The root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Root {
    /// Its path, absolute or from the bundle.
    pub path: String,
    /// Whether it is read-only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Mount {
    /// Where, inside the container.
    pub destination: String,
    /// The filesystem's type; `bind` and `none` say little, the options decide.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// A device, a path or a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Options as of fstab.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub options: Vec<String>,
    /// How user ids are shifted in this mount.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub uid_mappings: Vec<LinuxIdMapping>,
    /// How group ids are shifted in this mount.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub gid_mappings: Vec<LinuxIdMapping>,
}

/// One range of a user or group id mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinuxIdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

impl LinuxIdMapping {
    /// What `id` is outside; none if it is not in the range.
    #[must_use]
    pub fn outside(&self, id: u32) -> Option<u32> {
        let offset = id.checked_sub(self.container_id).filter(|offset| *offset < self.size)?;
        self.host_id.checked_add(offset)
    }
}

/// Programs run at points of the container's life.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// In the runtime's namespaces, before the root is changed (deprecated, still used).
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, before the root is changed.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before the root is changed.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub create_container: Vec<Hook>,
    /// In the container, before its program is executed.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces, after the program was executed.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces, after the container was deleted.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub poststop: Vec<Hook>,
}

/// One program; it gets the container's state on its standard input.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hook {
    /// An absolute path.
    pub path: String,
    /// Its arguments, argv\[0\] among them.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub args: Vec<String>,
    /// Its whole environment, `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// Seconds until it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_with_nulls_and_unknown_fields() {
        let text = r#"{"ociVersion":"1.2.0","root":{"path":"rootfs","future":1},"mounts":null,"hooks":null,
            "vm":{},"annotations":null,"linux":{"namespaces":[{"type":"pid"}],"devices":null}}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        assert_eq!(spec.root.unwrap().path, "rootfs");
        assert_eq!(spec.linux.unwrap().namespaces[0].kind, "pid");
    }

    #[test]
    fn wrong_types_and_a_missing_version_are_errors() {
        for bad in [
            "{}",
            r#"{"ociVersion":1}"#,
            r#"{"ociVersion":"1.0.0","mounts":{}}"#,
            r#"{"ociVersion":"1.0.0","process":{"args":"sh"}}"#,
            r#"{"ociVersion":"1.0.0","linux":{"namespaces":"pid"}}"#,
            r#"{"ociVersion":"1.0.0","annotations":{"a":1}}"#,
            "[]",
            "",
        ] {
            assert!(serde_json::from_str::<Spec>(bad).is_err(), "{bad}");
        }
    }
}
