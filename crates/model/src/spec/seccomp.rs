//! The default seccomp profile: what ordinary programs call is allowed; what changes the machine needs
//! the capability for it or gets EPERM; everything else, and what kernels will add, gets ENOSYS, so that
//! programs fall back (clone3 too, as its flags can't be looked at).

use crate::oci::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const ALLOW: &str = "SCMP_ACT_ALLOW";
const ERRNO: &str = "SCMP_ACT_ERRNO";

/// Files, directories and their attributes.
const FILES: &str = "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 \
    faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 \
    fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 \
    fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32 lgetxattr link linkat \
    listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod \
    mknodat name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 \
    read readahead readlink readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir \
    sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statx symlink symlinkat sync \
    sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 \
    utimes vmsplice write writev cachestat ftime";
/// Memory.
const MEMORY: &str = "brk get_mempolicy madvise mbind membarrier memfd_create memfd_secret mincore mlock mlock2 \
    mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect \
    process_mrelease process_madvise remap_file_pages set_mempolicy set_mempolicy_home_node map_shadow_stack";
/// Processes, users and limits.
const PROCESSES: &str = "alarm capget capset execve execveat exit exit_group fork futex futex_requeue \
    futex_time64 futex_wait futex_waitv futex_wake getcpu getegid getegid32 geteuid geteuid32 getgid getgid32 \
    getgroups getgroups32 getitimer getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 \
    getresuid getresuid32 getrlimit get_robust_list getrusage getsid get_thread_area gettid getuid getuid32 \
    ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self pause \
    pidfd_getfd pidfd_open pidfd_send_signal prctl prlimit64 ptrace restart_syscall rseq seccomp setfsgid \
    setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid \
    setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid \
    set_thread_area set_tid_address setuid setuid32 sysinfo tgkill time times tkill ugetrlimit uname vfork \
    wait4 waitid waitpid arch_prctl modify_ldt process_vm_readv process_vm_writev riscv_flush_icache sigreturn \
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction sigaltstack signal signalfd signalfd4 sigpending \
    sigprocmask sigsuspend sgetmask ssetmask";
/// Scheduling and clocks, as far as they are read or one's own.
const TIME: &str = "adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 gettimeofday nanosleep sched_getaffinity \
    sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler \
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 \
    timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
    timerfd_settime64";
/// Sockets, pipes, waiting and System V and POSIX queues.
const TALK: &str = "accept accept4 bind connect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait \
    epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 getpeername getsockname getsockopt io_cancel \
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ipc listen mq_getsetattr \
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl \
    msgget msgrcv msgsnd _newselect pipe pipe2 poll ppoll ppoll_time64 pselect6 pselect6_time64 recv recvfrom \
    recvmmsg recvmmsg_time64 recvmsg select semctl semget semop semtimedop semtimedop_time64 send sendmmsg \
    sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketcall socketpair";

