//! The container's filter, compiled from the table of what is refused.

use super::program::{ARGUMENTS, Instruction, Leaf, Segment, filter, finish, jump, load, merged, statement};
use super::rule::{Answer, Checks, Condition, Rule};
use super::table::Arch;

/// What a container needs that its filter otherwise refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Pid 1 starts programs in a cgroup with `clone3`, whose flags no filter can see. Only the
    /// kernel refuses namespaces to programs then. Otherwise `clone3` does not exist for programs,
    /// and the C library falls back to `clone`.
    pub(crate) clone3: bool,
    /// Programs can write to a file system of the host, and may want their data to be on its disk.
    pub(crate) sync: bool,
    /// Pid 1 enters another root directory at a reset. The kernel refuses that to programs, which
    /// have no capability.
    pub(crate) chroot: bool,
}

/// Compiles the filter of an architecture. `kills` makes forbidden calls kill the process.
pub(super) fn compile(arch: &Arch, kills: bool, needs: Needs) -> Vec<Instruction> {
    let foreign = Answer::Forbid(libc::ENOSYS).action(kills);
    filter(arch.audit, foreign, &segments(arch, kills, needs), &|checks| check(checks, kills))
}

/// All call numbers, in order and without gaps.
fn segments(arch: &Arch, kills: bool, needs: Needs) -> Vec<Segment> {
    let mut ranges = ranges(arch, kills, needs);
    ranges.sort_unstable_by_key(|(first, ..)| *first);

    let mut segments = Vec::new();
    let mut next = Some(0);
    for (first, last, leaf) in ranges {
        if next != Some(first) {
            let first = next.expect("no range begins after the last number");
            segments.push(Segment { first, leaf: Leaf::Return(libc::SECCOMP_RET_ALLOW) });
        }
        segments.push(Segment { first, leaf });
        next = last.checked_add(1);
    }
    assert_eq!(next, None, "the unknown numbers reach up to the last number");
    merged(segments)
}

/// The numbers that the table names, as first, last and what the filter does.
fn ranges(arch: &Arch, kills: bool, needs: Needs) -> Vec<(u32, u32, Leaf)> {
    let leaf = |rule: &Rule| match rule {
        Rule::Always(answer) => Leaf::Return(answer.action(kills)),
        Rule::Check(checks) => Leaf::Check(checks),
    };
    let is_needed = |number| {
        (needs.clone3 && number == arch.clone3)
            || (needs.sync && arch.syncs.contains(&number))
            || (needs.chroot && number == arch.chroot)
    };
    let calls = arch.calls.iter().filter(|(number, _)| !is_needed(*number));
    let calls = calls.map(|(number, rule)| (*number, *number, leaf(rule)));
    let unknown = arch.unknown.iter().map(|(first, last, answer)| (*first, *last, Leaf::Return(answer.action(kills))));
    calls.chain(unknown).collect()
}

fn check(checks: &Checks, kills: bool) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (conditions, answer) in checks.cases {
        let met = vec![finish(answer.action(kills))];
        code.extend(conditions.iter().rev().fold(met, |met, condition| require(condition, met)));
    }
    code.push(finish(checks.default.action(kills)));
    code
}

/// Runs `met` if the condition is met, and skips it otherwise.
fn require(condition: &Condition, met: Vec<Instruction>) -> Vec<Instruction> {
    let mut code = vec![load(ARGUMENTS + 4 * condition.word)];
    if condition.mask != u32::MAX {
        code.push(statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, condition.mask));
    }
    let values = condition.among;
    for (index, value) in values.iter().enumerate() {
        let left = values.len() - 1 - index;
        code.push(jump(libc::BPF_JEQ, *value, left, if left == 0 { met.len() } else { 0 }));
    }
    code.extend(met);
    code
}
