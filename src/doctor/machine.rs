//! A machine as its files show it, and what follows from that.
//!
//! Invariant: everything here is a pure function of what [`Machine`] reads, and of what came of building a container.

use std::ops::Range;
use std::path::Path;

use rustix::thread::CapabilitySet;

use crate::cgroup::ProcCgroup;
use crate::container::DEFAULT_IDS;
use crate::error::{Error, Step};
use crate::sys::landlock;
use crate::sys::mountinfo::MountPoint;

use super::{Diagnosis, Finding, Grant, Lack, Obstacle, Subject};

#[cfg(test)]
mod tests;

pub(super) struct Machine<'a> {
    read: &'a dyn Fn(&Path) -> Option<String>,
    can_write: &'a dyn Fn(&Path) -> bool,
    has_landlock: &'a dyn Fn() -> bool,
}

/// What `/proc` says of the calling thread.
struct Caller {
    uid: u64,
    capabilities: CapabilitySet,
    is_filtered: bool,
}

/// The first two numbers of a kernel's release.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|it: char| !it.is_ascii_digit()).map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next())
}

impl Machine<'static> {
    pub(super) const THIS: Self = Self {
        read: &|path| std::fs::read_to_string(path).ok(),
        can_write: &|path| nix::unistd::eaccess(path, nix::unistd::AccessFlags::W_OK).is_ok(),
        has_landlock: &landlock::is_supported,
    };
}

