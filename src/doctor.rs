//! What a machine grants to containers, what it withholds, what that costs, and what mends it.
//!
//! Invariant: [`Obstacle`] is the only list of what can stand in a container's way: the hints of errors and the findings
//! of [`doctor`] both come from its table. Looking changes nothing: files are read, and one container is built.
//!
//! The rules come from namespaces(7), user_namespaces(7), unshare(2), cgroups(7) and subuid(5); that for a covered proc
//! from `mnt_already_visible` in the kernel's `fs/namespace.c`; AppArmor's from
//! <https://ubuntu.com/blog/ubuntu-23-10-restricted-unprivileged-user-namespaces>; Docker's options from
//! <https://docs.docker.com/reference/cli/docker/container/run/#security-opt> (Podman takes them too, but for the last,
//! which is `unmask=/sys/fs/cgroup` there: <https://github.com/moby/moby/issues/46763>).

mod machine;

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use crate::container::ContainerBuilder;
use crate::error::Step;

use machine::Machine;
pub(crate) use machine::version;

/// What was found on this machine.
///
/// Printed, it is a list for people. It serializes as `{"findings":[{"subject":"proc","seen":…,"grant":"granted"},
/// {"subject":"ids","seen":…,"grant":"weaker","costs":…,"mend":…},…]}`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// What came of building a container, and then each subject at least once, or that there is no `/proc` to look at.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Whether a container could be built.
    pub fn can_build(&self) -> bool {
        self.findings.iter().any(|it| it.subject == Subject::Container && it.grant == Grant::Granted)
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at.
    pub subject: Subject,
    /// What was seen there.
    pub seen: String,
    /// What follows from it.
    #[serde(flatten)]
    pub grant: Grant,
}

/// What containers need, or are better for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Subject {
    /// A container as the builder describes it: one is built, and destroyed.
    Container,
    /// The kernel's version and configuration.
    Kernel,
    /// Namespaces of a container's own, and what may be done in them.
    Namespaces,
    /// The system calls that a filter of this process's own leaves.
    Seccomp,
    /// A proc of a container's own.
    Proc,
    /// User and group ids of a container's own.
    Ids,
    /// Control groups that this process may divide.
    Cgroup,
    /// The kernel's Landlock, which keeps what programs may open files for.
    Landlock,
}

/// Whether something is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "grant", rename_all = "snake_case")]
pub enum Grant {
    /// It is.
    Granted,
    /// Containers work without it, and are the weaker for it.
    Weaker(Lack),
    /// Containers do not work without it.
    Missing(Lack),
}

/// What follows from a lack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Lack {
    /// What cannot be done, or is not as safe.
    pub costs: String,
    /// The command, or the change, that mends it; `PROGRAM` stands for the service. None where nothing is known, and
    /// of a container where another finding says what was in its way.
    pub mend: Option<String>,
}

/// Looks at what this machine grants to containers as the builder describes them, and builds one.
///
/// A setting that hinders some containers and did not hinder this one is not called missing. Nothing is left behind.
///
/// # Panics
/// As [`ContainerBuilder::build`].
pub async fn diagnose(builder: &ContainerBuilder) -> Diagnosis {
    let built = match builder.build().await {
        Ok(container) => {
            let has_own_ids = container.has_own_ids();
            container.destroy().await;
            Ok(has_own_ids)
        }
        Err(error) => Err(error),
    };
    Machine::THIS.diagnose(&built)
}

/// What to do about a step that failed, where the machine was in its way.
pub(crate) fn hint(step: Step, errno: Option<i32>) -> Option<String> {
    match Machine::THIS.cause(step, errno) {
        Some(obstacle) => {
            let (_, seen, _, mend) = obstacle.row();
            Some(format!("{seen}; to mend it: {mend}"))
        }
        None if (step, errno) == (Step::Unshare, Some(libc::EINVAL)) => {
            Some("call cellblock::init() before any thread is started".to_owned())
        }
        None => None,
    }
}

/// What may have kept an init from answering.
pub(crate) fn hint_of_silence(said_hello: bool) -> Option<String> {
    const NEVER_CALLED: &str = "is it an executable whose main calls cellblock::init() before anything else?";
    let hints = [(!said_hello).then(|| NEVER_CALLED.to_owned()), hint(Step::Serve, None)];
    hints.into_iter().flatten().reduce(|first, second| format!("{first} Or {second}"))
}

/// What stands in a container's way, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Obstacle {
    NoProc,
    OldKernel {
        release: String,
    },
    NoUserNamespaces,
    Setting {
        name: String,
        value: &'static str,
        better: &'static str,
    },
    TooManyNamespaces,
    AppArmorProfile {
        label: String,
    },
    SeccompFilter,
    /// All else for which the kernel refuses a user namespace.
    Refused,
    CoveredProc {
        by: Vec<String>,
    },
    RootWithoutSetfcap,
    UnmappedIds {
        mapped: Option<Range<u64>>,
    },
    NoSetIds,
    NoCgroup {
        seen: String,
        is_root: bool,
    },
    NoLandlock,
}

