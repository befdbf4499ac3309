//! bpf(2), as far as device policies of cgroup v2 need it.

#![expect(unsafe_code, reason = "a system call that rustix does not have")]

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Ctx as _, Error, Result};

/// One instruction: the kernel's `struct bpf_insn` (on little-endian machines the destination is the low half).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination and source register.
    pub registers: u8,
    /// Offset of a jump or of memory.
    pub offset: i16,
    /// Operand.
    pub immediate: i32,
}

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
/// Programs that one cgroup can have.
const PROGRAMS: usize = 64;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Loads a program that answers for devices of a cgroup.
///
/// # Errors
/// EPERM without CAP_BPF or CAP_SYS_ADMIN; EINVAL or EACCES for a program that the kernel does not believe.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd> {
    let license = c"Apache-2.0";
    let attributes = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        name: *b"wharf_devices\0\0\0",
        ..Load::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &attributes).ctx("load program for", "devices")?;
    own(fd)
}

/// Attaches `program` to the cgroup `cgroup` and takes away all others of its kind that are attached there itself.
///
/// The new one is attached before the old ones go: at no moment is everything allowed.
///
/// # Errors
/// The kernel's errno; then the old ones are still there.
pub fn replace_device_programs(cgroup: impl AsFd, program: impl AsFd) -> Result<()> {
    let cgroup = cgroup.as_fd();
    let old = device_programs(cgroup)?;
    let raw = |fd: BorrowedFd<'_>| fd.as_raw_fd().cast_unsigned();
    let attach = Attach {
        target: raw(cgroup),
        program: raw(program.as_fd()),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
        ..Attach::default()
    };
    bpf(BPF_PROG_ATTACH, &attach).ctx("attach program to", "cgroup")?;
    for id in old {
        let by_id = ById { id, ..ById::default() };
        let old = match bpf(BPF_PROG_GET_FD_BY_ID, &by_id) {
            Ok(fd) => own(fd)?,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(error) => return Err(Error::new("open program of", "cgroup", error)),
        };
        let detach = Attach {
            target: raw(cgroup),
            program: raw(old.as_fd()),
            kind: BPF_CGROUP_DEVICE,
            ..Attach::default()
        };
        bpf(BPF_PROG_DETACH, &detach).ctx("detach program from", "cgroup")?;
    }
    Ok(())
}

/// The ids of the device programs that are attached to `cgroup` itself.
///
/// # Errors
/// The kernel's errno.
pub fn device_programs(cgroup: impl AsFd) -> Result<Vec<u32>> {
    let mut ids = [0u32; PROGRAMS];
    let query = Query {
        target: cgroup.as_fd().as_raw_fd().cast_unsigned(),
        kind: BPF_CGROUP_DEVICE,
        ids: ids.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(PROGRAMS).unwrap_or(0),
        ..Query::default()
    };
    bpf(BPF_PROG_QUERY, &query).ctx("query programs of", "cgroup")?;
    Ok(ids.into_iter().filter(|id| *id != 0).collect())
}

/// The call, with one of the attribute structs above.
fn bpf<T>(command: libc::c_long, attributes: &T) -> std::io::Result<libc::c_long> {
    let size = std::mem::size_of::<T>();
    // SAFETY: `attributes` is one of the plain structs above, laid out as the union's member for `command`, `size` bytes
    // long; pointers in it are to memory that outlives the call and is as long as the counts beside them say. The kernel
    // writes only what lies behind `ids`, which is ours and not shared, and `attach_flags` and `count` of a query, which
    // nobody reads afterwards.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}

fn own(fd: libc::c_long) -> Result<OwnedFd> {
    let raw = i32::try_from(fd).map_err(|_| Error::other("open", "program", "no descriptor"))?;
    // SAFETY: the kernel has just made this descriptor (close-on-exec, as all of bpf(2)'s), and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
