//! A profile into BPF: libseccomp makes the filter, and a stub of ours goes before it.
//!
//! The stub answers ENOSYS for system calls that are newer than all that the profile names, as runc does:
//! a C library that tries a new call must be told "there is no such call", not "you may not".

use std::io::{Read, Seek};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use model::oci::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};
use rustix::fs::MemfdFlags;

use super::{Error, Instruction, ranges};

/// The machine's own architecture is always in a libseccomp filter; these are what profiles may add.
/// (name, libseccomp's, the kernel's audit number)
const ARCHITECTURES: [(&str, ScmpArch, u32); 23] = [
    ("SCMP_ARCH_X86", ScmpArch::X86, 0x4000_0003),
    ("SCMP_ARCH_X86_64", ScmpArch::X8664, 0xc000_003e),
    ("SCMP_ARCH_X32", ScmpArch::X32, 0xc000_003e),
    ("SCMP_ARCH_ARM", ScmpArch::Arm, 0x4000_0028),
    ("SCMP_ARCH_AARCH64", ScmpArch::Aarch64, 0xc000_00b7),
    ("SCMP_ARCH_LOONGARCH64", ScmpArch::Loongarch64, 0xc000_0102),
    ("SCMP_ARCH_M68K", ScmpArch::M68k, 0x0000_0004),
    ("SCMP_ARCH_MIPS", ScmpArch::Mips, 0x0000_0008),
    ("SCMP_ARCH_MIPS64", ScmpArch::Mips64, 0x8000_0008),
    ("SCMP_ARCH_MIPS64N32", ScmpArch::Mips64N32, 0xa000_0008),
    ("SCMP_ARCH_MIPSEL", ScmpArch::Mipsel, 0x4000_0008),
    ("SCMP_ARCH_MIPSEL64", ScmpArch::Mipsel64, 0xc000_0008),
    ("SCMP_ARCH_MIPSEL64N32", ScmpArch::Mipsel64N32, 0xe000_0008),
    ("SCMP_ARCH_PPC", ScmpArch::Ppc, 0x0000_0014),
    ("SCMP_ARCH_PPC64", ScmpArch::Ppc64, 0x8000_0015),
    ("SCMP_ARCH_PPC64LE", ScmpArch::Ppc64Le, 0xc000_0015),
    ("SCMP_ARCH_S390", ScmpArch::S390, 0x0000_0016),
    ("SCMP_ARCH_S390X", ScmpArch::S390X, 0x8000_0016),
    ("SCMP_ARCH_PARISC", ScmpArch::Parisc, 0x0000_000f),
    ("SCMP_ARCH_PARISC64", ScmpArch::Parisc64, 0x8000_000f),
    ("SCMP_ARCH_RISCV64", ScmpArch::Riscv64, 0xc000_00f3),
    ("SCMP_ARCH_SH", ScmpArch::Sh, 0x4000_002a),
    ("SCMP_ARCH_SHEB", ScmpArch::Sheb, 0x0000_002a),
];

const ACTIONS: [&str; 9] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];

const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

/// x32 calls come with x86_64's architecture and this bit in their number.
const X32_BIT: u32 = 0x4000_0000;

/// The names of actions, operators and architectures that profiles may use, for `features`.
pub fn known() -> (&'static [&'static str], &'static [&'static str], Vec<&'static str>) {
    let archs = ARCHITECTURES.iter().filter(|(_, arch, _)| is_supported(*arch)).map(|(name, ..)| *name);
    (&ACTIONS, &OPERATORS, archs.collect())
}

/// The BPF program of `profile`.
pub(super) fn compile(profile: &LinuxSeccomp) -> Result<Vec<Instruction>, Error> {
    let program = ranges::shorten(whole(profile)?);
    if program.len() > 4096 {
        return Err(Error::new(format!("{} instructions, the kernel takes 4096", program.len())));
    }
    Ok(program)
}

