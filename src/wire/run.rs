//! What an init is told of a run, and of the group that it is in.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::error::bytes_path;
use crate::limits::{Form, Rlimit, Times};

/// A program to execute, and how.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StartRun {
    /// The program's path or, without a slash, its name in the run's PATH. Where an executable is attached, only a name for
    /// errors.
    #[serde(with = "bytes_path")]
    pub(crate) program: PathBuf,
    pub(crate) args: Strings,
    pub(crate) env: Strings,
    #[serde(with = "bytes_path::option")]
    pub(crate) work_dir: Option<PathBuf>,
    /// The role of each attached descriptor, in order. The program's 0, 1 and 2 are /dev/null where no descriptor has that
    /// role.
    pub(crate) fds: Vec<FdRole>,
    /// The program's descriptor that is its controlling terminal.
    pub(crate) terminal: Option<i32>,
    /// Whether the init answers with [`Forked`](super::Reply::Forked) once the process exists. Without a gate, the program
    /// has been executed by then, or the run's own reply says why not.
    pub(crate) announce: bool,
    pub(crate) rlimits: Vec<Rlimit>,
    /// The CPUs that the program starts on; all that the init has where there are none.
    pub(crate) affinity: Vec<u32>,
    pub(crate) times: Times,
    /// Whether the group's CPU time is withheld at times, so that the child may take long to get to its program.
    pub(crate) throttled: bool,
    /// A filter upon the container's own; none where it is empty.
    pub(crate) filter: Vec<(u16, u8, u8, u32)>,
}

/// What a descriptor that comes with a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FdRole {
    /// Becomes the program's descriptor of this number.
    Program(i32),
    /// The file that is executed. At most one.
    Executable,
    /// The child does nothing before it has read a byte here, and exits at the end of file. At most one.
    Gate,
}

impl FdRole {
    /// The descriptor's number in the program, if it stays there.
    pub(crate) fn number_in_program(&self) -> Option<i32> {
        match self {
            Self::Program(number) => Some(*number),
            Self::Executable | Self::Gate => None,
        }
    }
}

/// The control group of the runs. A descriptor is attached for each file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GroupFiles {
    pub(crate) form: Form,
    pub(crate) files: Vec<GroupFile>,
}

/// A file of a group, and what the init does with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GroupFile {
    /// A 0 is written here by whoever enters.
    Tasks,
    /// The directory, to be cloned into.
    Directory,
    /// This is written here for no CPU rate any more.
    Rate { none: String },
    /// A figure is read here.
    Counter(Counter),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub(crate) figure: Figure,
    /// What the figure's line begins with; empty where the file is the figure.
    pub(crate) key: String,
    /// In nanoseconds, for a time.
    pub(crate) unit: u32,
}

/// What a group counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Figure {
    CpuTime,
    MemoryNow,
    /// The most that has been charged since the group was made.
    MemoryPeak,
    /// The most that has been charged since a 0 was last written here.
    MemoryPeakSinceReset,
    OomKills,
    /// The most there have been since the group was made.
    ProcessesPeak,
    RefusedForks,
    Throttled,
}

/// Strings as execve(2) takes them, each ended by a NUL: one copy, whatever their number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Strings(ByteBuf);

impl Strings {
    /// Appends one string; its parts must hold no NUL.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.0.extend_from_slice(part);
        }
        self.0.push(0);
    }

    /// Appends those of `defaults`, as `KEY=VALUE`, whose key is not here.
    pub(crate) fn add_missing(&mut self, defaults: &Self) {
        let key = |string: &[u8]| string.iter().position(|&byte| byte == b'=').unwrap_or(string.len());
        for variable in defaults.iter() {
            let is_set = self.iter().any(|it| it[..key(it)] == variable[..key(variable)]);
            if !is_set {
                self.0.extend_from_slice(variable);
            }
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.into_vec()
    }

    /// Each string with its NUL. An unended last one is left out.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split_inclusive(|&byte| byte == 0).filter(|string| string.ends_with(&[0]))
    }
}
