//! Filters as programs of classic BPF (seccomp(2)).
//!
//! Invariant: a path to an answer that depends on no argument has only instructions that the kernel
//! can evaluate when it installs the filter. Since Linux 5.11 the kernel remembers the calls that
//! are always allowed, and does not run the filter for them.

use super::rule::Checks;

/// An instruction of a filter.
pub(crate) type Instruction = libc::sock_filter;

/// Offsets in `struct seccomp_data`: the call's number, the architecture and the first argument.
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
pub(super) const ARGUMENTS: u32 = 16;

/// A range of call numbers that are treated alike: from `first` up to the next segment.
pub(super) struct Segment {
    pub(super) first: u32,
    pub(super) leaf: Leaf,
}

/// What a filter does with the calls of a segment.
pub(super) enum Leaf {
    /// Returns this action.
    Return(u32),
    /// Looks at the arguments.
    Check(&'static Checks),
}

impl Segment {
    fn is_like(&self, other: &Self) -> bool {
        matches!((&self.leaf, &other.leaf), (Leaf::Return(action), Leaf::Return(other)) if action == other)
    }
}

/// The segments with neighbors joined that return the same action.
pub(super) fn merged(segments: impl IntoIterator<Item = Segment>) -> Vec<Segment> {
    let mut merged: Vec<Segment> = Vec::new();
    for segment in segments {
        if !merged.last().is_some_and(|last| last.is_like(&segment)) {
            merged.push(segment);
        }
    }
    merged
}

/// The whole filter: calls of a foreign architecture get the action `foreign`, and the others what
/// their segment says. `check` compiles the segments that look at arguments.
pub(super) fn filter(
    audit: u32,
    foreign: u32,
    segments: &[Segment],
    check: &dyn Fn(&Checks) -> Vec<Instruction>,
) -> Vec<Instruction> {
    let mut code = vec![load(ARCHITECTURE), jump(libc::BPF_JEQ, audit, 1, 0), finish(foreign), load(NUMBER)];
    code.extend(search(segments, check));
    code
}

/// Finds the segment of the loaded number by binary search.
fn search(segments: &[Segment], check: &dyn Fn(&Checks) -> Vec<Instruction>) -> Vec<Instruction> {
    match segments {
        [] => unreachable!("the segments cover every number"),
        [Segment { leaf: Leaf::Return(action), .. }] => vec![finish(*action)],
        [Segment { leaf: Leaf::Check(checks), .. }] => check(checks),
        _ => {
            let (low, high) = segments.split_at(segments.len() / 2);
            let low_code = search(low, check);
            let mut code = match u8::try_from(low_code.len()) {
                Ok(_) => vec![jump(libc::BPF_JGE, high[0].first, low_code.len(), 0)],
                // A conditional jump does not reach that far.
                Err(_) => vec![
                    jump(libc::BPF_JGE, high[0].first, 0, 1),
                    statement(libc::BPF_JMP | libc::BPF_JA, low_code.len() as u32),
                ],
            };
            code.extend(low_code);
            code.extend(search(high, check));
            code
        }
    }
}

/// Loads a word of `struct seccomp_data`.
pub(super) fn load(offset: u32) -> Instruction {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

/// Returns an action.
pub(super) fn finish(action: u32) -> Instruction {
    statement(libc::BPF_RET | libc::BPF_K, action)
}

pub(super) fn statement(code: u32, k: u32) -> Instruction {
    Instruction { code: code as u16, jt: 0, jf: 0, k }
}

/// Skips `holds` instructions if the comparison holds, and `fails` instructions otherwise.
pub(super) fn jump(comparison: u32, k: u32, holds: usize, fails: usize) -> Instruction {
    // `search` splits longer jumps. The others come from the table, and the tests compile all of
    // them.
    let skip = |count| u8::try_from(count).expect("a jump of at most 255 instructions");
    let code = libc::BPF_JMP | comparison | libc::BPF_K;
    Instruction { code: code as u16, jt: skip(holds), jf: skip(fails), k }
}