/// The program as libseccomp makes it, after our stub.
pub(super) fn whole(profile: &LinuxSeccomp) -> Result<Vec<Instruction>, Error> {
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    if default == ScmpAction::Notify {
        return Err(Error::new("SCMP_ACT_NOTIFY cannot be the default action"));
    }
    let mut architectures =
        profile.architectures.iter().map(|name| architecture(name)).collect::<Result<Vec<_>, _>>()?;
    // No machine that libseccomp runs on has calls of one that it does not know, and the filter would kill who makes one.
    architectures.retain(|(arch, _)| is_supported(*arch));
    let mut context = ScmpFilterContext::new(default).map_err(|e| Error::because("make filter", &e))?;
    context.set_ctl_nnp(false).map_err(|e| Error::because("make filter", &e))?;
    // A binary tree, not a list, for what `ranges` can't follow.
    context.set_ctl_optimize(2).map_err(|e| Error::because("make filter", &e))?;
    for &(arch, _) in &architectures {
        context.add_arch(arch).map_err(|e| Error::because("add architecture", &e))?;
    }
    for rule in &profile.syscalls {
        add(&mut context, rule, default)?;
    }
    let mut program = stub(profile, default, &architectures);
    program.extend(export(&context)?);
    Ok(program)
}

/// Whether this libseccomp can filter calls of `arch`: 2.5 knows less than the specification names.
fn is_supported(arch: ScmpArch) -> bool {
    ScmpFilterContext::new(ScmpAction::Allow).is_ok_and(|mut context| context.add_arch(arch).is_ok())
}

fn architecture(name: &str) -> Result<(ScmpArch, u32), Error> {
    let known = ARCHITECTURES.iter().find(|(known, ..)| *known == name);
    known
        .map(|&(_, arch, audit)| (arch, audit))
        .ok_or_else(|| Error::new(format!("unknown architecture {name:?}")))
}

fn action(name: &str, errno: Option<u32>) -> Result<ScmpAction, Error> {
    let value = errno.unwrap_or(libc::EPERM.unsigned_abs());
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_NOTIFY" => ScmpAction::Notify,
        "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE" => {
            let value =
                u16::try_from(value).map_err(|_| Error::new(format!("errnoRet {value} is above 65535")))?;
            if name == "SCMP_ACT_TRACE" { ScmpAction::Trace(value) } else { ScmpAction::Errno(value.into()) }
        }
        "" => return Err(Error::new("an action is missing")),
        _ => return Err(Error::new(format!("unknown action {name:?}"))),
    })
}

fn comparison(arg: &LinuxSeccompArg) -> Result<ScmpArgCompare, Error> {
    let (op, value) = match arg.op.as_str() {
        "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, arg.value),
        "SCMP_CMP_LT" => (ScmpCompareOp::Less, arg.value),
        "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, arg.value),
        "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, arg.value),
        "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, arg.value),
        "SCMP_CMP_GT" => (ScmpCompareOp::Greater, arg.value),
        "SCMP_CMP_MASKED_EQ" => (ScmpCompareOp::MaskedEqual(arg.value), arg.value_two),
        other => return Err(Error::new(format!("unknown operator {other:?}"))),
    };
    if arg.index > 5 {
        return Err(Error::new(format!("argument index {} is above 5", arg.index)));
    }
    Ok(ScmpArgCompare::new(arg.index, op, value))
}

fn add(context: &mut ScmpFilterContext, rule: &LinuxSyscall, default: ScmpAction) -> Result<(), Error> {
    let action = action(&rule.action, rule.errno_ret)?;
    let comparisons = rule.args.iter().map(comparison).collect::<Result<Vec<_>, _>>()?;
    if action == default {
        return Ok(());
    }
    // libseccomp takes one condition for each argument of a rule. Where a profile has two, each becomes
    // a rule of its own: "or" where the profile says "and". runc and docker's old profiles have it so.
    let twice = (0..6).any(|index| rule.args.iter().filter(|arg| arg.index == index).count() > 1);
    for name in &rule.names {
        if name.is_empty() {
            return Err(Error::new("a system call's name is empty"));
        }
        if action == ScmpAction::Notify && name == "write" {
            return Err(Error::new("SCMP_ACT_NOTIFY cannot be used for write: the set-up needs it"));
        }
        // A name that libseccomp does not know is skipped: profiles name calls of newer kernels.
        let Ok(call) = ScmpSyscall::from_name(name) else { continue };
        let failed = |e| Error::because(&format!("add rule for {name}"), &e);
        if comparisons.is_empty() {
            context.add_rule(action, call).map_err(failed)?;
        } else if twice {
            for comparison in &comparisons {
                context.add_rule_conditional(action, call, &[*comparison]).map_err(failed)?;
            }
        } else {
            context.add_rule_conditional(action, call, &comparisons).map_err(failed)?;
        }
    }
    Ok(())
}

