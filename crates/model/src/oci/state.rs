//! The state of a container as the OCI runtime specification has it (runtime.md, "State").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What `state` prints and what hooks get on their standard input.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The specification's version.
    pub oci_version: String,
    /// The container.
    pub id: String,
    /// `creating`, `created`, `running`, `stopped`, and `paused`.
    pub status: String,
    /// Its init; absent or 0 where it has none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pid: i32,
    /// Its bundle, an absolute path.
    pub bundle: String,
    /// The annotations of its config.json.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
fn is_zero(value: &i32) -> bool {
    *value == 0
}
