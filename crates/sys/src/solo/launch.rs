//! Starting a program from a process of one thread, with what `std::process::Command` can't do: a gate
//! before the exec, LISTEN_PID of the child's own, descriptors at given numbers.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;

/// The environment variable whose value a launched program may get its own pid in (sd_listen_fds(3)).
const LISTEN_PID: &[u8] = b"LISTEN_PID=";

/// A program to start. The child's signal mask is emptied; SIGPIPE and SIGXFSZ are set back to
/// their defaults.
#[derive(Debug)]
pub struct Launch<'a> {
    program: CString,
    argv: Vec<CString>,
    env: Vec<Vec<u8>>,
    stdio: [Option<BorrowedFd<'a>>; 3],
    pass: Vec<BorrowedFd<'a>>,
    only_passed: bool,
    die_with_parent: bool,
    oom_score_adj: Option<CString>,
    gate: Option<BorrowedFd<'a>>,
    own_listen_pid: bool,
}

fn c_string(text: impl AsRef<OsStr>) -> io::Result<CString> {
    Ok(CString::new(text.as_ref().as_bytes())?)
}

impl<'a> Launch<'a> {
    /// `program` is a path, taken as it is; `argv` begins with the name the program shall see. The environment
    /// is the caller's.
    ///
    /// # Errors
    /// There is a NUL in an argument.
    pub fn new(
        program: impl AsRef<OsStr>,
        argv: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> io::Result<Self> {
        let env = std::env::vars_os()
            .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat())
            .collect();
        Ok(Self {
            program: c_string(program)?,
            argv: argv.into_iter().map(c_string).collect::<io::Result<_>>()?,
            env,
            stdio: [None; 3],
            pass: Vec::new(),
            only_passed: false,
            die_with_parent: false,
            oom_score_adj: None,
            gate: None,
            own_listen_pid: false,
        })
    }

    /// What becomes 0, 1 and 2; `None` leaves the caller's. The descriptors themselves must be above 2.
    #[must_use]
    pub fn stdio(mut self, stdio: [Option<BorrowedFd<'a>>; 3]) -> Self {
        self.stdio = stdio;
        self
    }

    /// Makes `fds` 3, 4, … of the child and closes all others above them, inherited or not.
    #[must_use]
    pub fn pass_only(mut self, fds: Vec<BorrowedFd<'a>>) -> Self {
        self.pass = fds;
        self.only_passed = true;
        self
    }

    /// The kernel kills the child when this process ends.
    #[must_use]
    pub fn die_with_parent(mut self) -> Self {
        self.die_with_parent = true;
        self
    }

    /// What the child writes to its oom_score_adj; failure is ignored.
    #[must_use]
    pub fn oom_score_adj(mut self, value: Option<i32>) -> Self {
        self.oom_score_adj = value.and_then(|value| CString::new(value.to_string()).ok());
        self
    }

    /// The child waits for one read of `gate` before it becomes the program.
    #[must_use]
    pub fn gate(mut self, gate: Option<BorrowedFd<'a>>) -> Self {
        self.gate = gate;
        self
    }

    /// Puts the child's pid into LISTEN_PID.
    #[must_use]
    pub fn own_listen_pid(mut self, on: bool) -> Self {
        self.own_listen_pid = on;
        self
    }

    /// Forks; the child becomes the program. If it can't, it says so on its stderr and exits with 127.
    ///
    /// # Errors
    /// As [`super::fork`].
    pub fn start(mut self) -> io::Result<i32> {
        if self.own_listen_pid {
            self.env.retain(|entry| !entry.starts_with(LISTEN_PID));
            // Room for the digits, which only the child knows; it may not allocate.
            self.env.push([LISTEN_PID, &[0; 12]].concat());
        }
        let mut argv: Vec<*const libc::c_char> = self.argv.iter().map(|a| a.as_ptr()).collect();
        argv.push(std::ptr::null());
        let mut env: Vec<*mut libc::c_char> =
            self.env.iter_mut().map(|e| e.as_mut_ptr().cast::<libc::c_char>()).collect();
        env.push(std::ptr::null_mut());
        let listen_pid = if self.own_listen_pid { env.len().checked_sub(2) } else { None };
        // Copies above all numbers that are written to, made before the fork since the child can't report failure well.
        let count = i32::try_from(self.pass.len()).unwrap_or(i32::MAX);
        let above: Vec<_> = self
            .pass
            .iter()
            .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3 + count))
            .collect::<Result<_, _>>()?;
        let above: Vec<RawFd> = above.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
        let parent = std::process::id();
        match super::fork()? {
            super::Forked::Parent(pid) => Ok(pid),
            super::Forked::Child => {
                let number = |fd: Option<BorrowedFd<'_>>| fd.map_or(-1, |fd| fd.as_raw_fd());
                let child = Child {
                    program: &self.program,
                    argv: &argv,
                    env: &env,
                    listen_pid,
                    stdio: self.stdio.map(number),
                    pass: &above,
                    only_passed: self.only_passed,
                    die_with_parent: self.die_with_parent.then_some(parent),
                    oom_score_adj: self.oom_score_adj.as_deref(),
                    gate: number(self.gate),
                };
                child.exec()
            }
        }
    }
}

