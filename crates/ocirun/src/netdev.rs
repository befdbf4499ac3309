//! `linux.netDevices`: moves network devices into the container's network namespace, by rtnetlink(7).
//!
//! A device keeps its permanent addresses of global scope and is up afterwards, under the name that it is to have. A create
//! that fails later gives it back.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use sys::spawn::SingleThread;
use sys::{Ctx as _, spawn};

use crate::error::{Error, Result};

const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const DUMP: u16 = 0x300;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const ATTR_IFNAME: u16 = 3;
const ATTR_NET_NS_FD: u16 = 28;
const ATTR_ADDR_FLAGS: u16 = 8;
const IFF_UP: u32 = 1;
const PERMANENT: u32 = 0x80;
/// Attributes of an address that are its own, and not what the kernel counts: address, local, label, broadcast, flags.
const ADDRESS_ATTRIBUTES: [u16; 5] = [1, 2, 3, 4, ATTR_ADDR_FLAGS];

/// A network namespace: its file, and a netlink socket that stays in it.
#[derive(Debug)]
struct Side {
    namespace: OwnedFd,
    socket: OwnedFd,
}

/// The devices that were moved, so far.
#[derive(Debug)]
pub(crate) struct Moved {
    host: Side,
    container: Side,
    /// Name on the host, name in the container, whether it was up.
    devices: Vec<(String, String, bool)>,
}

/// Whether `name` can be a device's (`dev_valid_name` of the kernel); `%d` stands for a number.
pub(crate) fn is_name(name: &str) -> bool {
    (1..16).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.bytes().any(|b| matches!(b, b'/' | b':' | 0) || b.is_ascii_whitespace())
        && name.matches('%').count() == name.matches("%d").count()
        && name.matches('%').count() <= 1
}

/// Moves `devices`, by name on the host and in the container, into the network namespace `path`.
///
/// # Errors
/// A device is not there, its name is taken in the container, or the kernel refuses. What was moved is given back.
pub(crate) fn into_container(
    proof: SingleThread,
    path: &Path,
    devices: &[(String, String)],
) -> Result<Option<Moved>> {
    if devices.is_empty() {
        return Ok(None);
    }
    let own = Path::new("/proc/self/ns/net");
    let (host, container) = (open(own)?, open(path)?);
    let host = Side { socket: netlink()?, namespace: host };
    let socket = inside(proof, &container, &host.namespace)?;
    let mut moved = Moved { host, container: Side { namespace: container, socket }, devices: Vec::new() };
    for (from, to) in devices {
        if let Err(error) = moved.one(from, to) {
            moved.give_back();
            return Err(error);
        }
    }
    Ok(Some(moved))
}

fn open(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ctx("open namespace", path)?)
}

fn netlink() -> Result<OwnedFd> {
    // Protocol 0 is NETLINK_ROUTE.
    Ok(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .ctx("open", "netlink socket")?)
}

/// A netlink socket of `namespace`; this process, of one thread, is back in `own` afterwards.
fn inside(_: SingleThread, namespace: &OwnedFd, own: &OwnedFd) -> Result<OwnedFd> {
    spawn::setns(namespace, libc::CLONE_NEWNET).ctx("join namespace", "network")?;
    let socket = netlink();
    spawn::setns(own, libc::CLONE_NEWNET).ctx("go back to namespace", "network")?;
    socket
}

impl Moved {
    fn one(&mut self, from: &str, to: &str) -> Result<()> {
        let (_, flags) = link(&self.host.socket, from)?
            .ok_or_else(|| Error::Step(format!("move network device {from}: no such device")))?;
        let to = free_name(&self.container.socket, to)?
            .ok_or_else(|| Error::Step(format!("move network device {from}: {to} is there already")))?;
        // From here on it may be there.
        self.devices.push((from.to_owned(), to.clone(), flags & IFF_UP != 0));
        carry(&self.host, &self.container, from, &to, true)
    }

    /// Undoes it, as far as it goes: the error of what failed before is the one that is told.
    pub(crate) fn give_back(&mut self) {
        for (from, to, up) in self.devices.drain(..).rev() {
            // Moved, but not renamed any more, is possible too.
            for name in [&to, &from] {
                drop(carry(&self.container, &self.host, name, &from, up));
            }
        }
    }
}

/// Moves the device `name` and its addresses from one side to the other.
fn carry(from: &Side, to: &Side, name: &str, new: &str, up: bool) -> Result<()> {
    use std::os::fd::AsRawFd as _;
    let object = format!("move network device {name}");
    let failed =
        |error: std::io::Error| Error::Step(format!("{object}: {}", sys::Error::new("", "", error).cause()));
    let missing = || Error::Step(format!("{object}: no such device"));
    let (index, _) = link(&from.socket, name)?.ok_or_else(missing)?;
    let addresses = addresses(&from.socket, index).map_err(failed)?;
    let mut body = link_header(index, 0, IFF_UP);
    attribute(&mut body, ATTR_NET_NS_FD, &to.namespace.as_raw_fd().to_ne_bytes());
    attribute(&mut body, ATTR_IFNAME, &with_nul(new));
    ask(&from.socket, NEWLINK, ACK, &body).map_err(failed)?;
    let (index, _) = link(&to.socket, new)?.ok_or_else(missing)?;
    for mut address in addresses {
        address.splice(4..8, index.to_ne_bytes());
        ask(&to.socket, NEWADDR, ACK | CREATE | EXCLUSIVE, &address).map_err(failed)?;
    }
    if up {
        ask(&to.socket, NEWLINK, ACK, &link_header(index, IFF_UP, IFF_UP)).map_err(failed)?;
    }
    Ok(())
}