/// The subject, what was seen, what it costs, what mends it.
type Row = (Subject, String, &'static str, String);

impl Obstacle {
    fn row(&self) -> Row {
        use Subject::{Cgroup, Ids, Kernel, Landlock, Namespaces, Proc, Seccomp};
        let row = |subject, seen: &str, costs, mend: &str| (subject, seen.to_owned(), costs, mend.to_owned());
        let all = "no container can be built";
        match self {
            Self::NoProc => row(Proc, "/proc cannot be read", all, "mount -t proc proc /proc"),
            Self::OldKernel { release } => {
                row(Kernel, &format!("Linux {release} is too old"), all, "boot Linux 5.12 or later")
            }
            Self::NoUserNamespaces => {
                row(Kernel, "the kernel has no user namespaces", all, "boot one that has CONFIG_USER_NS")
            }
            Self::Setting { name, value, better } => {
                let mend = match name.contains("apparmor") {
                    true => ", or an AppArmor profile for PROGRAM with flags=(unconfined) and the rule `userns,`",
                    false => "",
                };
                row(Namespaces, &format!("{name} is {value}"), all, &format!("sysctl -w {name}={better}{mend}"))
            }
            Self::TooManyNamespaces => row(
                Namespaces,
                "there are too many namespaces, or they are nested too deep (32 is all that the kernel allows)",
                all,
                "sysctl -w user.max_user_namespaces=100000, and so for mnt, pid, net, ipc, uts and cgroup, here and in \
                 the user namespaces above",
            ),
            Self::AppArmorProfile { label } => row(
                Namespaces,
                &format!("AppArmor's profile {label} confines this process and forbids mounts"),
                all,
                "docker run --security-opt apparmor=unconfined",
            ),
            Self::SeccompFilter => row(
                Seccomp,
                "a seccomp filter confines this process",
                all,
                "docker run --security-opt seccomp=unconfined; in a systemd unit RestrictNamespaces=no and no \
                 SystemCallFilter",
            ),
            Self::Refused => row(
                Namespaces,
                "this process is in a chroot, or has a user id that its own user namespace does not map, or a security \
                 module refuses",
                all,
                "start PROGRAM outside of the chroot, or enter the tree by pivot_root(8); unshare --map-current-user \
                 where it was unshare --user",
            ),
            Self::CoveredProc { by } => row(
                Proc,
                &format!("no proc is visible whole, so the kernel mounts no other; covered: {}", by.join(" ")),
                "no container with a Mount::proc, which is one of the defaults, can be built",
                "docker run --security-opt systempaths=unconfined; in a systemd unit ProtectKernelTunables=no and \
                 ProtectKernelLogs=no; or ContainerBuilder::mounts without Mount::proc",
            ),
            Self::RootWithoutSetfcap => row(
                Ids,
                "user 0 has no CAP_SETFCAP, without which it may not be mapped",
                all,
                "docker run --cap-add SETFCAP, with SETUID and SETGID for ids of a container's own; or another user",
            ),
            Self::UnmappedIds { mapped: Some(Range { start, end }) } => row(
                Ids,
                &format!(
                    "the user namespace of this process maps the ids {start} to {}, not the default ones",
                    end - 1
                ),
                "no container can be built without ContainerBuilder::id_range",
                &format!("ContainerBuilder::id_range({}..{end})", start + 1),
            ),
            Self::UnmappedIds { mapped: None } => row(
                Ids,
                "the user namespace of this process maps no ids but its own",
                all,
                "setpriv --bounding-set=-setuid,-setgid PROGRAM, to share that one; or, with subordinate ids, unshare \
                 --map-root-user --map-auto PROGRAM, and ContainerBuilder::id_range(1..65535)",
            ),
            Self::NoSetIds => row(
                Ids,
                "this process has no CAP_SETUID and CAP_SETGID, and may map no ids but its own",
                "ContainerBuilder::id_range is refused, and the program shares its user id with the init, which the filter \
                 alone keeps it from limiting and slowing",
                "start PROGRAM as root, or with AmbientCapabilities=CAP_SETUID CAP_SETGID in its systemd unit; or, with \
                 subordinate ids (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, and newuidmap), \
                 unshare --map-root-user --map-auto PROGRAM, and ContainerBuilder::id_range(1..65535)",
            ),
            Self::NoCgroup { seen, is_root } => row(
                Cgroup,
                seen,
                "a run's memory, processes and CPU time are limited in weaker forms only, and only where \
                 Limits::weaker says that they will do",
                match is_root {
                    true => {
                        "systemd-run --scope -p Delegate=yes PROGRAM; docker run --security-opt writable-cgroups=true"
                    }
                    false => "systemd-run --user --scope -p Delegate=yes PROGRAM (cgroup v2); or start PROGRAM as root",
                },
            ),
            Self::NoLandlock => row(
                Landlock,
                "the kernel has no Landlock, or one that knows no truncation",
                "a file of the host's that a program is given can be opened anew for all that its mode allows the \
                 program's user",
                "boot Linux 6.2 or later with CONFIG_SECURITY_LANDLOCK, and landlock in the kernel's parameter lsm=, if there \
                 is one; or give programs pipes",
            ),
        }
    }

    fn finding(&self) -> Finding {
        let (subject, seen, costs, mend) = self.row();
        let lack = Lack { costs: costs.into(), mend: Some(mend) };
        let is_weaker = matches!(self, Self::NoSetIds | Self::NoCgroup { .. } | Self::NoLandlock);
        Finding { subject, seen, grant: if is_weaker { Grant::Weaker(lack) } else { Grant::Missing(lack) } }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (grant, lack) = match &self.grant {
            Grant::Granted => ("granted", None),
            Grant::Weaker(lack) => ("weaker", Some(lack)),
            Grant::Missing(lack) => ("missing", Some(lack)),
        };
        write!(f, "{:10}  {grant:7}  {}", format!("{:?}", self.subject), self.seen)?;
        let Some(Lack { costs, mend }) = lack else { return Ok(()) };
        write!(f, "\n{:21}costs: {costs}", "")?;
        mend.iter().try_for_each(|mend| write!(f, "\n{:21}mend:  {mend}", ""))
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}
