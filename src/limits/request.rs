//! The limits that a caller asks for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(super) const DEFAULT_WALL_TIME: Duration = Duration::from_secs(60);
pub(super) const DEFAULT_MEMORY: u64 = 1 << 30;
pub(super) const DEFAULT_PROCESSES: u32 = 256;
pub(super) const DEFAULT_STACK: u64 = 8 << 20;
pub(super) const DEFAULT_OPEN_FILES: u64 = 1024;

/// What a run may use at most, for [`Command::limits`](crate::Command::limits).
///
/// | limit | default | least | held by | weaker form |
/// |---|---|---|---|---|
/// | CPU time of all processes | none | above 0 | cgroup | `RLIMIT_CPU` and polling of processes |
/// | wall time | 60 s | above 0 | the init's clock | |
/// | memory of all processes | 1 GiB | 2 MiB | cgroup | `RLIMIT_DATA` of each process |
/// | processes and threads | 256 | 1 | cgroup | `RLIMIT_NPROC` |
/// | stack | 8 MiB | 64 KiB | `RLIMIT_STACK` | |
/// | size of a file | none | 0 | `RLIMIT_FSIZE` | |
/// | open files | 1024 | 4 | `RLIMIT_NOFILE` | |
/// | address space | none | 1 MiB | `RLIMIT_AS` | |
/// | CPU set | the host's | one CPU | cgroup (cpuset) | CPU affinity, which programs can change |
/// | CPU rate | none | 0.01 | cgroup (cpu) | |
/// | output | none | 0 | the reader of the pipes | `RLIMIT_FSIZE` of each output file |
///
/// No run makes core dumps: `RLIMIT_CORE` and an empty `coredump_filter` are always set.
///
/// # Units
/// Sizes are bytes. A CPU rate is a number of CPUs. `Duration::MAX`, `u64::MAX` and `u32::MAX` mean
/// no limit.
///
/// # Floors
/// A value below its least is refused as [`InvalidInput`](crate::ErrorKind::InvalidInput), before
/// anything runs: with less, a program could not even be started. Arguments and an environment of
/// more than 128 KiB come on top of the least memory, if a cgroup holds the limit. A program that
/// has enough to start and too little to go on is a report. So is one whose dynamic linker has too
/// little: most programs need some MiB of memory.
///
/// A number of processes above 4,194,304, which is the kernel's own limit, is held as that. A CPU
/// that the machine does not have is `InvalidInput` too; one that this process may not use is
/// [`Unsupported`](crate::ErrorKind::Unsupported).
///
/// # Unsupported limits
/// A limit that this machine cannot hold is an error of kind
/// [`Unsupported`](crate::ErrorKind::Unsupported), before anything runs.
/// [`allow_weaker`](Self::allow_weaker) accepts the weaker form instead.
/// [`Report::limits`](crate::Report::limits) tells which form was used.
///
/// # Defaults
/// A default is held in the best form that the machine has. The defaults for the stack and for open
/// files are lowered to the host's own hard limits. Without a cgroup, the default for processes is
/// not held in two cases: where the kernel counts all processes of the host's user (before Linux
/// 5.14, if the container has no user id of its own), and where the kernel does not limit the user
/// (the machine's root).
///
/// # JSON
/// The serialized form is the following object. Every field may be left out.
///
/// ```json
/// {
///   "cpu_time_ms": 1000, "wall_time_ms": 2000, "memory_bytes": 67108864, "processes": 32,
///   "stack_bytes": 8388608, "file_size_bytes": 1048576, "open_files": 64,
///   "address_space_bytes": 4294967296, "cpu_set": [0], "cpu_rate": 1.5, "output_bytes": 65536,
///   "weaker": true
/// }
/// ```
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use cellblock::{Command, Limits};
///
/// let limits = Limits::new()
///     .cpu_time(Duration::from_secs(1))
///     .wall_time(Duration::from_secs(2))
///     .memory(64 << 20);
/// let mut command = Command::new("./solution");
/// command.limits(limits);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[must_use = "limits do nothing until a command has them"]
pub struct Limits {
    #[serde(rename = "cpu_time_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    pub(super) cpu_time: Option<Duration>,
    #[serde(rename = "wall_time_ms", with = "millis", skip_serializing_if = "Option::is_none")]
    pub(super) wall_time: Option<Duration>,
    #[serde(rename = "memory_bytes", skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) processes: Option<u32>,
    #[serde(rename = "stack_bytes", skip_serializing_if = "Option::is_none")]
    pub(super) stack: Option<u64>,
    #[serde(rename = "file_size_bytes", skip_serializing_if = "Option::is_none")]
    pub(super) file_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) open_files: Option<u64>,
    #[serde(rename = "address_space_bytes", skip_serializing_if = "Option::is_none")]
    pub(super) address_space: Option<u64>,
    /// Sorted, without duplicates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) cpu_set: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_rate: Option<f64>,
    #[serde(rename = "output_bytes", skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<u64>,
    #[serde(rename = "weaker")]
    pub(super) allow_weaker: bool,
}

