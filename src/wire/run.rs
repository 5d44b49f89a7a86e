//! A run, and the control group that it is in.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::error::bytes_path;

use super::report::CgroupVersion;

/// A program to execute, and how.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StartRun {
    /// The program's path or, without a slash, its name in the run's PATH. With an executable
    /// attached, only a name for errors.
    #[serde(with = "bytes_path")]
    pub(crate) program: PathBuf,
    pub(crate) args: Strings,
    pub(crate) env: Strings,
    pub(crate) default_env: DefaultVariables,
    #[serde(with = "bytes_path::option")]
    pub(crate) work_dir: Option<PathBuf>,
    /// The role of each attached descriptor, in order. The program's 0, 1 and 2 are /dev/null if no
    /// descriptor has that role.
    pub(crate) fds: Vec<FdRole>,
    /// The program's descriptor that is its controlling terminal.
    pub(crate) terminal: Option<i32>,
    /// Whether the init answers with a `Forked` reply once the process exists. Without a gate, the
    /// program has been executed by then, or the run's own reply says why not.
    pub(crate) announce: bool,
    pub(crate) rlimits: Vec<RawRlimit>,
    /// The CPUs that the program starts on. Empty: all of the init's.
    pub(crate) affinity: Vec<u32>,
    pub(crate) times: Times,
    /// Whether the group has a CPU rate, so that the child may take long to get to its program.
    pub(crate) throttled: bool,
    /// A filter in addition to the container's own. Empty: none.
    pub(crate) filter: Vec<(u16, u8, u8, u32)>,
}

/// A program to execute beside the run that is going on. It has a pid namespace of its own, and a
/// group of its own if the runs have groups.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StartBeside {
    /// The id of the run that it is beside.
    pub(crate) main: u64,
    /// Its descriptors are attached first, and those of the group after them.
    pub(crate) run: StartRun,
    pub(crate) group: Option<GroupFiles>,
}

/// The use of a descriptor that is attached to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FdRole {
    /// Becomes the program's descriptor of this number.
    Program(i32),
    /// The file that is executed. At most one.
    Executable,
    /// The child reads a byte from here before anything else, and exits at the end of file. At most
    /// one.
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

/// The default variables of a container that are added to a run's own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DefaultVariables {
    /// Those that the run does not set, except for these names.
    AllBut(Strings),
    None,
}

/// A resource limit, by the kernel's number of the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RawRlimit {
    pub(crate) resource: u32,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// The times that the init watches.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) wall: Option<Duration>,
    pub(crate) cpu: Option<Duration>,
    /// How many CPUs can be busy for the run at once: its CPU time grows no faster than that.
    pub(crate) cpus: u32,
}

/// The control group of the runs. A descriptor is attached for each file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GroupFiles {
    pub(crate) version: CgroupVersion,
    pub(crate) files: Vec<GroupFile>,
}

/// A file of a group, and what the init does with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GroupFile {
    /// A child writes a 0 here to enter the group.
    Tasks,
    /// The group's directory, for clone3(2).
    Directory,
    /// The init writes `none` here to lift the CPU rate.
    Rate { none: String },
    /// The init reads a figure here.
    Counter(Counter),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub(crate) figure: Figure,
    /// The first word of the figure's line. Empty: the whole file is the figure.
    pub(crate) key: String,
    /// The unit of a time, in nanoseconds; 1 for other figures.
    pub(crate) unit: u32,
}

/// What a group counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Figure {
    CpuTime,
    /// The most that was charged at once since the group was made.
    MemoryPeak,
    /// The most that was charged at once since a 0 was last written here.
    MemoryPeakSinceReset,
    OomKills,
    /// The most that existed at once since the group was made.
    ProcessesPeak,
    RefusedForks,
    Throttled,
}

/// Strings as execve(2) takes them, each ended by a NUL, in one allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Strings(ByteBuf);

impl Strings {
    /// Appends one string. Its parts must contain no NUL.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.0.extend_from_slice(part);
        }
        self.0.push(0);
    }

    /// Appends those variables (`KEY=VALUE`) of `defaults` whose key is neither set here nor one of
    /// `removed`.
    pub(crate) fn add_missing(&mut self, defaults: &Self, removed: &Self) {
        fn key(string: &[u8]) -> &[u8] {
            string.split(|byte| [0, b'='].contains(byte)).next().unwrap_or_default()
        }
        for variable in defaults.iter() {
            if !self.iter().chain(removed.iter()).any(|it| key(it) == key(variable)) {
                self.0.extend_from_slice(variable);
            }
        }
    }

    /// How many bytes the strings take in a program's memory, with a pointer to each.
    pub(crate) fn size_in_program(&self) -> u64 {
        (self.0.len() + self.iter().count() * size_of::<usize>()) as u64
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.into_vec()
    }

    /// Each string with its NUL. A last string without a NUL is left out.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split_inclusive(|&byte| byte == 0).filter(|string| string.ends_with(&[0]))
    }
}
