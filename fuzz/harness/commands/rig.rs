//! An init under test, kept for as many scripts as it survives.

use std::path::Path;
use std::time::Duration;

use nix::poll::PollFlags;

use super::check::Owed;
use super::descriptors::{Descriptor, Descriptors};
use super::draft::Draft;
use super::inputs::{count, file, name, path, pick};
use super::session::{Session, wait_for};
use super::{ACTS, Act, LONG};
use crate::container::Fingerprint;
use crate::container::fuzzing::{
    CgroupVersion, ContainerSpec, Counter, Figure, GroupFile, GroupFiles, MakeDirectory, Pty, Rename, Request, Symlink,
    Window, launch,
};

pub(super) struct Rig {
    session: Session,
    descriptors: Descriptors,
    /// What the init was like before the first script: its fingerprint, and how many descriptors it
    /// had.
    first: (Fingerprint, Option<usize>),
    _terminal: Pty,
    /// Dropped last: the session and the terminal are registered with it.
    _runtime: tokio::runtime::Runtime,
}

impl Rig {
    pub(super) fn new(init_exe: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let spec = ContainerSpec { init_exe: init_exe.into(), start_timeout: LONG, ..ContainerSpec::default() };
        let connection =
            runtime.block_on(launch(&spec, None)).expect("a container, whose init `cargo build` has built last");
        let guard = runtime.enter();
        let (terminal, inside) = Pty::open(Window { rows: 24, columns: 80 }).expect("a terminal");
        drop(guard);
        let mut session = Session::new(connection);
        // At its first run the init is told of its group. At its first run beside another one it
        // opens a proc.
        session.run(Draft::endless().finish());
        session.run_beside(Draft::new().finish());
        session.settle_besides();
        let first = (session.reset(), session.count_fds());
        session.seen.numbers.clear();
        Self { session, descriptors: Descriptors::open(inside), first, _terminal: terminal, _runtime: runtime }
    }

    /// Plays a script. Returns the rig if its init is as it was at first.
    pub(super) fn play(mut self, script: &[u8], see: &mut dyn FnMut(usize)) -> Option<Self> {
        let end = self.carry_out(script);
        std::mem::take(&mut self.session.seen.numbers).into_iter().for_each(see);
        if let Some((how, detail)) = end {
            self.end(how, detail);
            return None;
        }
        Some(self)
    }

    /// Carries out the acts of a script, and checks what is left. Returns how the init is to end,
    /// if it is to.
    fn carry_out(&mut self, script: &[u8]) -> Option<(End, u8)> {
        let mut draft = Draft::new();
        let mut has_joined_another = false;
        let mut frozen = None;
        for act in script.chunks_exact(4).take(128) {
            let [kind, a, b, c] = [act[0], act[1], act[2], act[3]];
            match ACTS[usize::from(kind) % ACTS.len()] {
                Act::Run => {
                    self.session.end_run();
                    self.session.run(std::mem::replace(&mut draft, Draft::new()).finish());
                }
                Act::RunBeside => self.session.run_beside(std::mem::replace(&mut draft, Draft::new()).finish()),
                Act::Last if a < 0xd0 => {}
                Act::Last if a < 0xe0 => {
                    self.join_another(b, c);
                    has_joined_another = true;
                }
                Act::Last => {
                    self.session.settle();
                    return Some((pick(ENDS, b), c));
                }
                act @ (Act::Open | Act::Symlink | Act::MakeDirectories | Act::Delete | Act::Rename) => {
                    self.change(act, [a, b, c]);
                }
                act @ (Act::Inspect | Act::Ping | Act::Reset | Act::Fingerprint) => self.ask(act, [a, b, c]),
                Act::Freeze => frozen = Some(self.session.freeze()),
                Act::Kill if a < 0x40 => self.session.kill_current(),
                Act::Kill if a < 0x80 => self.session.signal_earlier(b, c),
                Act::Kill => self.session.kill_earlier(a),
                Act::Settle if a < 0xf0 => self.session.settle(),
                Act::Settle => std::thread::sleep(Duration::from_millis(u64::from(b & 15))),
                act => draft.shape(act, [a, b, c], &self.descriptors),
            }
        }
        let fingerprint = self.session.reset();
        let is_frozen = frozen.is_some();
        assert_eq!(frozen.as_ref().unwrap_or(&self.first.0).differences(&fingerprint), [""; 0]);
        drop(draft);
        if has_joined_another || is_frozen {
            return Some((End::Close, 0));
        }
        assert_eq!(self.session.count_fds(), self.first.1, "the init has other descriptors");
        None
    }

