//! A device policy as a program of type `BPF_PROG_TYPE_CGROUP_DEVICE` (cgroup v2).
//!
//! ```text
//! r2 = kind, r3 = access asked for, r4 = major, r5 = minor
//! for each exception:  all of it matches → return !default
//! return default
//! ```

use super::devices::{DevicePolicy, Devices, Kind};
use sys::bpf::Instruction;

const BPF_DEVCG_DEV_BLOCK: i32 = 1;
const BPF_DEVCG_DEV_CHAR: i32 = 2;
const ALL: u8 = 7;

/// The program that answers as `policy` says: 1 allows, 0 denies.
pub(super) fn program(policy: &DevicePolicy) -> Vec<Instruction> {
    let mut out = vec![
        // struct bpf_cgroup_dev_ctx: u32 access_type (access << 16 | kind), major, minor.
        load(2, 0),
        move32(3, 2),
        and32(2, 0xffff),
        shift_right32(3, 16),
        load(4, 4),
        load(5, 8),
    ];
    for (devices, access) in &policy.exceptions {
        out.extend(block(*devices, access.bits(), policy.default_allow));
    }
    out.extend(answer(policy.default_allow));
    out
}

fn block(devices: Devices, access: u8, default_allow: bool) -> Vec<Instruction> {
    let kind = match devices.kind {
        Kind::Block => BPF_DEVCG_DEV_BLOCK,
        Kind::Char => BPF_DEVCG_DEV_CHAR,
    };
    let mut tests = vec![jump_unless_equal(2, kind)];
    if access != ALL {
        tests.extend([move32(1, 3), and32(1, i32::from(access))]);
        // Allowed only if all that is asked for is; denied if any of it is.
        tests.push(if default_allow { jump_if_equal(1, 0) } else { jump_unless_same(1, 3) });
    }
    if let Some(major) = devices.major {
        tests.push(jump_unless_equal(4, major.cast_signed()));
    }
    if let Some(minor) = devices.minor {
        tests.push(jump_unless_equal(5, minor.cast_signed()));
    }
    tests.extend(answer(!default_allow));
    let end = tests.len();
    for (index, instruction) in tests.iter_mut().enumerate() {
        if matches!(instruction.code, JNE_K | JNE_X | JEQ_K) {
            instruction.offset = i16::try_from(end - index - 1).unwrap_or(i16::MAX);
        }
    }
    tests
}

fn answer(allow: bool) -> [Instruction; 2] {
    [instruction(0xb4, 0, 0, i32::from(allow)), instruction(0x95, 0, 0, 0)]
}

// 32-bit forms throughout: the numbers are u32, and immediates would be sign-extended to 64 bits.
const JEQ_K: u8 = 0x16;
const JNE_K: u8 = 0x56;
const JNE_X: u8 = 0x5e;

fn instruction(code: u8, destination: u8, source: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset: 0, immediate }
}

/// `destination = *(u32 *)(r1 + offset)`
fn load(destination: u8, offset: i16) -> Instruction {
    Instruction { offset, ..instruction(0x61, destination, 1, 0) }
}

fn move32(destination: u8, source: u8) -> Instruction {
    instruction(0xbc, destination, source, 0)
}

fn and32(destination: u8, mask: i32) -> Instruction {
    instruction(0x54, destination, 0, mask)
}

fn shift_right32(destination: u8, bits: i32) -> Instruction {
    instruction(0x74, destination, 0, bits)
}

fn jump_unless_equal(register: u8, value: i32) -> Instruction {
    instruction(JNE_K, register, 0, value)
}

fn jump_if_equal(register: u8, value: i32) -> Instruction {
    instruction(JEQ_K, register, 0, value)
}

fn jump_unless_same(left: u8, right: u8) -> Instruction {
    instruction(JNE_X, left, right, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `program` as the kernel would, over the few instructions that are used.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> u32 {
        let context = [access << 16 | kind, major, minor];
        let mut r = [0u32; 6];
        let mut pc = 0usize;
        loop {
            let i = program[pc];
            let (d, s) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            let k = i.immediate.cast_unsigned();
            pc += 1;
            let jump = match i.code {
                0x61 => {
                    r[d] = context[usize::try_from(i.offset).unwrap() / 4];
                    false
                }
                0xbc => {
                    r[d] = r[s];
                    false
                }
                0xb4 => {
                    r[d] = k;
                    false
                }
                0x54 => {
                    r[d] &= k;
                    false
                }
                0x74 => {
                    r[d] >>= k;
                    false
                }
                JEQ_K => r[d] == k,
                JNE_K => r[d] != k,
                JNE_X => r[d] != r[s],
                0x95 => return r[0],
                other => panic!("{other:#x}"),
            };
            if jump {
                pc += usize::try_from(i.offset).unwrap();
            }
        }
    }

    #[test]
    fn it_answers_as_the_policy_says() {
        const B: u32 = 1;
        const C: u32 = 2;
        let (m, r, w) = (1, 2, 4);
        let deny = DevicePolicy::from_list("c 1:3 rwm\nc 10:229 r\nb *:* m\nc 136:* rw\n");
        let cases = [
            (C, r | w, 1, 3, 1),
            (C, m, 1, 3, 1),
            (B, r, 1, 3, 0),
            (C, r, 10, 229, 1),
            (C, r | w, 10, 229, 0),
            (C, w, 10, 229, 0),
            (B, m, 8, 16, 1),
            (B, m | r, 8, 16, 0),
            (C, r | w, 136, 77, 1),
            (C, r, 135, 77, 0),
            (C, r, 1, 5, 0),
        ];
        let program = self::program(&deny);
        for (kind, access, major, minor, expected) in cases {
            assert_eq!(
                run(&program, kind, access, major, minor),
                expected,
                "{kind} {access} {major}:{minor}"
            );
        }
        let mut allow = DevicePolicy::from_list("b 8:0 w\n");
        allow.default_allow = true;
        let program = self::program(&allow);
        for (access, minor, expected) in [(r, 0, 1), (w, 0, 0), (r | w, 0, 0), (r | w, 1, 1)] {
            assert_eq!(run(&program, B, access, 8, minor), expected, "{access} {minor}");
        }
    }
}
