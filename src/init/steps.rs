//! The system calls that a child makes between the clone and the program.
//!
//! Invariant: the list is complete before the clone, because the child neither allocates nor
//! decides. Its order matters: each step says why it comes where it does.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Failure, ResultExt, Step};
use crate::seccomp::allowlist;
use crate::sys::child::{Image, Op, Vector};
use crate::sys::landlock::Ruleset;
use crate::wire::{DefaultVariables, FdRole, Ids, RawRlimit, StartRun, Strings};

use super::host::duplicate_from;
use super::meter::RunGroup;
use super::null::NullDevice;

/// The search path of a run whose environment has no PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// What a container contributes to each of its runs.
pub(super) struct ContainerParts<'a> {
    pub(super) program: Ids,
    pub(super) null: &'a NullDevice,
    pub(super) default_env: &'a Strings,
    pub(super) group: Option<&'a RunGroup>,
    pub(super) ruleset: Option<&'a Ruleset>,
}

/// The steps of a run's child, each with the name that a failure gets.
pub(super) fn child_steps(
    request: StartRun,
    fds: &AttachedFds,
    container: &ContainerParts<'_>,
) -> Result<Vec<(Step, Op)>, Failure> {
    let StartRun { program, args, mut env, default_env, work_dir, terminal, rlimits, affinity, filter, .. } = request;
    if let DefaultVariables::AllBut(removed) = default_env {
        env.add_missing(container.default_env, &removed);
    }

    let mut steps = Vec::with_capacity(32);
    steps.extend(pass_gate(fds));
    // Before files are restricted: the device is not beneath the root.
    steps.extend(open_null(fds, container.null));
    steps.extend(container.group.into_iter().flat_map(enter_group));
    // Before descriptors are placed: the ruleset's own number may be one of theirs.
    steps.extend(container.ruleset.map(restrict_files));
    steps.extend(set_affinity(&affinity));
    steps.push((Step::StartSession, Op::StartSession));
    steps.extend(place_fds(fds));
    // After the session starts and the terminal has its number.
    steps.extend(terminal.map(|fd| (Step::TakeTerminal, Op::TakeTerminal(fd))));
    steps.extend(rlimits.iter().map(set_limit));
    steps.extend(take_ids(container.program));
    steps.push((Step::DropCapabilities, Op::DropCapabilities));
    // Before a path is resolved: an earlier run may have left a link to `/proc/self/fd/N`, which
    // would lead to a descriptor of the init.
    steps.extend(close_other_fds(fds));
    // With the program's own rights.
    steps.extend(work_dir.map(|dir| change_directory(&dir)).transpose()?);
    steps.push((Step::ClearSignalMask, Op::ClearSignalMask));
    // Last: the filter applies to every later call of the child.
    steps.extend(install_filter(&filter));
    steps.push((Step::Exec, execute(&program, args, env, fds)?));
    Ok(steps)
}

/// The descriptors of a run, by their roles.
pub(super) struct AttachedFds {
    /// Each with its number in the program.
    program: Vec<(OwnedFd, i32)>,
    executable: Option<OwnedFd>,
    gate: Option<OwnedFd>,
}

impl AttachedFds {
    /// Moves the descriptors above every number that the program uses, so that no placement
    /// overwrites one that is still to be placed.
    pub(super) fn new(roles: &[FdRole], fds: Vec<OwnedFd>) -> Result<Self, Failure> {
        let malformed = || Failure::new(Step::PlaceFd, nix::Error::EBADMSG);
        if roles.len() != fds.len() {
            return Err(malformed());
        }
        let highest = roles.iter().filter_map(FdRole::number_in_program).max().unwrap_or(0).max(2);
        let mut attached = Self { program: Vec::with_capacity(fds.len()), executable: None, gate: None };
        for (role, fd) in roles.iter().zip(fds) {
            let fd = move_above(highest, fd).step(Step::PlaceFd)?;
            let earlier = match role {
                FdRole::Program(number) => {
                    attached.program.push((fd, *number));
                    None
                }
                FdRole::Executable => attached.executable.replace(fd),
                FdRole::Gate => attached.gate.replace(fd),
            };
            if earlier.is_some() {
                return Err(malformed());
            }
        }
        Ok(attached)
    }

    pub(super) fn has_gate(&self) -> bool {
        self.gate.is_some()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.program.iter().map(|(fd, _)| fd).chain(&self.executable).chain(&self.gate).map(AsFd::as_fd)
    }
}

fn move_above(highest: i32, fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > highest { Ok(fd) } else { duplicate_from(&fd, highest.saturating_add(1)) }
}

fn pass_gate(fds: &AttachedFds) -> Option<(Step, Op)> {
    fds.gate.as_ref().map(|gate| (Step::PidHook, Op::PassGate(gate.as_raw_fd())))
}

/// Enters the group and makes it the root of a cgroup namespace, so that its name does not show.
fn enter_group(group: &RunGroup) -> impl Iterator<Item = (Step, Op)> {
    group.tasks().map(Op::EnterGroup).chain([Op::NewCgroupNamespace]).map(|op| (Step::EnterGroup, op))
}

