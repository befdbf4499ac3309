//! Between fork and exec: only async-signal-safe calls, no allocation.

#![expect(unsafe_code, reason = "clone(2), and calls in the child that must not allocate")]

use std::ffi::{CString, c_char};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::Session;
use crate::pidfd::PidFd;
use crate::process::signal::{full_set, set_of, swap_mask};
use crate::{Ctx as _, Result};

/// Whether the child waits for a byte before it runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Yes,
    No,
}

#[derive(Debug)]
pub(super) enum Target<'a> {
    Path(CString),
    Fd(BorrowedFd<'a>),
}

/// All that the child needs, made before.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) program: Target<'a>,
    pub(super) args: Vec<CString>,
    pub(super) env: Vec<CString>,
    /// Sources and target numbers; 0, 1 and 2 are among the targets.
    pub(super) fds: Vec<(BorrowedFd<'a>, i32)>,
    pub(super) cwd: Option<CString>,
    pub(super) session: Session,
    pub(super) death_signal: Option<i32>,
    pub(super) umask: Option<u32>,
    pub(super) cgroups: Vec<BorrowedFd<'a>>,
    pub(super) hold: Hold,
}

#[derive(Debug)]
pub(super) struct Started {
    pub(super) pidfd: PidFd,
    /// Where to write the byte, if it waits for one.
    pub(super) go: Option<OwnedFd>,
    /// Where the child reports an error; closed by the exec.
    pub(super) report: OwnedFd,
}

/// What the child was at when something failed, as in its report.
const STEPS: [&str; 11] = [
    "start",
    "move descriptors for",
    "start session for",
    "set terminal for",
    "set death signal for",
    "enter directory for",
    "join cgroup for",
    "reset signals for",
    "pass descriptors to",
    "wait to run",
    "exec",
];

#[derive(Clone, Copy)]
enum Step {
    Move = 1,
    Session = 2,
    Terminal = 3,
    DeathSignal = 4,
    Directory = 5,
    Cgroup = 6,
    Signals = 7,
    Fds = 8,
    Hold = 9,
    Exec = 10,
}

/// What is made for the child, in the parent's memory, with room for what the child fills in.
struct Memory {
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// Target numbers in ascending order.
    targets: Vec<RawFd>,
    /// Where the child moves each source first, out of the targets' way.
    moved: Vec<RawFd>,
    parent: i32,
}

/// Makes the process.
pub(super) fn start(plan: &Plan<'_>, name: &str) -> Result<Started> {
    let (report_in, report_out) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).ctx("create", "pipe")?;
    let (go_in, go_out) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).ctx("create", "pipe")?;
    let pointers = |strings: &[CString]| {
        strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let mut targets: Vec<RawFd> = plan.fds.iter().map(|(_, target)| *target).collect();
    targets.sort_unstable();
    let mut memory = Memory {
        argv: pointers(&plan.args),
        envp: pointers(&plan.env),
        targets,
        moved: vec![-1; plan.fds.len()],
        parent: rustix::process::getpid().as_raw_pid(),
    };
    // No handler of this program may run in the child.
    let old_mask = swap_mask(libc::SIG_SETMASK, &full_set())?;
    let mut pidfd: RawFd = -1;
    // SAFETY: like fork: without CLONE_VM the child has memory of its own. Only the calling thread is in
    // it, and it makes async-signal-safe calls only. The pointer is where CLONE_PIDFD stores.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::CLONE_PIDFD | libc::SIGCHLD,
            std::ptr::null_mut::<libc::c_void>(),
            &raw mut pidfd,
            std::ptr::null_mut::<libc::c_void>(),
            0,
        )
    };
    if pid == 0 {
        let (step, errno) = run(plan, &mut memory, report_out.as_fd(), &go_in, &go_out);
        fail(report_out.as_raw_fd(), step, errno);
    }
    let error = std::io::Error::last_os_error();
    swap_mask(libc::SIG_SETMASK, &old_mask)?;
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(error).ctx("fork for", name)?;
    // SAFETY: the kernel made this descriptor for us (close-on-exec), and nobody else knows it.
    let pidfd = PidFd::from_fd(unsafe { OwnedFd::from_raw_fd(pidfd) }, pid);
    Ok(Started { pidfd, go: (plan.hold == Hold::Yes).then_some(go_out), report: report_in })
}