/// What the child needs, all of it allocated before the fork.
struct Child<'a> {
    program: &'a CStr,
    argv: &'a [*const libc::c_char],
    env: &'a [*mut libc::c_char],
    listen_pid: Option<usize>,
    stdio: [RawFd; 3],
    pass: &'a [RawFd],
    only_passed: bool,
    die_with_parent: Option<u32>,
    oom_score_adj: Option<&'a CStr>,
    gate: RawFd,
}

impl Child<'_> {
    /// Only async-signal-safe calls from here on, no allocation.
    #[inline(never)]
    fn exec(self) -> ! {
        // SAFETY: all calls are system calls on numbers or on live, NUL-terminated memory of this frame's owner: argv and
        // env end with a null pointer, env[listen_pid] has 12 bytes of room behind its `=`, of which at most 10 digits are
        // written; the child owns its copies of all descriptors.
        unsafe {
            if let Some(parent) = self.die_with_parent {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if u32::try_from(libc::getppid()) != Ok(parent) {
                    libc::_exit(127);
                }
            }
            if self.gate >= 0 {
                let mut buffer = [0u8; 8192];
                while libc::read(self.gate, buffer.as_mut_ptr().cast(), buffer.len()) < 0
                    && *libc::__errno_location() == libc::EINTR
                {}
            }
            if let Some(value) = self.oom_score_adj {
                let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                if file >= 0 {
                    libc::write(file, value.as_ptr().cast(), value.count_bytes());
                    libc::close(file);
                }
            }
            let mut to = 0;
            for &fd in &self.stdio {
                if fd >= 0 && libc::dup2(fd, to) < 0 {
                    libc::_exit(127);
                }
                to += 1;
            }
            for &fd in self.pass {
                if libc::dup2(fd, to) < 0 {
                    libc::_exit(127);
                }
                to += 1;
            }
            if self.only_passed {
                libc::syscall(libc::SYS_close_range, to, libc::c_uint::MAX, 0);
            }
            if let Some(at) = self.listen_pid {
                put_number(self.env[at].cast::<u8>().add(LISTEN_PID.len()), libc::getpid());
            }
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::execve(self.program.as_ptr(), self.argv.as_ptr(), self.env.as_ptr().cast());
            let cause = libc::strerror(*libc::__errno_location());
            for part in [c"exec ".as_ptr(), self.program.as_ptr(), c": ".as_ptr(), cause, c"\n".as_ptr()] {
                libc::write(2, part.cast(), libc::strlen(part));
            }
            libc::_exit(127)
        }
    }
}

/// Writes `number` (not negative) in decimal and a NUL behind it.
///
/// # Safety
/// `to` has room for 11 bytes.
unsafe fn put_number(to: *mut u8, number: i32) {
    let mut digits = [0u8; 10];
    let mut rest = number.unsigned_abs();
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let len = digits.len() - at;
    // SAFETY: at most 10 digits and the NUL, for which the caller vouches.
    unsafe {
        std::ptr::copy_nonoverlapping(digits.as_ptr().add(at), to, len);
        to.add(len).write(0);
    }
}
