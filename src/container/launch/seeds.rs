//! What the fuzz targets begin with: real frames, made as the library makes them, and what is none.
//!
//! `CELLBLOCK_WRITE_SEEDS=1 cargo test seeds` writes them to `fuzz/corpus`.

use super::*;
use crate::command::Command;
use crate::container::OpenFile;
use crate::limits::{Limits, Resource};
use crate::mount::Mount;
use crate::wire::{
    CgroupVersion, Counter, FdRole, Figure, GroupFile, GroupFiles, KillReason, Measurement, Symlink, WaitStatus,
    fuzzing,
};
use serde::Serialize;

/// A datagram of a script, as `wire::fuzzing` reads it.
fn part(place: u8, fds: usize, repeat: u8, bytes: &[u8]) -> Vec<u8> {
    let [low, high] = u16::try_from(bytes.len()).unwrap().to_le_bytes();
    [&[place, fds.try_into().unwrap(), repeat, low, high], bytes].concat()
}

fn message(body: &impl Serialize, fds: usize) -> Vec<u8> {
    let null: Arc<OwnedFd> = Arc::new(File::open("/dev/null").unwrap().into());
    let datagrams = wire::encode(3, body, vec![null; fds]).unwrap();
    datagrams.iter().flat_map(|it| part(0, it.fds.len(), 0, &it.bytes)).collect()
}

fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let builder = ContainerBuilder::default()
        .symlink("/proc/self/fd", "/dev/fd")
        .masked_paths(["/proc/keys"])
        .mount(Mount::bind("/", "/x"));
    let (configure, fds) = configuration(&builder, &Mapping::Shared, true).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", ":"]).env("PATH", "/bin").current_dir("/tmp").rlimit(Resource::Stack, 1, u64::MAX);
    let limits = Limits::new().cpu_time(Duration::from_secs(1)).allow_weaker(true);
    let plan = limits.plan(&ContainerInfo::for_tests().grants, false).unwrap();
    let execve = Request::StartRun(command.to_start_run([0, 1, 2].map(FdRole::Program).into(), false, &plan).unwrap());
    let program = File::open("/bin/sh").unwrap();
    let roles = vec![FdRole::Program(3), FdRole::Executable];
    let attached = Request::StartRun(Command::from_fd("sh", program).to_start_run(roles, true, &plan).unwrap());
    let in_memfd = |place, repeat| {
        let ping = wire::encode(1, &Request::Ping, Vec::new()).unwrap();
        let mut bytes = ping.into_iter().next().unwrap().bytes;
        bytes[0] = 2;
        part(place, 1, repeat, &bytes)
    };
    let link = Symlink { target: "a".into(), path: "/w/b".into() };
    vec![
        ("start", message(&Request::Start { cgroup_namespace: true }, 0)),
        ("configure", message(&Request::Configure(configure), fds.len())),
        (
            "open",
            message(
                &Request::Open(
                    [OpenFile::read("a"), OpenFile::write("b", 0o644).create_parents()].map(Into::into).into(),
                ),
                0,
            ),
        ),
        ("symlink", message(&Request::Symlink(vec![link]), 0)),
        ("delete", message(&Request::Delete("/w/a".into()), 0)),
        ("run", [message(&execve, 3), message(&Request::Kill(3, KillReason::Output), 0)].concat()),
        ("run_attached", message(&attached, 2)),
        ("join", message(&Request::Join(GroupFiles { version: CgroupVersion::V1, files: group_files() }), 3)),
        ("several", [message(&Request::Ping, 0), message(&Request::Reset, 0), message(&Request::Ping, 0)].concat()),
        ("in_memfd", in_memfd(1, 0)),
        ("in_open_memfd", in_memfd(2, 0)),
        // Each of no byte.
        ("many_paths", part(1, 0, 0xfd, b"\x02\x92\0\x81\xa9Configure\x99\x90\x90\xdd\0\x10\0\x01\xa0")),
        ("in_large_memfd", in_memfd(1, 0xfe)),
        ("in_larger_memfd", in_memfd(1, 0xff)),
    ]
}

fn group_files() -> Vec<GroupFile> {
    let counter = Counter { figure: Figure::CpuTime, key: "usage_usec".into(), unit: 1000 };
    vec![GroupFile::Tasks, GroupFile::Directory, GroupFile::Counter(counter)]
}

fn replies() -> Vec<(&'static str, Vec<u8>)> {
    let failure = || Failure::at(Step::Open, "/w/a", nix::Error::ENOENT);
    let report = |status| Reply::Ended(Measurement::of(status));
    vec![
        ("hello", message(&Reply::Hello(wire::VERSION), 0)),
        ("started", message(&Reply::Started, 1)),
        ("done", [message(&Reply::Done, 0), message(&Reply::Done, 0)].concat()),
        ("opened", message(&Reply::Opened(vec![None, Some(failure()), None]), 2)),
        ("linked", message(&Reply::Linked(vec![None, Some(failure())]), 0)),
        ("exited", message(&report(WaitStatus::exited(3)), 0)),
        ("signaled", message(&report(WaitStatus::signaled(11, true)), 0)),
        ("failed", message(&Reply::Failed(failure()), 0)),
        ("in_memfd", part(1, 0, 0, &[2, 0x92, 0, 0xc0])),
    ]
}

/// Broken in either direction.
fn broken() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("empty", part(0, 1, 0, b"")),
        ("garbage", part(0, 0, 0, b"\0garbage")),
        ("unknown_header", part(0, 1, 0, &[0xff, 1])),
        ("unknown_variant", part(0, 0, 0, b"\0\x92\0\xa8\x1b[31mRed")),
        ("long_variant", part(0, 0, 0xf9, b"\0\x92\0\xda\x04\x01\n")),
        ("nested", part(0, 0, 0xfa, &[0, 0x91])),
        ("nested_request", part(0, 0, 0xfa, b"\0\x92\0\x81\xa8StartRun\x81\xa1x\x91")),
        ("nested_reply", part(0, 0, 0xfa, b"\0\x92\0\x81\xa6Failed\x81\xa1x\x91")),
        ("long_array", part(0, 0, 0, b"\0\x92\x01\x81\xa6Opened\xdd\xff\xff\xff\xff")),
        ("oversized", part(0, 1, 0xfc, &[0, 0xc0])),
        ("more_without_fds", part(0, 0, 0, &[1, 0x92])),
        ("many_fds", [part(0, 253, 0, b"\x01\x92\0\xa4Ping"), part(0, 253, 0, &[1]), part(0, 1, 0, &[0])].concat()),
        ("unfinished", part(0, 200, 0, b"\x01\x92\0\xa4Done")),
    ]
}

#[test]
fn the_seeds_are_played() {
    let (requests, replies): (Vec<_>, Vec<_>) = ([requests(), broken()].concat(), [replies(), broken()].concat());
    for (target, seeds) in [("requests", requests), ("replies", replies)] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        for (name, script) in seeds {
            match target {
                "requests" => fuzzing::requests(&script),
                _ => fuzzing::replies(&script),
            }
            if std::env::var_os("CELLBLOCK_WRITE_SEEDS").is_some() {
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(dir.join(name), &script).unwrap();
            }
        }
    }
}