/// Reads the child's report: `None` when the program runs.
pub(super) fn report(from: &OwnedFd) -> std::io::Result<Option<(&'static str, std::io::Error)>> {
    let mut bytes = [0; 8];
    let len = loop {
        match rustix::io::read(from, &mut bytes) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    if len == 0 {
        return Ok(None);
    }
    let [step @ .., a, b, c, d] = bytes;
    let step = STEPS.get(usize::from(step[0])).copied().unwrap_or(STEPS[0]);
    Ok(Some((step, std::io::Error::from_raw_os_error(i32::from_ne_bytes([a, b, c, d])))))
}

/// In the child: writes the report and ends.
fn fail(report: RawFd, step: Step, errno: i32) -> ! {
    let [a, b, c, d] = errno.to_ne_bytes();
    let bytes = [step as u8, 0, 0, 0, a, b, c, d];
    // SAFETY: the buffer has the size given; _exit does not return. Without a report there is no more to do.
    unsafe {
        libc::write(report, bytes.as_ptr().cast(), bytes.len());
        libc::_exit(127)
    }
}

/// In the child: everything up to the exec. Returns only with the step that failed and the error number.
fn run(
    plan: &Plan<'_>,
    memory: &mut Memory,
    mut report: BorrowedFd<'_>,
    go_in: &OwnedFd,
    go_out: &OwnedFd,
) -> (Step, i32) {
    match prepare(plan, memory, &mut report, go_in, go_out) {
        Ok(program) => exec(plan, memory, program),
        // The report's descriptor may have been moved: write it here, where that is known.
        Err((step, errno)) => fail(report.as_raw_fd(), step, errno),
    }
}

/// Returns the moved descriptor of the program, or -1.
fn prepare(
    plan: &Plan<'_>,
    memory: &mut Memory,
    report: &mut BorrowedFd<'_>,
    go_in: &OwnedFd,
    go_out: &OwnedFd,
) -> Result<RawFd, (Step, i32)> {
    let above = memory.targets.last().copied().unwrap_or(2).saturating_add(1);
    let move_up = |fd: RawFd| {
        // SAFETY: takes numbers only.
        check(Step::Move, unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, above) })
    };
    // SAFETY: the descriptor was just made, and stays open until the exec.
    *report = unsafe { BorrowedFd::borrow_raw(move_up(report.as_raw_fd())?) };
    let go = move_up(go_in.as_raw_fd())?;
    let go_writer = go_out.as_raw_fd();
    // SAFETY: in this process nobody uses it; the parent's end must be the only one.
    unsafe { libc::close(go_writer) };
    let program = match &plan.program {
        Target::Path(_) => -1,
        Target::Fd(fd) => move_up(fd.as_raw_fd())?,
    };
    for (moved, (fd, _)) in memory.moved.iter_mut().zip(&plan.fds) {
        *moved = move_up(fd.as_raw_fd())?;
    }
    for cgroup in &plan.cgroups {
        // SAFETY: one byte of static memory. 0 stands for the writer.
        let written = unsafe { libc::write(cgroup.as_raw_fd(), c"0".as_ptr().cast(), 1) };
        check(Step::Cgroup, i32::try_from(written).unwrap_or(-1))?;
    }
    if plan.hold == Hold::Yes {
        hold(go)?;
    }
    for (moved, (_, target)) in memory.moved.iter().zip(&plan.fds) {
        // SAFETY: takes numbers only; what was open there was the parent's copy.
        check(Step::Fds, unsafe { libc::dup2(*moved, *target) })?;
    }
    close_others(&memory.targets);
    stand(plan, memory.parent)?;
    reset_signals()?;
    Ok(program)
}