    /// Sends a request that opens or changes files.
    fn change(&mut self, act: Act, [a, b, c]: [u8; 3]) {
        let paths = (0..count(c)).map(|number| path(a.wrapping_add(number as u8), c));
        let (request, owed) = match act {
            Act::Open => {
                let files = (0..count(c)).map(|number| file(a.wrapping_add(number as u8), b, c)).collect();
                (Request::Open(files), Owed::Opened(count(c)))
            }
            Act::Symlink => {
                let link = |number| Symlink { target: name(b).into(), path: path(a.wrapping_add(number as u8), c) };
                (Request::Symlink((0..count(c)).map(link).collect()), Owed::Each(count(c)))
            }
            Act::MakeDirectories => {
                let mode = pick([0o755, 0, 0o7777, u32::MAX], b);
                (
                    Request::MakeDirectories(paths.map(|path| MakeDirectory { path, mode }).collect()),
                    Owed::Each(count(c)),
                )
            }
            Act::Rename => (Request::Rename(Rename { from: path(a, c), to: path(b, c) }), Owed::DoneOrFailed),
            _ => (Request::Delete(paths.collect()), Owed::Each(count(c))),
        };
        self.session.request(&request, owed);
    }

    /// Sends a request that is no run and changes no single file.
    fn ask(&mut self, act: Act, [a, b, c]: [u8; 3]) {
        let (request, owed) = match act {
            Act::Inspect => match a % 3 {
                0 => (Request::Metadata(path(b, c)), Owed::Metadata),
                1 => (Request::ReadLink(path(b, c)), Owed::Target),
                _ => (Request::OpenDirectory(path(b, c)), Owed::Directory),
            },
            Act::Reset => (Request::Reset, Owed::Done),
            Act::Fingerprint => (Request::Fingerprint, Owed::Fingerprint),
            _ => (Request::Ping, Owed::Done),
        };
        if matches!(act, Act::Reset | Act::Fingerprint) {
            self.session.end_run();
        }
        self.session.request(&request, owed);
    }

    /// Joins the files of another group, which may be any that do not block.
    fn join_another(&mut self, first: u8, count: u8) {
        let count = usize::from(count & 3);
        let fds = (0..count).map(|number| self.descriptors.nonblocking(first.wrapping_add(number as u8))).collect();
        let file = |number: usize| match usize::from(first >> 4) + number {
            0 => GroupFile::Tasks,
            1 => GroupFile::Directory,
            2 => GroupFile::Rate { none: "-1".into() },
            other => GroupFile::Counter(Counter {
                figure: pick(
                    [Figure::CpuTime, Figure::MemoryPeak, Figure::MemoryPeakSinceReset, Figure::Throttled],
                    other as u8,
                ),
                key: pick(["", "key", "none"], other as u8).into(),
                unit: pick([1, u32::MAX], other as u8),
            }),
        };
        let files = (0..count).map(file).collect();
        self.session.end_run();
        self.session.join(GroupFiles { version: CgroupVersion::V1, files }, fds);
    }

    /// Ends the init, which says why and exits. No process of its container outlives it.
    fn end(mut self, how: End, detail: u8) {
        match how {
            End::StartAgain => self.session.notify(&Request::Start { cgroup_namespace: detail & 1 == 0 }),
            End::JoinWithoutFiles => {
                let files = GroupFiles { version: CgroupVersion::V2, files: vec![GroupFile::Tasks] };
                self.session.join(files, Vec::new());
            }
            End::Garbage => self.session.send_garbage(&[detail | 0x80, 0x92, 1]),
            End::Close => self.session.close(),
        }
        let expected = i32::from(how != End::Close);
        let (code, text) = self.session.wait_for_exit();
        // The standard error may begin with a line of the fuzzer's.
        assert_eq!((code, text.contains("cellblock-init: ")), (expected, expected == 1), "{text}");
        assert!(!text.contains("panicked"), "{text}");
        let reader = self.descriptors.get(Descriptor::Reader);
        drop(self);
        assert!(wait_for(&reader, PollFlags::POLLIN, 10_000), "a process of an ended container is alive");
    }
}

/// How a script ends its init.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    StartAgain,
    JoinWithoutFiles,
    Garbage,
    Close,
}

const ENDS: [End; 4] = [End::StartAgain, End::JoinWithoutFiles, End::Garbage, End::Close];
