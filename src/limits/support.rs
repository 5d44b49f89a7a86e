//! What a machine can limit, as the launch of a container finds it.

use super::held::Form;

/// What this machine can limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostSupport {
    /// The control groups that this process may make, if any.
    pub(crate) groups: Option<CgroupSupport>,
    pub(crate) nproc_scope: NprocScope,
    /// The number of CPUs that this process may use.
    pub(crate) cpus: u32,
    /// The number of CPUs that this machine has. Their numbers begin at 0.
    pub(crate) configured_cpus: u32,
    pub(crate) hard_stack: u64,
    pub(crate) hard_open_files: u64,
}

impl HostSupport {
    /// The form of a limit that a control group can hold. `None` if no group can hold it.
    pub(super) fn group_form(&self, can_hold: impl FnOnce(&CgroupSupport) -> bool) -> Option<Form> {
        self.groups.filter(can_hold).map(|groups| groups.form)
    }
}

/// The processes that the kernel counts against `RLIMIT_NPROC` of a program's user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NprocScope {
    /// The processes of the run alone.
    Run,
    /// The processes of the run, and its init.
    WithInit,
    /// All processes of the host's user.
    User,
    /// None: the user is the machine's root, which the kernel does not limit.
    Unlimited,
}

/// What the control groups of this machine can limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CgroupSupport {
    pub(crate) form: Form,
    pub(crate) memory: bool,
    pub(crate) processes: bool,
    pub(crate) cpu_time: bool,
    pub(crate) cpu_rate: bool,
    pub(crate) cpu_set: bool,
}