/// Waits for the byte. The end without one means that the parent gave up.
fn hold(go: RawFd) -> Result<(), (Step, i32)> {
    let mut byte = 0u8;
    loop {
        // SAFETY: one byte of our own.
        match unsafe { libc::read(go, (&raw mut byte).cast(), 1) } {
            1 => return Ok(()),
            0 => return Err((Step::Hold, libc::ECANCELED)),
            _ if errno() == libc::EINTR => {}
            _ => return Err((Step::Hold, errno())),
        }
    }
}

/// Session, terminal, parent's death, umask, directory.
fn stand(plan: &Plan<'_>, parent: i32) -> Result<(), (Step, i32)> {
    // SAFETY: all take numbers, and a string that lives in our memory.
    unsafe {
        match plan.session {
            Session::Inherit => {}
            Session::New | Session::NewWithTerminal(_) => check(Step::Session, libc::setsid()).map(drop)?,
            Session::NewGroup => check(Step::Session, libc::setpgid(0, 0)).map(drop)?,
        }
        if let Session::NewWithTerminal(terminal) = plan.session {
            check(Step::Terminal, libc::ioctl(terminal, libc::TIOCSCTTY, 0))?;
        }
        if let Some(signal) = plan.death_signal {
            check(Step::DeathSignal, libc::prctl(libc::PR_SET_PDEATHSIG, signal))?;
            // It may have died before; 0 is a parent outside of our pid namespace.
            if ![0, parent].contains(&libc::getppid()) {
                return Err((Step::DeathSignal, libc::ESRCH));
            }
        }
        if let Some(mask) = plan.umask {
            libc::umask(mask);
        }
        if let Some(cwd) = &plan.cwd {
            check(Step::Directory, libc::chdir(cwd.as_ptr()))?;
        }
    }
    Ok(())
}

/// Sets close-on-exec on what is not passed. A kernel without that call (before 5.11) leaves what others
/// opened without the flag.
fn close_others(targets: &[RawFd]) {
    let mut next: RawFd = 0;
    for target in targets.iter().copied().chain([RawFd::MAX]) {
        if target > next {
            // SAFETY: takes numbers only.
            unsafe { libc::syscall(libc::SYS_close_range, next, target - 1, libc::CLOSE_RANGE_CLOEXEC) };
        }
        next = target.saturating_add(1);
    }
}

/// Gives ignored signals their usual effect again and blocks none; an exec resets the handled ones.
fn reset_signals() -> Result<(), (Step, i32)> {
    // The kernel's struct sigaction, for SIG_DFL. The system call itself, as libc refuses the signals 32 and
    // 33, which somebody above us may have ignored all the same.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the structure has the kernel's size, and SIG_DFL runs no code. It fails for SIGKILL and
        // SIGSTOP only.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    let empty = set_of(&[]);
    // SAFETY: the set is initialised.
    check(Step::Signals, unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut())
    })
    .map(drop)
}

fn exec(plan: &Plan<'_>, memory: &Memory, program: RawFd) -> (Step, i32) {
    // SAFETY: null-terminated arrays of null-terminated strings, all alive.
    unsafe {
        match &plan.program {
            Target::Path(path) => {
                libc::execve(path.as_ptr(), memory.argv.as_ptr(), memory.envp.as_ptr());
            }
            Target::Fd(_) => {
                libc::syscall(
                    libc::SYS_execveat,
                    program,
                    c"".as_ptr(),
                    memory.argv.as_ptr(),
                    memory.envp.as_ptr(),
                    libc::AT_EMPTY_PATH,
                );
            }
        }
    }
    (Step::Exec, errno())
}

fn check(step: Step, result: i32) -> Result<i32, (Step, i32)> {
    if result < 0 { Err((step, errno())) } else { Ok(result) }
}

fn errno() -> i32 {
    // SAFETY: the location is this thread's own, always valid.
    unsafe { *libc::__errno_location() }
}