impl Limits {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the CPU time, in user mode and in the kernel, of all processes and threads of the run
    /// together.
    ///
    /// The run is killed at most 1 ms and one scheduler tick per busy CPU after the limit. The time
    /// that the kernel takes to free the run's memory counts too. For page tables of 1 GiB that is
    /// seconds.
    ///
    /// ```
    /// use std::time::Duration;
    /// use cellblock::Limits;
    ///
    /// let limits = Limits::new().cpu_time(Duration::from_millis(1500));
    /// ```
    pub fn cpu_time(self, time: Duration) -> Self {
        Self { cpu_time: Some(time), ..self }
    }

    /// Limits the time by the monotonic clock, from the start of the program.
    ///
    /// The time that a [hook](crate::Command::pid_hook) takes counts too.
    pub fn wall_time(self, time: Duration) -> Self {
        Self { wall_time: Some(time), ..self }
    }

    /// Lets the run take as long as it likes by the clock: in place of the default of 60 s.
    ///
    /// The run goes on until the program ends or is killed.
    ///
    /// ```
    /// use cellblock::Limits;
    ///
    /// let limits = Limits::new().no_wall_time();
    /// ```
    pub fn no_wall_time(self) -> Self {
        self.wall_time(Duration::MAX)
    }

    /// Limits the memory of all processes of the run together, in bytes.
    ///
    /// The kernel charges heap, stacks, files in a tmpfs, memfds, shared memory, page tables, and
    /// those pages of files that this run is the first to read. Files that earlier runs left in a
    /// tmpfs stay charged to the limit until a reset. They are no part of a run's peak, which may
    /// include up to 1 MiB of other memory that earlier runs left.
    ///
    /// ```
    /// use cellblock::Limits;
    ///
    /// let limits = Limits::new().memory(256 << 20); // 256 MiB
    /// ```
    pub fn memory(self, bytes: u64) -> Self {
        Self { memory: Some(bytes), ..self }
    }

    /// Limits how many processes and threads exist at the same time.
    pub fn processes(self, count: u32) -> Self {
        Self { processes: Some(count), ..self }
    }

    /// Limits the main thread's stack, arguments and environment included, in bytes.
    pub fn stack(self, bytes: u64) -> Self {
        Self { stack: Some(bytes), ..self }
    }

    /// Limits the size of the largest file that the program may write, in bytes.
    ///
    /// A larger write sends `SIGXFSZ`, or fails with `EFBIG` if the program ignores that signal.
    pub fn file_size(self, bytes: u64) -> Self {
        Self { file_size: Some(bytes), ..self }
    }

    /// Limits the descriptors of each process.
    pub fn open_files(self, count: u64) -> Self {
        Self { open_files: Some(count), ..self }
    }

