//! Who is to own a container's cgroup on v2 (config-linux.md, "Cgroup ownership").

use std::path::Path;

use sys::mount_attr;

use crate::namespaces::Kind;
use crate::plan::{InitPlan, What};

/// Whoever the program runs as, as the host sees it. Only if it may change its cgroups: they are mounted for writing, and
/// seen through a cgroup namespace of the container's own.
pub(crate) fn of(plan: &InitPlan) -> Option<u32> {
    let writable = plan.mounts.iter().any(|mount| {
        let read_only = (mount.options.set | mount.options.rec_set) & mount_attr::RDONLY != 0;
        mount.what == What::Cgroup
            && Path::new(&mount.destination) == Path::new("/sys/fs/cgroup")
            && !read_only
    });
    if !writable || !plan.namespaces.is_new(Kind::Cgroup) {
        return None;
    }
    let user = plan.process.uid;
    if !plan.namespaces.has(Kind::User) {
        return Some(user);
    }
    // Of a user namespace that is joined, the maps are not ours to know.
    let mut maps = plan.uid_maps.iter().filter(|_| plan.namespaces.is_new(Kind::User));
    maps.find_map(|map| map.outside(user))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::Switches;

    fn owner_with(change: impl FnOnce(&mut Value)) -> Option<u32> {
        let mut spec = json!({
            "ociVersion": "1.2.0",
            "process": {"args": ["x"], "cwd": "/", "user": {"uid": 7, "gid": 0}},
            "root": {"path": "/"},
            "mounts": [{"destination": "/sys/fs/cgroup/", "type": "cgroup", "source": "cgroup", "options": ["rw"]}],
            "linux": {
                "namespaces": [{"type": "mount"}, {"type": "user"}, {"type": "cgroup"}],
                "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 5}, {"containerID": 5, "hostID": 9000, "size": 5}],
                "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}]
            }
        });
        change(&mut spec);
        let spec = serde_json::from_value(spec).unwrap();
        let plan = InitPlan::new(&spec, Path::new("/"), "id", Switches::default(), &mut Vec::new()).unwrap();
        of(&plan)
    }

    #[test]
    fn a_cgroup_belongs_to_whoever_may_change_it() {
        assert_eq!(owner_with(|_| ()), Some(9002));
        assert_eq!(owner_with(|spec| spec["process"]["user"]["uid"] = json!(0)), Some(1000));
        assert_eq!(owner_with(|spec| spec["process"]["user"]["uid"] = json!(10)), None);
        let no_user = json!([{"type": "mount"}, {"type": "cgroup"}]);
        let plain = |spec: &mut Value| {
            spec["linux"] = json!({"namespaces": no_user});
        };
        assert_eq!(owner_with(plain), Some(7));
        for options in [json!(["ro"]), json!(["rro"]), json!(["nosuid", "ro"])] {
            assert_eq!(owner_with(|spec| spec["mounts"][0]["options"] = options), None);
        }
        assert_eq!(owner_with(|spec| spec["mounts"] = json!([])), None);
        assert_eq!(owner_with(|spec| spec["mounts"][0]["destination"] = json!("/other")), None);
        let no_cgroup = json!([{"type": "mount"}, {"type": "user"}]);
        assert_eq!(owner_with(|spec| spec["linux"]["namespaces"] = no_cgroup), None);
    }
}
