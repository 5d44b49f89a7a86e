//! A run of each kind beside the file commands, and each end.

use super::super::seeds::{self, Seed};
use super::{ACTS, Act, commands};

const RUN: [u8; 4] = act(Act::Run, 0, 0, 0);

const fn act(act: Act, a: u8, b: u8, c: u8) -> [u8; 4] {
    let mut kind = 0;
    while ACTS[kind] as u8 != act as u8 {
        kind += 1;
    }
    [kind as u8, a, b, c]
}

fn seeds() -> [Seed; 9] {
    let files = [
        act(Act::Program, 0, 0, 0),
        RUN,
        act(Act::Open, 0, 0x86, 3),
        act(Act::Symlink, 0, 18, 3),
        act(Act::MakeDirectories, 2, 0, 3),
        act(Act::Delete, 2, 0, 0),
        act(Act::Rename, 0, 1, 0),
        act(Act::Inspect, 0, 0, 0),
        act(Act::Inspect, 1, 0, 0),
        act(Act::Inspect, 2, 14, 0),
        act(Act::Open, 0, 0, 5),
        act(Act::Settle, 0, 0, 0),
        act(Act::Kill, 0, 0, 0),
        act(Act::Reset, 0, 0, 0),
        act(Act::Fingerprint, 0, 0, 0),
        act(Act::Ping, 0, 0, 0),
    ];
    let runs = (0..12).flat_map(|kind| [act(Act::Program, kind, 18, 0), act(Act::Fds, 2, 3, 1), RUN]);
    let limited = [
        act(Act::Limit, 6, 4, 4),
        act(Act::Affinity, 0, 1, 0),
        act(Act::Times, 4, 4, 1),
        act(Act::Strings, 1, 4, 2),
        act(Act::Terminal, 0, 0, 0),
        act(Act::Directory, 14, 0, 0),
        RUN,
        act(Act::Gate, 2, 0, 0),
        RUN,
        act(Act::Filter, 2, 1, 0),
        RUN,
    ];
    let frozen = [
        act(Act::Program, 4, 0, 0),
        RUN,
        act(Act::Open, 0, 0x86, 3),
        act(Act::Freeze, 0, 0, 0),
        act(Act::Open, 4, 0x86, 3),
        act(Act::Delete, 2, 0, 0),
        act(Act::Reset, 0, 0, 0),
        act(Act::Open, 0, 0, 5),
        act(Act::Freeze, 0, 0, 0),
        act(Act::Symlink, 0, 18, 3),
    ];
    const BESIDE: [u8; 4] = act(Act::RunBeside, 0, 0, 0);
    let beside = [
        act(Act::Program, 0, 0, 0),
        RUN,
        act(Act::Program, 0, 0, 0),
        act(Act::Gate, 2, 0x40, 0),
        BESIDE,
        act(Act::Program, 2, 0, 0),
        BESIDE,
        act(Act::Program, 8, 18, 0),
        BESIDE,
        act(Act::Program, 4, 0, 0),
        act(Act::Times, 3, 0, 1),
        BESIDE,
        act(Act::Settle, 0xff, 5, 0),
        act(Act::Kill, 0x40, 3, 15),
        act(Act::Kill, 0x80, 0, 0),
        act(Act::Open, 0, 0, 5),
        act(Act::Kill, 0, 0, 0),
        BESIDE,
        act(Act::Reset, 0, 0, 0),
    ];
    let end = |how| [act(Act::Program, 0, 0, 0), RUN, act(Act::Last, 0xff, how, 0)].concat();
    [
        ("beside", beside.concat()),
        ("files", files.concat()),
        ("runs", runs.collect::<Vec<_>>().concat()),
        ("limited", limited.concat()),
        ("frozen", frozen.concat()),
        ("far_descriptors", [act(Act::Fds, 0, 13, 0), RUN].concat()),
        ("another_group", [act(Act::Last, 0xd0, 0x22, 3), RUN].concat()),
        ("out_of_place", end(0)),
        ("closed", end(3)),
    ]
}

#[test]
fn the_seeds_are_played() {
    let test = std::env::current_exe().unwrap();
    let init = test.ancestors().nth(2).unwrap().join("cellblock-init");
    seeds::play("commands", seeds(), |script| {
        if init.exists() {
            commands(&init, script, &mut |_| {});
        } else {
            println!("skipped: {} is not built", init.display());
        }
    });
}
