//! An interpreter of filters, and the answers of the table.

use crate::seccomp::denylist::{Needs, compile};
use crate::seccomp::program::{ARCHITECTURE, ARGUMENTS, Instruction, NUMBER};
use crate::seccomp::rule::{Answer, Condition, Rule};
use crate::seccomp::table::{AARCH64, Arch, X86_64};

pub(super) const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
pub(super) const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
pub(super) const HIGH: u64 = 0xDEAD_BEEF_0000_0000;

/// struct seccomp_data, without the instruction pointer.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) audit: u32,
    pub(super) arguments: [u64; 6],
}

pub(super) fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

/// Interprets a filter as the kernel does: the returned action, and the number of instructions run.
/// Without `knows_arguments` it evaluates what the kernel can evaluate when it installs the filter,
/// and returns `None` at the first look at an argument.
pub(super) fn run(program: &[Instruction], call: Call, knows_arguments: bool) -> Option<(u32, usize)> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
    const ALWAYS: u32 = libc::BPF_JMP | libc::BPF_JA;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let (mut at, mut accumulator) = (0, 0_u32);
    for steps in 1..=program.len() {
        let Instruction { code, jt, jf, k } = program[at];
        let skip = |holds: bool| usize::from(if holds { jt } else { jf });
        at += 1;
        match code.into() {
            LOAD if k == NUMBER => accumulator = call.number,
            LOAD if k == ARCHITECTURE => accumulator = call.audit,
            LOAD if !knows_arguments => return None,
            LOAD => {
                let word = (k - ARGUMENTS) / 4;
                assert!(k % 4 == 0 && word < 12);
                accumulator = (call.arguments[word as usize / 2] >> (32 * (word % 2))) as u32;
            }
            AND => accumulator &= k,
            ALWAYS => at += k as usize,
            EQUAL => at += skip(accumulator == k),
            AT_LEAST => at += skip(accumulator >= k),
            RETURN => return Some((k, steps)),
            other => panic!("instruction {at} has the code {other:#x}"),
        }
    }
    panic!("the program has a loop");
}

/// An architecture, its name, and its numbers by their names.
pub(super) type Machine = (Arch, &'static str, fn(&str) -> Option<u32>);

pub(super) fn machines() -> [Machine; 2] {
    [
        (X86_64, "x86_64", |name| name.parse::<syscalls::x86_64::Sysno>().ok().map(|it| it as u32)),
        (AARCH64, "aarch64", |name| name.parse::<syscalls::aarch64::Sysno>().ok().map(|it| it as u32)),
    ]
}

pub(super) fn answer(arch: &Arch, kills: bool, number: u32, arguments: &[u64]) -> u32 {
    let mut call = Call { number, audit: arch.audit, arguments: [0; 6] };
    call.arguments[..arguments.len()].copy_from_slice(arguments);
    run(&compile(arch, kills, Needs::default()), call, true).unwrap().0
}

/// The answer of the table, read from top to bottom.
pub(super) fn expected(arch: &Arch, kills: bool, needs: Needs, call: Call) -> u32 {
    if call.audit != arch.audit {
        return if kills { KILL } else { errno(libc::ENOSYS) };
    }
    let is_needed = needs.clone3 && call.number == arch.clone3
        || needs.sync && arch.syncs.contains(&call.number)
        || needs.chroot && call.number == arch.chroot;
    if is_needed {
        return ALLOW;
    }
    let met = |condition: &Condition| {
        let word = (call.arguments[condition.word as usize / 2] >> (32 * (condition.word % 2))) as u32;
        condition.among.contains(&(word & condition.mask))
    };
    let rule = arch.calls.iter().find(|(number, _)| *number == call.number).map(|(_, rule)| rule);
    let unknown = arch.unknown.iter().find(|(first, last, _)| (*first..=*last).contains(&call.number));
    let answer = match (rule, unknown) {
        (Some(Rule::Always(answer)), None) | (None, Some((_, _, answer))) => *answer,
        (Some(Rule::Check(checks)), None) => {
            let case = checks.cases.iter().find(|(conditions, _)| conditions.iter().all(met));
            case.map_or(checks.default, |(_, answer)| *answer)
        }
        (None, None) => Answer::Allow,
        (Some(_), Some(_)) => panic!("the call {} is in a range of unknown numbers", call.number),
    };
    answer.action(kills)
}
