//! `linux.memoryPolicy`: on which memory nodes a process's memory is (config-linux.md, set_mempolicy(2)).

use model::oci::Linux;
use sys::{Ctx as _, spawn};

use crate::error::{Error, Result};
use crate::process::cpu_list;

/// The modes, with their numbers in `linux/mempolicy.h`.
pub(crate) const MODES: [(&str, i32); 7] = [
    ("MPOL_BIND", 2),
    ("MPOL_DEFAULT", 0),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED", 1),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// The flags, which are bits of the mode.
pub(crate) const FLAGS: [(&str, i32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// A policy, ready for the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryPolicy {
    mode: i32,
    /// Bit N for node N.
    nodes: [u64; 16],
}

impl MemoryPolicy {
    /// The policy of a container and of its execs.
    ///
    /// # Errors
    /// [`Error::Invalid`]: an unknown word; nodes where the mode takes none, or none where it needs some.
    pub(crate) fn new(linux: &Linux) -> Result<Option<Self>> {
        let Some(wanted) = &linux.memory_policy else { return Ok(None) };
        let bad = |field: &str, cause: String| Error::invalid(format!("linux.memoryPolicy.{field}"), cause);
        let number = |table: &[(&str, i32)], word: &str| {
            table.iter().find(|(name, _)| *name == word).map(|(_, number)| *number)
        };
        let mut mode = number(&MODES, &wanted.mode)
            .ok_or_else(|| bad("mode", format!("{:?} is no mode", wanted.mode)))?;
        let list = match wanted.nodes.as_deref().unwrap_or_default() {
            "" => Vec::new(),
            text => cpu_list(text).ok_or_else(|| bad("nodes", format!("{text:?} is no list of nodes")))?,
        };
        match (wanted.mode.as_str(), list.is_empty()) {
            ("MPOL_DEFAULT" | "MPOL_LOCAL", false) => {
                return Err(bad("nodes", format!("{} takes none", wanted.mode)));
            }
            ("MPOL_DEFAULT" | "MPOL_LOCAL" | "MPOL_PREFERRED", true) | (_, false) => {}
            (_, true) => return Err(bad("nodes", format!("{} needs one", wanted.mode))),
        }
        for flag in &wanted.flags {
            mode |= number(&FLAGS, flag).ok_or_else(|| bad("flags", format!("{flag:?} is no flag")))?;
        }
        let mut nodes = [0_u64; 16];
        for node in list {
            let word =
                nodes.get_mut(node / 64).ok_or_else(|| bad("nodes", format!("{node} is above 1023")))?;
            *word |= 1 << (node % 64);
        }
        Ok(Some(Self { mode, nodes }))
    }

    /// Gives it to this process and to the programs that it executes.
    ///
    /// # Errors
    /// The system's: a node that is not there, or not in the cpuset.
    pub(crate) fn apply(&self) -> sys::Result<()> {
        let nodes: &[u64] = if self.nodes == [0; 16] { &[] } else { &self.nodes };
        spawn::set_memory_policy(self.mode, nodes).ctx("set", "memoryPolicy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Option<MemoryPolicy>> {
        MemoryPolicy::new(&serde_json::from_str(&format!("{{\"memoryPolicy\":{json}}}")).unwrap())
    }

    #[test]
    fn modes_nodes_and_flags() {
        let policy = read(r#"{"mode":"MPOL_INTERLEAVE","nodes":"0-3,70","flags":["MPOL_F_STATIC_NODES"]}"#);
        let policy = policy.unwrap().unwrap();
        assert_eq!((policy.mode, &policy.nodes[..3]), (3 | 1 << 15, &[0xf, 0x40, 0][..]));
        assert_eq!(read(r#"{"mode":"MPOL_PREFERRED"}"#).unwrap().unwrap().mode, 1);
        assert_eq!(read("null").unwrap(), None);
    }

    #[test]
    fn what_cannot_be() {
        for (json, words) in [
            ("{}", "mode: \"\" is no mode"),
            (r#"{"mode":"MPOL_BIND"}"#, "nodes: MPOL_BIND needs one"),
            (r#"{"mode":"MPOL_LOCAL","nodes":"0"}"#, "nodes: MPOL_LOCAL takes none"),
            (r#"{"mode":"MPOL_BIND","nodes":"x"}"#, "nodes: \"x\" is no list of nodes"),
            (r#"{"mode":"MPOL_BIND","nodes":"1024"}"#, "nodes: 1024 is above 1023"),
            (r#"{"mode":"MPOL_BIND","nodes":"0","flags":["X"]}"#, "flags: \"X\" is no flag"),
        ] {
            assert_eq!(read(json).unwrap_err().to_string(), format!("check linux.memoryPolicy.{words}"));
        }
    }
}
