//! The callers of a container: their calls, polled by hand and dropped at any time.

use std::fs::File;
use std::future::poll_fn;
use std::os::fd::AsFd;
use std::path::Path;
use std::pin::Pin;
use std::task::Poll;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::LONG;
use crate::container::fuzzing::MAX_FDS;
use crate::container::{Metadata, OpenFile, ReadDir};
use crate::process::Signal;
use crate::{Command, Container, Error, Limits, Report, Result, Stdio};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Ping,
    Delete,
    Open,
    Symlink,
    CreateDirAll,
    Rename,
    Metadata,
    ReadLink,
    ReadDir,
    Reset,
    Freeze,
    Fingerprint,
    Read,
    Write,
    Run,
    Output,
    RunWithHook,
    SpawnAndWait,
    SpawnAndKill,
    SpawnAndDrop,
    RunBeside,
    SpawnAndSignal,
}

/// In the order of a script's numbers.
pub(super) const CALLS: [Call; 22] = [
    Call::Ping,
    Call::Delete,
    Call::Open,
    Call::Symlink,
    Call::CreateDirAll,
    Call::Rename,
    Call::Metadata,
    Call::ReadLink,
    Call::ReadDir,
    Call::Reset,
    Call::Fingerprint,
    Call::Read,
    Call::Write,
    Call::Run,
    Call::Output,
    Call::RunWithHook,
    Call::SpawnAndWait,
    Call::SpawnAndKill,
    Call::SpawnAndDrop,
    Call::RunBeside,
    Call::SpawnAndSignal,
    Call::Freeze,
];

/// How many files a call is about.
const COUNTS: [usize; 8] = [1, 2, 3, 0, 7, 300, MAX_FDS, MAX_FDS + 1];

/// How a call ended: its error, if it failed.
type End = Option<Error>;

struct Pending {
    call: Call,
    future: Pin<Box<dyn Future<Output = End>>>,
}

pub(super) struct Callers {
    container: Container,
    pending: Vec<Pending>,
    pub(super) ends: Vec<End>,
}

impl Callers {
    pub(super) fn new(container: Container) -> Self {
        Self { container, pending: Vec::new(), ends: Vec::new() }
    }

    pub(super) fn call(&mut self, call: Call, count: u8) {
        let count = COUNTS[usize::from(count) % COUNTS.len()];
        let future = Box::pin(carry_out(self.container.clone(), call, count));
        self.pending.push(Pending { call, future });
    }

    pub(super) fn drop_one(&mut self, which: u8) {
        if !self.pending.is_empty() {
            self.pending.swap_remove(usize::from(which) % self.pending.len());
        }
    }

    /// Polls every call once. Returns whether that may have had a run killed.
    pub(super) async fn poll(&mut self) -> bool {
        let (pending, ends) = (&mut self.pending, &mut self.ends);
        let may_kill =
            pending.iter().any(|it| matches!(it.call, Call::SpawnAndKill | Call::SpawnAndDrop | Call::SpawnAndSignal));
        poll_fn(|context| {
            pending.retain_mut(|call| match call.future.as_mut().poll(context) {
                Poll::Ready(end) => {
                    ends.push(end);
                    false
                }
                Poll::Pending => true,
            });
            Poll::Ready(())
        })
        .await;
        may_kill
    }

    /// Whether no call is pending.
    pub(super) fn is_done(&self) -> bool {
        self.pending.is_empty()
    }
}

async fn carry_out(container: Container, call: Call, count: usize) -> End {
    let paths = || (0..count).map(|number| format!("f{number}"));
    let mut command = Command::new("/p");
    command.limits(Limits::new().wall_time(LONG)).stdout(Stdio::piped());
    match call {
        Call::Ping => container.ping(LONG).await.err(),
        Call::Delete => container.delete("f").await.err(),
        Call::Open => check_files(container.open(paths().map(OpenFile::read)).await),
        Call::Symlink => container.symlink(paths().map(|path| ("t", path))).await.err(),
        Call::CreateDirAll => container.create_dir_all("f/g").await.err(),
        Call::Rename => container.rename("f", "g").await.err(),
        Call::Metadata => container.metadata("f").await.map(use_metadata).err(),
        Call::ReadLink => container.read_link("f").await.err(),
        Call::ReadDir => match container.read_dir("f").await {
            Ok(names) => check_names(names).await,
            Err(error) => Some(error),
        },
        Call::Reset => container.reset().await.err(),
        Call::Freeze => container.freeze().await.err(),
        Call::Fingerprint => container.fingerprint().await.map(|it| it.differences(&it)).err(),
        Call::Read => container.read("f", 100).await.err(),
        Call::Write => container.file("f").mode(0o600).write(*b"data").await.err(),
        Call::Run => use_report(container.run(&command).await),
        Call::Output => use_report(container.output(&command).await.map(|output| output.report)),
        Call::RunWithHook => {
            command.pid_hook(|pid, _| async move { panic!("the hook is shown {pid}, which is no child of the init") });
            use_report(container.run(&command).await)
        }
        Call::SpawnAndWait => match container.spawn(command.stdin(Stdio::piped())).await {
            Ok(mut process) => use_report(process.wait().await),
            Err(error) => Some(error),
        },
        Call::SpawnAndKill => match container.spawn(&command).await {
            Ok(mut process) => use_report(process.kill().await),
            Err(error) => Some(error),
        },
        Call::SpawnAndDrop => container.spawn(&command).await.err(),
        Call::RunBeside => use_report(container.beside().run(&command).await),
        Call::SpawnAndSignal => match container.spawn(&command).await {
            Ok(process) => process.signal(Signal::TERMINATE).await.err(),
            Err(error) => Some(error),
        },
    }
}

/// Formats all that a report says.
fn use_report(result: Result<Report>) -> End {
    let report = match result {
        Ok(report) => report,
        Err(error) => return Some(error),
    };
    let _text = (report.to_string(), report.verdict(), report.status.shell_code(), format!("{report:?}"));
    None
}

fn use_metadata(metadata: Metadata) {
    let _text = (metadata.file_type(), metadata.mode(), metadata.modified(), format!("{metadata:?}"));
}

/// A name is one name, and leads to nothing above the directory.
async fn check_names(mut names: ReadDir) -> End {
    loop {
        match names.next_entry().await {
            Ok(Some(entry)) => assert_eq!(Path::new(entry.file_name()).file_name(), Some(entry.file_name())),
            Ok(None) => return None,
            Err(error) => return Some(error),
        }
    }
}

/// An opened file is a regular one that can be read or written.
fn check_files(result: Result<Vec<Result<File>>>) -> End {
    let files = match result {
        Ok(files) => files,
        Err(error) => return Some(error),
    };
    for file in files.iter().flatten() {
        assert!(file.metadata().expect("an open file").is_file());
        assert!(!is_only_a_path(file), "the file can be neither read nor written");
    }
    None
}

fn is_only_a_path(fd: impl AsFd) -> bool {
    fcntl(fd, FcntlArg::F_GETFL).is_ok_and(|flags| flags & OFlag::O_PATH.bits() != 0)
}