fn restrict_files(ruleset: &Ruleset) -> (Step, Op) {
    (Step::RestrictFiles, Op::RestrictFiles(ruleset.as_raw_fd()))
}

fn set_affinity(cpus: &[u32]) -> Option<(Step, Op)> {
    let highest = *cpus.iter().max()?;
    let mut mask = vec![0; highest as usize / 64 + 1];
    for cpu in cpus {
        mask[*cpu as usize / 64] |= 1 << (cpu % 64);
    }
    Some((Step::SetAffinity, Op::SetAffinity(mask)))
}

/// Opens /dev/null as each standard stream that the run has no descriptor for. The open file
/// description is the run's own: a program can leave flags, locks and a signal in it.
fn open_null(fds: &AttachedFds, null: &NullDevice) -> impl Iterator<Item = (Step, Op)> {
    let is_missing = |stream: &i32| fds.program.iter().all(|(_, number)| number != stream);
    let missing: Vec<_> = (0..=2).filter(is_missing).collect();
    let first = missing.first().copied();
    let open = first.map(|to| Op::Open { dir: null.dir().as_raw_fd(), path: NullDevice::PATH, to });
    let others = missing.into_iter().skip(1).filter_map(move |to| Some(Op::Place { from: first?, to }));
    open.into_iter().chain(others).map(|op| (Step::PlaceFd, op))
}

/// The child starts with the init's 0, 1 and 2, and each of them is replaced.
fn place_fds(fds: &AttachedFds) -> impl Iterator<Item = (Step, Op)> {
    fds.program.iter().map(|(fd, number)| (Step::PlaceFd, Op::Place { from: fd.as_raw_fd(), to: *number }))
}

fn set_limit(limit: &RawRlimit) -> (Step, Op) {
    let RawRlimit { resource, soft, hard } = *limit;
    (Step::SetLimit, Op::Limit { resource, soft, hard })
}

/// A program with id 0 has the child's ids already.
fn take_ids(Ids { uid, gid }: Ids) -> Option<(Step, Op)> {
    (uid != 0).then_some((Step::SetIds, Op::SetIds { uid, gid }))
}

/// Closes all descriptors except the standard streams, the program's, and the executable.
fn close_other_fds(fds: &AttachedFds) -> impl Iterator<Item = (Step, Op)> {
    let numbers = fds.program.iter().map(|(_, number)| *number);
    let mut kept: Vec<_> = numbers.chain(fds.executable.as_ref().map(AsRawFd::as_raw_fd)).collect();
    kept.retain(|&number| number > 2);
    kept.sort_unstable();
    let firsts = [3].into_iter().chain(kept.clone().into_iter().map(|number| number as u32 + 1));
    let lasts = kept.into_iter().map(|number| number as u32 - 1).chain([u32::MAX]);
    let gaps = firsts.zip(lasts).filter(|(first, last)| first <= last);
    gaps.map(|(first, last)| (Step::PlaceFd, Op::Close { first, last }))
}

fn change_directory(dir: &Path) -> Result<(Step, Op), Failure> {
    Ok((Step::ChangeDirectory, Op::ChangeDirectory(c_path(Step::ChangeDirectory, dir)?)))
}

fn install_filter(filter: &[(u16, u8, u8, u32)]) -> Option<(Step, Op)> {
    (!filter.is_empty()).then(|| (Step::InstallFilter, Op::InstallFilter(allowlist::program(filter))))
}

fn execute(program: &Path, args: Strings, env: Strings, fds: &AttachedFds) -> Result<Op, Failure> {
    let image = match &fds.executable {
        Some(fd) => Image::Descriptor(fd.as_raw_fd()),
        None => Image::FirstOf(candidates(program, &env)?),
    };
    Ok(Op::Exec { image, args: Vector::new(args.into_bytes()), env: Vector::new(env.into_bytes()) })
}

/// The paths at which the program may be: its own if the name has a slash, otherwise one in each
/// directory of the run's PATH.
fn candidates(program: &Path, env: &Strings) -> Result<Vec<CString>, Failure> {
    let name = program.as_os_str().as_bytes();
    if name.is_empty() {
        return Err(Failure::at(Step::Exec, program, nix::Error::ENOENT));
    }
    if name.contains(&b'/') {
        return Ok(vec![c_path(Step::Exec, program)?]);
    }
    let path = env.iter().find_map(|variable| variable.strip_prefix(b"PATH=")?.strip_suffix(&[0]));
    let dirs = path.unwrap_or(DEFAULT_PATH).split(|&byte| byte == b':');
    // An empty directory is the working directory.
    dirs.map(|dir| c_path(Step::Exec, &Path::new(OsStr::from_bytes(dir)).join(program))).collect()
}

fn c_path(step: Step, path: &Path) -> Result<CString, Failure> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Failure::at(step, path, nix::Error::EINVAL))
}
