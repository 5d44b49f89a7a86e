//! Every number of a call is answered as the table says.

use crate::seccomp::denylist::{Needs, compile};
use crate::seccomp::table::{AARCH64, X86_64};

use super::machine::{Call, HIGH, KILL, answer, errno, expected, machines, run};

#[test]
fn every_number_is_answered_as_the_table_says() {
    let arguments =
        [0, 1, 2, 3, 4, 6, 10, 17, 26, 41, 62, 1026, 0x5412, 0x8906, 0x2000_0000, u64::MAX, HIGH | 1, 1 << 32];
    let edges = [600, 0x3FFF_FFFF, 0x4000_0000, 0x4000_0010, 0x7FFF_FFFF, 0x8000_0000, u32::MAX];
    for (arch, name, _) in machines() {
        for kills in [false, true] {
            for needs in [Needs::default(), Needs { clone3: true, sync: true, chroot: true }] {
                let program = compile(&arch, kills, needs);
                for number in (0..=600).chain(edges) {
                    for (first, second) in arguments.iter().flat_map(|a| arguments.iter().map(move |b| (*a, *b))) {
                        for (third, fourth) in [(0, 0), (6, 4), (HIGH | 17, HIGH | 0x4_0000), (0x1_4800, HIGH)] {
                            let arguments = [first, second, third, fourth, 0, first << 7];
                            let call = Call { number, audit: arch.audit, arguments };
                            let (action, _) = run(&program, call, true).unwrap();
                            assert_eq!(action, expected(&arch, kills, needs, call), "{name} {number} {arguments:x?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_foreign_architecture_is_refused_whatever_the_number() {
    for (arch, _, _) in machines() {
        for audit in
            [0x4000_0003, 0x4000_0028, X86_64.audit, AARCH64.audit, 0].into_iter().filter(|it| *it != arch.audit)
        {
            for number in 0..600 {
                let call = Call { number, audit, arguments: [0; 6] };
                let [refused, killed] =
                    [false, true].map(|kills| run(&compile(&arch, kills, Needs::default()), call, true));
                assert_eq!((refused.unwrap().0, killed.unwrap().0), (errno(libc::ENOSYS), KILL));
            }
        }
    }
}

#[test]
fn unknown_numbers_are_exactly_the_numbers_of_no_call() {
    let is_call: [fn(usize) -> bool; 2] =
        [|it| syscalls::x86_64::Sysno::new(it).is_some(), |it| syscalls::aarch64::Sysno::new(it).is_some()];
    for ((arch, name, _), is_call) in machines().into_iter().zip(is_call) {
        // The table considers calls up to this one. The crate may know newer ones.
        for number in 0..=469 {
            let is_unknown = arch.unknown.iter().any(|(first, last, _)| (*first..=*last).contains(&number));
            // A call that the crate does not know, and calls that 64-bit kernels do not have.
            let is_uprobe = name == "x86_64" && number == 336;
            let is_for_32_bits = name == "aarch64" && (403..=423).contains(&number);
            let is_call = (is_call(number as usize) || is_uprobe) && !is_for_32_bits;
            assert_eq!(is_unknown, !is_call, "{name} {number}");
        }
        assert_eq!(answer(&arch, true, 470, &[]), errno(libc::ENOSYS));
    }
}
