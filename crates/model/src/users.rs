//! Users and groups by the names that a root file system has for them: passwd(5) and group(5), as texts.

use crate::spec::User;

/// The numbers of `user` and `group`, each a name or a number.
///
/// A number is always that number, whatever the files call by its digits: an image must not make root of it.
/// With no group, the user's own and those that list it; with one, that alone.
///
/// # Errors
/// One line: a name that is in no file, a number beyond 32 bits, an entry whose numbers are none.
pub fn resolve(user: &str, group: Option<&str>, passwd: &str, groups: &str) -> Result<User, String> {
    let wanted = number_or_name("user", user)?;
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.len() >= 4
            && match wanted {
                Some(uid) => fields[2].parse() == Ok(uid),
                None => fields[0] == user,
            }
    });
    let (uid, own_gid, name) = match (&entry, wanted) {
        (Some(fields), _) => (number(fields[2])?, number(fields[3])?, Some(fields[0])),
        (None, Some(uid)) => (uid, 0, None),
        (None, None) => return Err(format!("user {user:?}: not in the root file system's /etc/passwd")),
    };
    let Some(group) = group else {
        let additional_gids = name.map(|name| memberships(name, own_gid, groups)).unwrap_or_default();
        return Ok(User { uid, gid: own_gid, additional_gids });
    };
    let gid = match number_or_name("group", group)? {
        Some(gid) => gid,
        None => {
            let mut entries = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
            let found = entries.find(|fields| fields.len() >= 3 && fields[0] == group);
            let fields =
                found.ok_or_else(|| format!("group {group:?}: not in the root file system's /etc/group"))?;
            number(fields[2])?
        }
    };
    Ok(User { uid, gid, additional_gids: Vec::new() })
}

/// The number that `text` is, or none for a name.
///
/// # Errors
/// Digits that are no number of 32 bits: neither that nor a name.
pub fn number_or_name(what: &str, text: &str) -> Result<Option<u32>, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    // 2^32-1 means "no change" to the system calls.
    match text.parse() {
        Ok(u32::MAX) | Err(_) => Err(format!("{what} {text}: not a number from 0 to 4294967294")),
        Ok(number) => Ok(Some(number)),
    }
}

fn memberships(name: &str, own: u32, groups: &str) -> Vec<u32> {
    /// NGROUPS_MAX of the kernel: it takes no more.
    const MOST: usize = 65536;
    let member = |line: &str| {
        let fields: Vec<&str> = line.splitn(4, ':').collect();
        let gid = fields.get(2)?.parse().ok()?;
        fields.get(3)?.split([',', ':']).any(|member| member == name).then_some(gid)
    };
    groups.lines().filter_map(member).filter(|gid| *gid != own).take(MOST).collect()
}

fn number(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(u32::MAX) | Err(_) => Err(format!("{text:?} in /etc/passwd or /etc/group is no number")),
        Ok(number) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\nbroken\n77:x:0:0::/:\n4294967296:x:0:0::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:40:web,root\n55:x:0:\n";

    #[test]
    fn names_and_numbers() {
        let user = |uid, gid, more: &[u32]| User { uid, gid, additional_gids: more.to_vec() };
        for (who, group, expected) in [
            ("web", None, user(33, 34, &[40])),
            ("33", None, user(33, 34, &[40])),
            ("78", None, user(78, 0, &[])),
            ("web", Some("logs"), user(33, 40, &[])),
            ("web", Some("5"), user(33, 5, &[])),
        ] {
            assert_eq!(resolve(who, group, PASSWD, GROUP), Ok(expected), "{who} {group:?}");
        }
        assert!(resolve("nobody", None, PASSWD, GROUP).unwrap_err().contains("nobody"));
        assert!(resolve("web", Some("nope"), PASSWD, GROUP).is_err());
    }

    /// CVE-2024-40635, CVE-2026-46680.
    #[test]
    fn a_number_is_never_a_name() {
        let uid = |who: &str| resolve(who, None, PASSWD, GROUP).map(|user| user.uid);
        assert_eq!(uid("77"), Ok(77));
        assert_eq!(resolve("web", Some("55"), PASSWD, GROUP).map(|user| user.gid), Ok(55));
        for odd in ["4294967296", "4294967295", "-1", "99999999999999999999", ""] {
            assert!(uid(odd).is_err(), "{odd}");
            assert!(resolve("web", Some(odd), PASSWD, GROUP).is_err(), "{odd}");
        }
    }

    /// CVE-2026-47262.
    #[test]
    fn groups_without_end_are_cut_off() {
        let groups: String = (0..100_000).map(|gid| format!("g:x:{gid}:web\n")).collect();
        assert_eq!(resolve("web", None, PASSWD, &groups).unwrap().additional_gids.len(), 65536);
    }
}
