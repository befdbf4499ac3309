//! Documents of the OCI runtime specification, as far as they are acted on.

pub mod config;
pub mod linux;
pub mod process;
pub mod resources;
pub mod seccomp;
pub mod state;

pub use config::{Hook, Hooks, LinuxIdMapping, Mount, Root, Spec};
pub use linux::{
    Linux, LinuxDevice, LinuxMemoryPolicy, LinuxNamespace, LinuxNetDevice, LinuxPersonality, LinuxTimeOffset,
};
pub use process::{
    ConsoleSize, CpuAffinity, LinuxCapabilities, LinuxIoPriority, PosixRlimit, Process, Scheduler, User,
};
pub use resources::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxHugepageLimit, LinuxInterfacePriority, LinuxMemory,
    LinuxNetwork, LinuxPids, LinuxRdma, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice,
};
pub use seccomp::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};
pub use state::State;