fn export(context: &ScmpFilterContext) -> Result<Vec<Instruction>, Error> {
    let failed = |e: &dyn std::fmt::Display| Error::because("export filter", e);
    let memory = rustix::fs::memfd_create("seccomp", MemfdFlags::CLOEXEC).map_err(|e| failed(&e))?;
    let mut file = std::fs::File::from(memory);
    context.export_bpf(&file).map_err(|e| failed(&e))?;
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(|e| failed(&e))?;
    super::decode(&bytes).ok_or_else(|| Error::new("libseccomp made no filter"))
}

/// `ld arch; [jne ARCH, over; ld nr; …; ret ENOSYS; ja end]…`, or nothing where nothing is denied.
fn stub(profile: &LinuxSeccomp, default: ScmpAction, architectures: &[(ScmpArch, u32)]) -> Vec<Instruction> {
    if matches!(default, ScmpAction::Allow | ScmpAction::Log) || default == ScmpAction::Errno(libc::ENOSYS) {
        return Vec::new();
    }
    let mut blocks: Vec<(u32, Vec<Instruction>)> = Vec::new();
    for &(arch, audit) in architectures {
        if blocks.iter().any(|(known, _)| *known == audit) {
            continue;
        }
        let largest = |arch| largest(profile, arch);
        let block = match arch {
            ScmpArch::X8664 | ScmpArch::X32 => {
                let has = |wanted| architectures.iter().any(|(arch, _)| *arch == wanted);
                let plain = has(ScmpArch::X8664).then(|| largest(ScmpArch::X8664)).flatten();
                let x32 = has(ScmpArch::X32).then(|| largest(ScmpArch::X32)).flatten();
                x86_block(plain, x32)
            }
            _ => largest(arch).map(|last| vec![above(last, 1), ret_enosys()]).unwrap_or_default(),
        };
        blocks.push((audit, block));
    }
    blocks.retain(|(_, block)| !block.is_empty());
    if blocks.is_empty() {
        return Vec::new();
    }
    let sizes: Vec<usize> = blocks.iter().map(|(_, block)| block.len() + 3).collect();
    let mut program = vec![load(4)];
    for (index, (audit, block)) in blocks.into_iter().enumerate() {
        let rest: usize = sizes[index + 1..].iter().sum();
        // The filter that follows loads what it needs itself, so the accumulator may hold anything.
        program.push(Instruction {
            code: JEQ,
            jt: 0,
            jf: u8::try_from(block.len() + 2).unwrap_or(u8::MAX),
            k: audit,
        });
        program.push(load(0));
        program.extend(block);
        program.push(Instruction { code: JA, jt: 0, jf: 0, k: u32::try_from(rest).unwrap_or(0) });
    }
    program
}

fn x86_block(plain: Option<u32>, x32: Option<u32>) -> Vec<Instruction> {
    let test = |last: Option<u32>| last.map(|last| vec![above(last, 1), ret_enosys()]).unwrap_or_default();
    let (plain, x32) = (test(plain), test(x32));
    if plain.is_empty() && x32.is_empty() {
        return Vec::new();
    }
    // Below the bit: the plain test, then over the other one.
    let over = u32::try_from(x32.len()).unwrap_or(0);
    let mut block =
        vec![Instruction { code: JGE, jt: u8::try_from(plain.len() + 1).unwrap_or(0), jf: 0, k: X32_BIT }];
    block.extend(plain);
    block.push(Instruction { code: JA, jt: 0, jf: 0, k: over });
    block.extend(x32);
    block
}

/// The largest number of any call that the profile names. x32's come with their bit.
fn largest(profile: &LinuxSeccomp, arch: ScmpArch) -> Option<u32> {
    let names = profile.syscalls.iter().flat_map(|rule| &rule.names);
    let numbers = names.filter_map(|name| ScmpSyscall::from_name_by_arch(name, arch).ok());
    numbers.filter_map(|call| u32::try_from(call.as_raw_syscall()).ok()).max().filter(|&last| last > 0)
}

const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const JA: u16 = 0x05;

fn load(offset: u32) -> Instruction {
    Instruction { code: 0x20, jt: 0, jf: 0, k: offset }
}

/// Goes on when the number is above `last`, else jumps over the next `skip`.
fn above(last: u32, skip: u8) -> Instruction {
    Instruction { code: JGT, jt: 0, jf: skip, k: last }
}

fn ret_enosys() -> Instruction {
    Instruction { code: 0x06, jt: 0, jf: 0, k: 0x0005_0000 | libc::ENOSYS.unsigned_abs() }
}