impl Machine<'_> {
    /// What there is to say, given what came of building a container: whether its program has ids of its own.
    pub(super) fn diagnose(&self, built: &Result<bool, Error>) -> Diagnosis {
        let mut obstacles = self.obstacles();
        let container = match built {
            Ok(has_own_ids) => {
                // What hinders other containers.
                obstacles.retain(|it| !matches!(it.finding().grant, Grant::Missing(_)));
                obstacles.retain(|it| !(*has_own_ids && *it == Obstacle::NoSetIds));
                Finding { subject: Subject::Container, seen: "one was built".into(), grant: Grant::Granted }
            }
            Err(error) => {
                let cause = error.failed_step().and_then(|step| self.cause(step, error.raw_os_error()));
                let mend = if cause.is_none() { error.hint().map(str::to_owned) } else { None };
                obstacles.extend(cause.filter(|it| !obstacles.contains(it)));
                let lack = Lack { costs: "no program can be run".into(), mend };
                let seen = error.clone().hinted(None).to_string();
                Finding { subject: Subject::Container, seen, grant: Grant::Missing(lack) }
            }
        };
        let mut findings = vec![container];
        for (subject, seen) in self.granted(built.is_ok()) {
            let found = obstacles.iter().map(Obstacle::finding).filter(|it| it.subject == subject);
            let known = findings.len();
            findings.extend(found);
            if findings.len() == known && self.caller().is_some() {
                findings.push(Finding { subject, seen, grant: Grant::Granted });
            }
        }
        Diagnosis { findings }
    }

    /// What was seen of each subject where nothing is in the way.
    fn granted(&self, built: bool) -> [(Subject, String); 7] {
        let limit = || format!("user.max_user_namespaces is {}", self.text("/proc/sys/user/max_user_namespaces"));
        let can_set_ids =
            self.caller().is_some_and(|it| it.capabilities.contains(CapabilitySet::SETUID | CapabilitySet::SETGID));
        let ids = "this process has CAP_SETUID and CAP_SETGID";
        let subordinate = "this user has subordinate ids, and newuidmap and newgidmap map them";
        let is_filtered = self.caller().is_some_and(|it| it.is_filtered);
        [
            (Subject::Kernel, format!("Linux {}", self.text("/proc/sys/kernel/osrelease"))),
            (Subject::Namespaces, if built { "they were made".into() } else { limit() }),
            (
                Subject::Seccomp,
                format!("this process {} a filter", if is_filtered { "is under" } else { "is not under" }),
            ),
            (Subject::Proc, self.covers().map_or("it is whole".into(), |by| format!("covered: {}", by.join(" ")))),
            (Subject::Ids, if can_set_ids { ids } else { subordinate }.into()),
            (Subject::Cgroup, self.cgroups().0),
            (Subject::Landlock, "the kernel has it".into()),
        ]
    }

    /// Everything that is to be seen without trying.
    fn obstacles(&self) -> Vec<Obstacle> {
        let Some(caller) = self.caller() else { return vec![Obstacle::NoProc] };
        let can = |capabilities| caller.capabilities.contains(capabilities);
        let mut found = Vec::new();
        let (seen, can_limit) = self.cgroups();
        if !can_limit {
            found.push(Obstacle::NoCgroup { seen, is_root: caller.uid == 0 });
        }
        if !(self.has_landlock)() {
            found.push(Obstacle::NoLandlock);
        }
        let release = self.text("/proc/sys/kernel/osrelease");
        if version(&release).is_some_and(|version| version < (5, 12)) {
            found.push(Obstacle::OldKernel { release });
        }
        let (Some(users), Some(groups)) = (self.mapped("uid_map"), self.mapped("gid_map")) else {
            found.push(Obstacle::NoUserNamespaces);
            return found;
        };

        let mut setting = |name: String, value, better| {
            if self.text(Path::new("/proc/sys").join(name.replace('.', "/"))) == value {
                found.push(Obstacle::Setting { name, value, better });
            }
        };
        for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
            setting(format!("user.max_{kind}_namespaces"), "0", "15000");
        }
        let profile = self.text("/proc/self/attr/apparmor/current");
        // Neither is for those who have CAP_SYS_ADMIN, and the second not for those whom a profile confines.
        if !can(CapabilitySet::SYS_ADMIN) {
            setting("kernel.unprivileged_userns_clone".into(), "0", "1");
            if ["", "unconfined"].contains(&profile.as_str()) {
                setting("kernel.apparmor_restrict_unprivileged_userns".into(), "1", "0");
            }
        }
        // The profiles of Docker and of Podman, which forbid mounts.
        if ["docker-default (enforce)", "containers-default-"].iter().any(|it| profile.starts_with(it)) {
            found.push(Obstacle::AppArmorProfile { label: profile });
        }
        found.extend(self.covers().map(|by| Obstacle::CoveredProc { by }));

        if can(CapabilitySet::SETUID | CapabilitySet::SETGID) {
            let largest = overlap(&users, &groups);
            if largest.start > DEFAULT_IDS.start.into() || largest.end < DEFAULT_IDS.end.into() {
                // One is left to the caller, and a container takes two.
                let is_enough = largest.end >= largest.start + 3;
                found.push(Obstacle::UnmappedIds { mapped: is_enough.then_some(largest) });
            }
        } else if caller.uid == 0 && !can(CapabilitySet::SETFCAP) {
            // Since Linux 5.12: https://git.kernel.org/torvalds/c/db2e718a47984b9d71ed890eb2ea36ecf150de18
            found.push(Obstacle::RootWithoutSetfcap);
        } else {
            found.push(Obstacle::NoSetIds);
        }
        found
    }

    /// What was in the way of a step. Without an errno: of an init that fell silent.
    pub(super) fn cause(&self, step: Step, errno: Option<i32>) -> Option<Obstacle> {
        use Obstacle::{
            AppArmorProfile, CoveredProc, NoSetIds, NoUserNamespaces, OldKernel, RootWithoutSetfcap, Setting,
        };
        use Obstacle::{Refused, SeccompFilter, TooManyNamespaces, UnmappedIds};
        if step == Step::HoldLimit {
            return self.obstacles().into_iter().find(|it| matches!(it, Obstacle::NoCgroup { .. }));
        }
        let filter = || self.caller()?.is_filtered.then_some(SeccompFilter);
        let Some(errno) = errno else {
            return [Step::Hello, Step::ForkPid1, Step::Serve].contains(&step).then(filter).flatten();
        };
        let is_limit = |name: &str| name.starts_with("user.");
        let explains = |it: &Obstacle| match (step, errno) {
            _ if *it == Obstacle::NoProc => true,
            // What files the caller may open is another matter.
            (Step::ReadInitExecutable | Step::OpenBindSource | Step::Exec, _) => false,
            (Step::Unshare, libc::ENOSPC | libc::EUSERS) => matches!(it, Setting { name, .. } if is_limit(name)),
            (Step::Unshare, libc::EINVAL) => matches!(it, NoUserNamespaces),
            (Step::MapIds, libc::EPERM) => matches!(it, UnmappedIds { .. } | RootWithoutSetfcap | NoSetIds),
            (Step::Mount, libc::EPERM) | (Step::ForbidNamespaces, _) => matches!(it, CoveredProc { .. }),
            (Step::Unshare, libc::EPERM | libc::EACCES) => matches!(it, Setting { name, .. } if !is_limit(name)),
            (_, libc::EPERM | libc::EACCES) => match it {
                Setting { name, .. } => !is_limit(name),
                it => matches!(it, AppArmorProfile { .. }),
            },
            (_, libc::ENOSYS) => matches!(it, OldKernel { .. }),
            _ => false,
        };
        self.obstacles().into_iter().find(explains).or_else(|| match (step, errno) {
            (Step::Unshare, libc::ENOSPC | libc::EUSERS) => Some(TooManyNamespaces),
            (Step::Unshare, libc::EPERM | libc::EACCES) => filter().or(Some(Refused)),
            (Step::ReadInitExecutable | Step::OpenBindSource | Step::Exec | Step::MapIds, _) => None,
            (_, libc::EPERM | libc::EACCES | libc::ENOSYS) => filter(),
            _ => None,
        })
    }

    /// A file without the space around its content; empty where it is not there.
    fn text(&self, path: impl AsRef<Path>) -> String {
        (self.read)(path.as_ref()).unwrap_or_default().trim().to_owned()
    }

    fn caller(&self) -> Option<Caller> {
        let status = self.text("/proc/thread-self/status");
        let field = |name: &str| Some(status.lines().find_map(|line| line.strip_prefix(name))?.trim());
        let effective = u64::from_str_radix(field("CapEff:")?, 16).ok()?;
        Some(Caller {
            uid: field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?,
            capabilities: CapabilitySet::from_bits_retain(effective),
            is_filtered: field("Seccomp:") == Some("2"),
        })
    }

    /// The ids that this process's user namespace maps. `None` in a kernel without user namespaces.
    fn mapped(&self, map: &str) -> Option<Vec<Range<u64>>> {
        let map = (self.read)(&Path::new("/proc/self").join(map))?;
        let range = |line: &str| {
            let mut numbers = line.split_whitespace().map_while(|number| number.parse::<u64>().ok());
            let (first, count) = (numbers.next()?, numbers.nth(1)?);
            Some(first..first + count)
        };
        Some(map.lines().filter_map(range).collect())
    }

    /// What covers parts of the procs that are visible. `None` where one of them is whole.
    fn covers(&self) -> Option<Vec<String>> {
        // Directories that the kernel keeps empty, for mounts.
        const PLACES: [&str; 3] = ["/sys/fs/binfmt_misc", "/fs/nfsd", "/openprom"];
        let mountinfo = self.text("/proc/self/mountinfo");
        let mounts = MountPoint::all(&mountinfo);
        let mut covers = Vec::new();
        for proc in mounts.iter().filter(|it| (it.fs, it.root) == ("proc", "/")) {
            let is_place = |path: &str| path.strip_prefix(proc.path).is_some_and(|below| PLACES.contains(&below));
            let those =
                mounts.iter().filter(|it| it.parent == proc.id && !is_place(it.path)).map(|it| it.path.to_owned());
            let known = covers.len();
            covers.extend(those);
            if covers.len() == known {
                return None;
            }
        }
        Some(covers)
    }

    /// The groups of this process that could limit memory and processes, and whether both can be divided.
    fn cgroups(&self) -> (String, bool) {
        let (groups, mountinfo) = (self.text("/proc/self/cgroup"), self.text("/proc/self/mountinfo"));
        let own = ProcCgroup::parse(&groups, &mountinfo);
        let in_v2 = |controller: &str| {
            let (dir, _) = own.of_v2()?;
            let is_there = self.text(dir.join("cgroup.controllers")).split(' ').any(|it| it == controller);
            let files = ["", "cgroup.procs", "cgroup.subtree_control"];
            let can_write = files.iter().all(|file| (self.can_write)(&dir.join(file)));
            is_there.then(|| (can_write, format!("{} (v2)", dir.display())))
        };
        let group = |controller: &str| match own.of_controller(controller) {
            Some(dir) => Some(((self.can_write)(&dir), format!("{} (v1)", dir.display()))),
            None => in_v2(controller),
        };
        let found = ["memory", "pids"].map(|controller| match group(controller) {
            Some((true, group)) => (true, format!("{controller}: {group}")),
            Some((false, group)) => (false, format!("{controller}: {group}, not writable")),
            None => (false, format!("{controller}: no such controller")),
        });
        (found.each_ref().map(|(_, seen)| seen.as_str()).join("; "), found.iter().all(|(can_write, _)| *can_write))
    }
}

/// The largest range that is in both.
fn overlap(users: &[Range<u64>], groups: &[Range<u64>]) -> Range<u64> {
    let pairs = users.iter().flat_map(|users| groups.iter().map(move |groups| (users, groups)));
    let common = pairs.map(|(users, groups)| users.start.max(groups.start)..users.end.min(groups.end));
    common.max_by_key(|range| range.end.saturating_sub(range.start)).unwrap_or_default()
}