/// What needs a capability, and which.
const PRIVILEGED: [(&str, &str); 12] = [
    (
        "CAP_SYS_ADMIN",
        "bpf fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules \
         lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open pivot_root quotactl \
         quotactl_fd setdomainname sethostname setns statmount listmount swapoff swapon umount umount2 unshare",
    ),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_SYS_BOOT", "reboot kexec_load kexec_file_load"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_SYS_NICE", "migrate_pages move_pages"),
];
/// Known, dangerous, and allowed to nobody: an honest EPERM.
const DENIED: &str = "add_key keyctl request_key userfaultfd nfsservctl uselib ustat sysfs _sysctl create_module \
    get_kernel_syms query_module vm86 vm86old io_uring_setup io_uring_enter io_uring_register";

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (sched.h).
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// The families of sockets below 48, as a mask and what is left by it, without AF_ALG, 38, and AF_VSOCK, 40 (socket.h): the kernel's
/// crypto, and the hypervisor. The masks have 32 bits: the kernel takes a family as an int, and a comparison of all 64 would let
/// those two through with anything above them.
const FAMILIES: [(u64, u64); 7] = [
    (0xffff_ffe0, 0),
    (0xffff_fffc, 32),
    (0xffff_fffe, 36),
    (0xffff_ffff, 39),
    (0xffff_ffff, 41),
    (0xffff_fffe, 42),
    (0xffff_fffc, 44),
];
/// PER_LINUX, PER_LINUX32 and UNAME26 of either, and the question (personality.h).
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The profile for a container that may have `capabilities` at most.
#[must_use]
pub fn default_profile(capabilities: &[&str]) -> LinuxSeccomp {
    let has = |name: &str| capabilities.contains(&name);
    let mut allowed: Vec<String> =
        [FILES, MEMORY, PROCESSES, TIME, TALK].iter().flat_map(|list| names(list)).collect();
    let mut denied = names(DENIED);
    for (capability, list) in PRIVILEGED {
        if has(capability) { allowed.extend(names(list)) } else { denied.extend(names(list)) }
    }
    let mut syscalls = Vec::new();
    if has("CAP_SYS_ADMIN") {
        allowed.push("clone".to_owned());
        allowed.push("clone3".to_owned());
    } else {
        syscalls.push(rule(&["clone"], NEW_NAMESPACES, 0, "SCMP_CMP_MASKED_EQ"));
    }
    for (mask, left) in FAMILIES {
        syscalls.push(rule(&["socket"], mask, left, "SCMP_CMP_MASKED_EQ"));
    }
    for personality in PERSONALITIES {
        syscalls.push(rule(&["personality"], personality, 0, "SCMP_CMP_EQ"));
    }
    syscalls.insert(0, LinuxSyscall { names: allowed, action: ALLOW.to_owned(), ..LinuxSyscall::default() });
    syscalls.push(LinuxSyscall {
        names: denied,
        action: ERRNO.to_owned(),
        errno_ret: Some(EPERM),
        ..LinuxSyscall::default()
    });
    LinuxSeccomp {
        default_action: ERRNO.to_owned(),
        default_errno_ret: Some(ENOSYS),
        architectures: architectures(),
        syscalls,
        ..LinuxSeccomp::default()
    }
}

fn names(list: &str) -> Vec<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

fn rule(names: &[&str], value: u64, value_two: u64, op: &str) -> LinuxSyscall {
    LinuxSyscall {
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        action: ALLOW.to_owned(),
        errno_ret: None,
        args: vec![LinuxSeccompArg { index: 0, value, value_two, op: op.to_owned() }],
    }
}

fn architectures() -> Vec<String> {
    let names: &[&str] = if cfg!(target_arch = "aarch64") {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    } else {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    };
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_named_once() {
        let profile = default_profile(&[]);
        let mut seen = std::collections::BTreeSet::new();
        for rule in profile.syscalls.iter().filter(|r| r.args.is_empty()) {
            for name in &rule.names {
                assert!(seen.insert(name.clone()), "{name} is named twice");
            }
        }
        for name in ["read", "write", "execve", "mount", "bpf"] {
            assert!(seen.contains(name), "{name}");
        }
        assert!(!seen.contains("clone3") && !seen.contains("clone") && !seen.contains("socket"));
    }

    #[test]
    fn a_family_of_sockets_is_told_by_32_bits() {
        let profile = default_profile(&[]);
        let rules: Vec<_> =
            profile.syscalls.iter().filter(|rule| rule.names.iter().any(|name| name == "socket")).collect();
        for family in 0..64u64 {
            for above in [0, 1 << 32, u64::MAX << 32] {
                let allowed = rules.iter().any(|rule| {
                    let arg = &rule.args[0];
                    assert_eq!((arg.index, arg.op.as_str()), (0, "SCMP_CMP_MASKED_EQ"));
                    (family | above) & arg.value == arg.value_two
                });
                assert_eq!(allowed, family < 48 && family != 38 && family != 40, "{:#x}", family | above);
            }
        }
    }

    #[test]
    fn capabilities_open_their_calls() {
        let allowed = |capabilities: &[&str], name: &str| {
            default_profile(capabilities).syscalls[0].names.iter().any(|n| n == name)
        };
        for (capability, name) in [
            ("CAP_SYS_ADMIN", "mount"),
            ("CAP_SYS_ADMIN", "clone3"),
            ("CAP_SYS_CHROOT", "chroot"),
            ("CAP_SYSLOG", "syslog"),
        ] {
            assert!(allowed(&[capability], name) && !allowed(&[], name), "{name}");
        }
    }
}