    /// Limits the address space of each process, in bytes.
    ///
    /// This limit breaks programs that reserve more than they use: Go, the JVM, V8.
    pub fn address_space(self, bytes: u64) -> Self {
        Self { address_space: Some(bytes), ..self }
    }

    /// Sets the CPUs that the run may use, by their numbers.
    pub fn cpu_set(self, cpus: impl IntoIterator<Item = u32>) -> Self {
        let mut cpu_set: Vec<_> = cpus.into_iter().collect();
        cpu_set.sort_unstable();
        cpu_set.dedup();
        Self { cpu_set, ..self }
    }

    /// Limits how many CPUs the run may keep busy, over periods of 100 ms.
    ///
    /// 0.5 is half of one CPU.
    pub fn cpu_rate(self, cpus: f64) -> Self {
        Self { cpu_rate: Some(cpus), ..self }
    }

    /// Limits the bytes that the run may write to its piped outputs together.
    ///
    /// At the limit the reader stops, and the run is killed.
    ///
    /// ```
    /// use cellblock::Limits;
    ///
    /// let limits = Limits::new().output(64 << 10); // 64 KiB
    /// ```
    pub fn output(self, bytes: u64) -> Self {
        Self { output: Some(bytes), ..self }
    }

    /// Sets whether a limit may take its weaker form where this machine cannot hold the full one.
    /// Default: `false`, which refuses the run.
    ///
    /// ```
    /// use cellblock::Limits;
    ///
    /// // An ordinary user without a cgroup gets `RLIMIT_DATA` of each process.
    /// let limits = Limits::new().memory(64 << 20).allow_weaker(true);
    /// ```
    pub fn allow_weaker(self, allow: bool) -> Self {
        Self { allow_weaker: allow, ..self }
    }

    /// The CPU time that was set. `None`: no limit.
    pub fn get_cpu_time(&self) -> Option<Duration> {
        self.cpu_time
    }

    /// The wall time that was set. `None`: the default.
    pub fn get_wall_time(&self) -> Option<Duration> {
        self.wall_time
    }

    /// The memory that was set, in bytes. `None`: the default.
    pub fn get_memory(&self) -> Option<u64> {
        self.memory
    }

    /// The number of processes that was set. `None`: the default.
    pub fn get_processes(&self) -> Option<u32> {
        self.processes
    }

    /// The stack that was set, in bytes. `None`: the default.
    pub fn get_stack(&self) -> Option<u64> {
        self.stack
    }

    /// The size of a file that was set, in bytes. `None`: no limit.
    pub fn get_file_size(&self) -> Option<u64> {
        self.file_size
    }

    /// The number of open files that was set. `None`: the default.
    pub fn get_open_files(&self) -> Option<u64> {
        self.open_files
    }

    /// The address space that was set, in bytes. `None`: no limit.
    pub fn get_address_space(&self) -> Option<u64> {
        self.address_space
    }

    /// The CPUs that were set, sorted. Empty: the host's.
    pub fn get_cpu_set(&self) -> &[u32] {
        &self.cpu_set
    }

    /// The CPU rate that was set, in CPUs. `None`: no limit.
    pub fn get_cpu_rate(&self) -> Option<f64> {
        self.cpu_rate
    }

    /// The output that was set, in bytes. `None`: no limit.
    pub fn get_output(&self) -> Option<u64> {
        self.output
    }

    /// Whether weaker forms are allowed.
    pub fn allows_weaker(&self) -> bool {
        self.allow_weaker
    }

    /// The memory limit of a run with these limits, in bytes.
    pub(crate) fn memory_or_default(&self) -> u64 {
        self.memory.unwrap_or(DEFAULT_MEMORY)
    }
}

/// Durations as whole milliseconds. `u64::MAX` is [`Duration::MAX`].
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let time = |millis| if millis == u64::MAX { Duration::MAX } else { Duration::from_millis(millis) };
        Ok(Option::<u64>::deserialize(from)?.map(time))
    }
}
