//! Real messages, as the library sends them, and broken ones.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::super::fake_init::{FakeInit, PATIENCE};
use super::super::seeds::{self, Seed};
use super::{replies, requests};
use crate::container::OpenFile;
use crate::container::fuzzing::{
    CgroupVersion, ContainerSpec, Counter, Failure, Figure, GroupFile, GroupFiles, KillReason, Mapping, Measurement,
    RawMetadata, Reply, Request, Step, VERSION, WaitStatus, configuration, encode,
};
use crate::limits::Resource;
use crate::mount::Mount;
use crate::{Command, Container, Limits, Stdio};

#[test]
fn the_seeds_are_played() {
    seeds::play("requests", [request_seeds(), broken_seeds()].concat(), requests);
    seeds::play("replies", [reply_seeds(), broken_seeds()].concat(), replies);
}

fn request_seeds() -> Vec<Seed> {
    let start = message(&Request::Start { cgroup_namespace: true }, 0);
    let configure = {
        let mut spec = ContainerSpec::default();
        spec.mounts.added.push(Mount::bind("/", "/x"));
        let (configure, fds) = configuration(&spec, None, &Mapping::Shared, true).unwrap();
        message(&Request::Configure(configure), fds.len())
    };
    let open = sent(async |it| drop(it.open([OpenFile::read("a"), OpenFile::write("b").create_parents()]).await));
    let symlink = sent(async |it| drop(it.symlink([("a", "/w/b")]).await));
    let delete = sent(async |it| drop(it.delete("/w/a").await));
    let make_directory = sent(async |it| drop(it.create_dir_all("/w/a/b").await));
    let rename = sent(async |it| drop(it.rename("a", "b").await));
    let metadata = sent(async |it| drop(it.metadata("a").await));
    let read_link = sent(async |it| drop(it.read_link("a").await));
    let open_directory = sent(async |it| drop(it.read_dir("a").await));
    let run = {
        let mut command = Command::new("sh");
        command.args(["-c", ":"]).env("PATH", "/bin").current_dir("/tmp").rlimit(Resource::Stack, 1, u64::MAX);
        command.limits(Limits::new().cpu_time(Duration::from_secs(1)).allow_weaker(true));
        let kill = message(&Request::Kill(1, KillReason::Output), 0);
        [sent(async |it| drop(it.output(&command).await)), kill].concat()
    };
    let run_attached = {
        let mut command = Command::from_fd("sh", File::open("/bin/sh").unwrap());
        command.stdin(Stdio::piped()).pid_hook(|_, _| async { Ok(()) });
        sent(async |it| drop(it.spawn(&command).await))
    };
    let join = {
        let counter = Counter { figure: Figure::CpuTime, key: "usage_usec".into(), unit: 1000 };
        let files = vec![GroupFile::Tasks, GroupFile::Directory, GroupFile::Counter(counter)];
        message(&Request::Join(GroupFiles { version: CgroupVersion::V1, files }), 3)
    };
    let several = [Request::Ping, Request::Reset, Request::Freeze].map(|it| message(&it, 0)).concat();
    // A million paths of no byte each.
    let many_paths = part(1, 0, 0xfd, b"\x02\x92\0\x81\xa9Configure\x9b\x90\x90\xdd\0\x10\0\x01\xa0");
    let in_memfd = |place, repeat| {
        let ping = encode(1, &Request::Ping, Vec::new()).unwrap();
        part(place, 1, repeat, &[&[2], &ping[0].bytes[1..]].concat())
    };
    vec![
        ("start", start),
        ("configure", configure),
        ("open", open),
        ("symlink", symlink),
        ("delete", delete),
        ("make_directory", make_directory),
        ("rename", rename),
        ("metadata", metadata),
        ("read_link", read_link),
        ("open_directory", open_directory),
        ("run", run),
        ("run_attached", run_attached),
        ("join", join),
        ("signal", message(&Request::Signal(1, libc::SIGINT), 0)),
        ("several", several),
        ("in_memfd", in_memfd(1, 0)),
        ("in_open_memfd", in_memfd(2, 0)),
        ("many_paths", many_paths),
        ("in_large_memfd", in_memfd(1, 0xfe)),
        ("in_larger_memfd", in_memfd(1, 0xff)),
    ]
}

fn reply_seeds() -> Vec<Seed> {
    let failure = || Failure::at(Step::Open, "/w/a", nix::Error::ENOENT);
    let ended = |status| message(&Reply::Ended(Measurement::of(status)), 0);
    vec![
        ("hello", message(&Reply::Hello(VERSION), 0)),
        ("started", message(&Reply::Started, 1)),
        ("done", [message(&Reply::Done, 0), message(&Reply::Done, 0)].concat()),
        ("opened", message(&Reply::Opened(vec![None, Some(failure()), None]), 2)),
        ("each", message(&Reply::Each(vec![None, Some(failure())]), 0)),
        ("metadata", message(&Reply::Metadata(RawMetadata::default()), 0)),
        ("target", message(&Reply::Target("/w/a".into()), 0)),
        ("directory", message(&Reply::Directory, 1)),
        ("exited", ended(WaitStatus::exited(3))),
        ("signaled", ended(WaitStatus::signaled(11, true))),
        ("failed", message(&Reply::Failed(failure()), 0)),
        ("in_memfd", part(1, 0, 0, &[2, 0x92, 0, 0xc0])),
    ]
}

/// What is broken in either direction.
fn broken_seeds() -> Vec<Seed> {
    let many_fds = [part(0, 253, 0, b"\x01\x92\0\xa4Ping"), part(0, 253, 0, &[1]), part(0, 1, 0, &[0])];
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
        ("many_fds", many_fds.concat()),
        ("unfinished", part(0, 200, 0, b"\x01\x92\0\xa4Done")),
    ]
}

/// The script of the request that a container sends for a call.
fn sent(call: impl AsyncFnOnce(&Container)) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (container, mut init) = FakeInit::start(PATIENCE);
        let request = async {
            loop {
                match init.receive(false) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::task::yield_now().await,
                    request => return request.unwrap().unwrap(),
                }
            }
        };
        tokio::select! {
            request = request => message(&request.body, request.fds.len()),
            () = call(&container) => panic!("the call ended without a request"),
        }
    })
}

/// The script of a message that the library encodes.
fn message(body: &impl Serialize, fds: usize) -> Vec<u8> {
    let null: Arc<OwnedFd> = Arc::new(File::open("/dev/null").unwrap().into());
    let datagrams = encode(1, body, vec![null; fds]).unwrap();
    datagrams.iter().flat_map(|it| part(0, it.fds.len(), 0, &it.bytes)).collect()
}

/// One datagram of a script.
fn part(place: u8, fds: usize, repeat: u8, bytes: &[u8]) -> Vec<u8> {
    let [low, high] = u16::try_from(bytes.len()).unwrap().to_le_bytes();
    [&[place, fds.try_into().unwrap(), repeat, low, high], bytes].concat()
}
