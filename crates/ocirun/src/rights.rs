//! Whose rights this process has: those of the host's root, or of somebody who is root in a user namespace at most.
//!
//! Rootless engines call the runtime as root of a user namespace of theirs: it may mount, and makes no cgroup but where the
//! host has let its user.

use model::oci::LinuxIdMapping;

use crate::cgroup::Rights;

/// The map of the first user namespace: all ids as they are.
const INITIAL: [LinuxIdMapping; 1] = [LinuxIdMapping { container_id: 0, host_id: 0, size: u32::MAX }];

/// The lines of /proc/PID/uid_map (user_namespaces(7)).
fn parse(text: &str) -> Vec<LinuxIdMapping> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
        let (container_id, host_id, size) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(LinuxIdMapping { container_id, host_id, size })
    };
    text.lines().filter_map(line).collect()
}

/// What `id` is outside of the namespace; itself where nothing maps it.
fn outside(maps: &[LinuxIdMapping], id: u32) -> u32 {
    maps.iter().find_map(|map| map.outside(id)).unwrap_or(id)
}

fn own_map() -> Vec<LinuxIdMapping> {
    // A kernel without user namespaces has no such file.
    std::fs::read_to_string("/proc/self/uid_map").map_or_else(|_| INITIAL.to_vec(), |text| parse(&text))
}

/// Whether this process is root, and of the first user namespace.
#[must_use]
pub(crate) fn is_real_root() -> bool {
    rustix::process::geteuid().is_root() && own_map() == INITIAL
}

/// The user outside of the namespace that we are in: whom the user's systemd knows.
#[must_use]
pub(crate) fn outer_uid() -> u32 {
    outside(&own_map(), rustix::process::geteuid().as_raw())
}

/// The rights for cgroups: what `said` (`--rootless`) says, else as runc finds it out. Root of a user namespace with the
/// `systemd` driver is somebody's root if there is a bus of a user who is not root: a system container has a systemd of its own.
pub(crate) fn for_cgroups(said: Option<bool>, systemd: bool) -> Rights {
    let rootless = said.unwrap_or_else(|| {
        let root = rustix::process::geteuid().is_root();
        !root || !is_real_root() && (!systemd || has_users_bus())
    });
    if rootless { Rights::Rootless } else { Rights::Root }
}

fn has_users_bus() -> bool {
    let of_user = |name: &str| std::env::var(name).is_ok_and(|text| !text.is_empty() && !of_root(&text));
    of_user("DBUS_SESSION_BUS_ADDRESS") || of_user("XDG_RUNTIME_DIR")
}

/// Whether a path or an address is below the directory of root's own session.
fn of_root(text: &str) -> bool {
    text.split(['=', ',', ';']).any(|part| part == "/run/user/0" || part.starts_with("/run/user/0/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_who_is_outside() {
        assert_eq!(parse("         0          0 4294967295\n"), INITIAL);
        let map = parse("         0       1000          1\n         1     100000      65536\n");
        assert_ne!(map, INITIAL);
        assert_eq!([0, 1, 65536, 65537].map(|id| outside(&map, id)), [1000, 100_000, 165_535, 65537]);
        assert_eq!(parse("x\n1 2\n"), []);
    }

    #[test]
    fn the_bus_of_roots_session_is_not_a_users() {
        assert!(of_root("unix:path=/run/user/0/bus") && of_root("/run/user/0"));
        assert!(!of_root("unix:path=/run/user/01/bus,guid=1") && !of_root("/run/user/1000"));
    }

    #[test]
    fn what_is_said_counts() {
        assert_eq!(for_cgroups(Some(true), false), Rights::Rootless);
        assert_eq!(for_cgroups(Some(false), true), Rights::Root);
    }
}