/// The index and flags of a device, if there is one of this name.
fn link(socket: &OwnedFd, name: &str) -> Result<Option<(u32, u32)>> {
    let mut body = link_header(0, 0, 0);
    attribute(&mut body, ATTR_IFNAME, &with_nul(name));
    match ask(socket, GETLINK, 0, &body) {
        Ok(answers) => {
            let found = answers.first().and_then(|answer| Some((number(answer, 4)?, number(answer, 8)?)));
            Ok(Some(found.ok_or_else(|| Error::Step(format!("find network device {name}: bad answer")))?))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(sys::Error::new("find network device", name, error).into()),
    }
}

/// `name`, with the first number that is free in the place of `%d`; none if it is taken.
fn free_name(socket: &OwnedFd, name: &str) -> Result<Option<String>> {
    let names = if name.contains("%d") { 0..=1024 } else { 0..=0 };
    for number in names {
        let name = name.replace("%d", &number.to_string());
        if is_name(&name) && link(socket, &name)?.is_none() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The addresses of a device that move with it, as they are asked for.
fn addresses(socket: &OwnedFd, index: u32) -> std::io::Result<Vec<Vec<u8>>> {
    let mut kept = Vec::new();
    for answer in ask(socket, GETADDR, DUMP, &[0; 8])? {
        if answer.len() < 8 || number(&answer, 4) != Some(index) || answer[3] != 0 {
            continue;
        }
        let attributes = attributes(&answer[8..]);
        let flags = attributes.iter().find(|(kind, _)| *kind == ATTR_ADDR_FLAGS);
        let flags = flags.and_then(|(_, value)| number(value, 0)).unwrap_or_else(|| answer[2].into());
        if flags & PERMANENT == 0 {
            continue;
        }
        let mut body = answer[..8].to_vec();
        for (kind, value) in attributes {
            // The label has the old name in it.
            if ADDRESS_ATTRIBUTES.contains(&kind) && kind != 3 {
                attribute(&mut body, kind, value);
            }
        }
        kept.push(body);
    }
    Ok(kept)
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for value in [index, flags, change] {
        bytes.extend(value.to_ne_bytes());
    }
    bytes
}

fn with_nul(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(u16::try_from(value.len() + 4).unwrap_or(u16::MAX).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(head), true) = (number(bytes, 0), bytes.len() >= 4) {
        let [a, b, c, d] = head.to_ne_bytes();
        let (len, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        let Some(value) = bytes.get(4..len) else { break };
        found.push((kind & 0x3fff, value));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Sends one request and gives the bodies of its answers.
fn ask(socket: &OwnedFd, kind: u16, flags: u16, body: &[u8]) -> std::io::Result<Vec<Vec<u8>>> {
    let bad = || std::io::Error::from_raw_os_error(libc::EBADMSG);
    let mut message = u32::try_from(body.len() + 16).unwrap_or(0).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((REQUEST | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    rustix::net::send(socket, &message, SendFlags::empty())?;
    let mut answers = Vec::new();
    let mut buffer = vec![0u8; 32768];
    loop {
        let (len, _) = rustix::io::retry_on_intr(|| {
            rustix::net::recv(socket, buffer.as_mut_slice(), RecvFlags::empty())
        })?;
        let mut rest = buffer.get(..len).ok_or_else(bad)?;
        while rest.len() >= 16 {
            let len = usize::try_from(number(rest, 0).unwrap_or(0)).unwrap_or(0);
            let body = rest.get(16..len).ok_or_else(bad)?;
            match u16::from_ne_bytes([rest[4], rest[5]]) {
                DONE => return Ok(answers),
                ERROR => {
                    let code = number(body, 0).ok_or_else(bad)?.cast_signed();
                    return if code == 0 {
                        Ok(answers)
                    } else {
                        Err(std::io::Error::from_raw_os_error(code.saturating_neg()))
                    };
                }
                _ => answers.push(body.to_vec()),
            }
            if flags & (DUMP | ACK) == 0 {
                return Ok(answers);
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for good in ["eth0", "e", "eth%d", "a.b-c_d@e", "fifteen-letters"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "sixteen-letters-", "a%", "a%s", "%d%d", "a\0"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn attributes_that_were_written_are_read() {
        let mut body = Vec::new();
        attribute(&mut body, 3, b"lo\0");
        attribute(&mut body, 8, &[1, 2, 3, 4]);
        assert_eq!(attributes(&body), [(3, &b"lo\0"[..]), (8, &[1, 2, 3, 4][..])]);
        assert_eq!(attributes(&[1, 0, 0, 0, 9]), []);
        assert_eq!(attributes(&[200, 0, 0]), []);
    }
}
