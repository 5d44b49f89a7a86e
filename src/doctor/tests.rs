use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, ErrorKind, Failure, Step};

use super::causes::cause;
use super::diagnose::{Built, examine};
use super::findings::{Diagnosis, Grant};
use super::machine::{Cgroups, Machine};
use super::obstacles::Obstacle;
use super::platform::Platform;
use super::settings::fix;
use super::subject::Subject;
use super::survey::obstacles;

mod platforms;

/// The files of a machine that lets an ordinary user do everything. Each test changes some of them.
const OPEN: &[(&str, &str)] = &[
    ("/proc/thread-self/status", "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\nSeccomp:\t0\n"),
    ("/proc/sys/kernel/osrelease", "6.8.0-31-generic\n"),
    ("/proc/sys/user/max_user_namespaces", "62870\n"),
    ("/proc/1/comm", "systemd\n"),
    ("/proc/self/uid_map", "         0          0 4294967295\n"),
    ("/proc/self/gid_map", "         0          0 4294967295\n"),
    (
        "/proc/self/mountinfo",
        "22 29 0:21 / /sys rw - sysfs sysfs rw\n\
         23 29 0:22 / /proc rw,nosuid shared:13 - proc proc rw\n\
         29 1 252:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
         36 23 0:33 / /proc/sys/fs/binfmt_misc rw shared:15 - autofs systemd-1 rw,fd=29\n\
         60 36 0:41 / /proc/sys/fs/binfmt_misc rw shared:99 - binfmt_misc binfmt_misc rw\n\
         31 22 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
    ),
    ("/proc/self/cgroup", "0::/user.slice/user-1000.slice/x.scope\n"),
    ("/sys/fs/cgroup/user.slice/user-1000.slice/x.scope/cgroup.controllers", "cpu memory pids\n"),
];

const ROOT: &str = "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\nSeccomp:\t0\n";

/// Root in a Docker container with default options: 14 capabilities, a seccomp filter, an AppArmor
/// profile, and a partly hidden /proc.
const DOCKER: &[(&str, &str)] = &[
    ("/.dockerenv", ""),
    ("/proc/thread-self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n"),
    ("/proc/self/attr/apparmor/current", "docker-default (enforce)\n"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
    (
        "/proc/self/mountinfo",
        "548 446 0:52 / / rw - overlay overlay rw\n\
         549 548 0:54 / /proc rw,nosuid - proc proc rw\n\
         560 548 0:57 / /sys ro - sysfs sysfs ro\n\
         561 560 0:29 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n\
         570 548 252:1 /docker/containers/x/resolv.conf /etc/resolv.conf rw - ext4 /dev/vda1 rw\n\
         452 549 0:54 /bus /proc/bus ro - proc proc rw\n\
         456 549 0:59 / /proc/acpi ro - tmpfs tmpfs ro\n\
         457 549 0:55 /null /proc/kcore rw - tmpfs tmpfs rw\n",
    ),
    ("/proc/self/cgroup", "0::/\n"),
    ("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n"),
];

/// Calls `ask` with a machine that has these files; later lists override earlier ones. Paths at or
/// below `writable` can be written.
fn on<T>(files: &[&[(&str, &str)]], writable: &str, ask: impl FnOnce(&Machine<'_>) -> T) -> T {
    let files: HashMap<_, _> = files.concat().into_iter().map(|(path, text)| (Path::new(path), text)).collect();
    let is_writable = |path: &Path| !writable.is_empty() && path.starts_with(writable);
    ask(&Machine {
        read: &|path| files.get(path).map(|text| (*text).to_owned()),
        can_write: &is_writable,
        has_landlock: &|| true,
    })
}

const BUILT: Result<Built, Error> = Ok(Built { has_own_ids: false });

fn refused(step: Step, errno: nix::Error) -> Result<Built, Error> {
    Err(Error::failure(ErrorKind::Build, Failure::new(step, errno)))
}

/// Each subject that is not granted, with its fix.
fn lacks(diagnosis: &Diagnosis) -> Vec<(Subject, &str)> {
    diagnosis
        .findings
        .iter()
        .filter_map(|finding| match &finding.grant {
            Grant::Granted => None,
            Grant::Weaker(lack) | Grant::Missing(lack) => Some((finding.subject, lack.fix.as_deref().unwrap_or(""))),
        })
        .collect()
}

fn subjects(diagnosis: &Diagnosis) -> Vec<Subject> {
    lacks(diagnosis).into_iter().map(|(subject, _)| subject).collect()
}

#[test]
fn an_ordinary_user_lacks_only_ids_and_a_cgroup() {
    let diagnosis = on(&[OPEN], "", |it| examine(it, &BUILT));
    assert!(diagnosis.can_build());
    assert_eq!(subjects(&diagnosis), [Subject::Ids, Subject::Cgroup]);
    let [(_, ids), (_, cgroup)] = lacks(&diagnosis)[..] else { unreachable!() };
    assert!(ids.contains("usermod --add-subuids") && cgroup.contains("systemd-run --user --scope -p Delegate=yes"));

    // With a control group, and then with root's capabilities too.
    let own = "/sys/fs/cgroup/user.slice/user-1000.slice/x.scope";
    assert_eq!(subjects(&on(&[OPEN], own, |it| examine(it, &BUILT))), [Subject::Ids]);
    let root: &[_] = &[("/proc/thread-self/status", ROOT)];
    assert_eq!(subjects(&on(&[OPEN, root], own, |it| examine(it, &BUILT))), []);
}

#[test]
fn everything_that_docker_withholds_is_reported_at_once() {
    let diagnosis = on(&[OPEN, DOCKER], "", |it| examine(it, &refused(Step::Unshare, nix::Error::EPERM)));
    assert!(!diagnosis.can_build());
    let lacks = lacks(&diagnosis);
    for (subject, option) in [
        (Subject::Seccomp, "docker run --security-opt seccomp=unconfined"),
        (Subject::Namespaces, "docker run --security-opt apparmor=unconfined"),
        (Subject::Proc, "docker run --security-opt systempaths=unconfined"),
        (Subject::Cgroup, "docker run --security-opt writable-cgroups=true"),
    ] {
        assert!(lacks.iter().any(|(of, fix)| *of == subject && fix.contains(option)), "{option}: {diagnosis}");
    }
    let seen = diagnosis.to_string();
    let seen = seen.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(seen.contains("covered: /proc/bus /proc/acpi /proc/kcore costs:"), "{seen}");
    assert!(
        !seen.contains("apparmor_restrict_unprivileged_userns"),
        "a profile confines this process, so the restriction does not apply: {seen}"
    );

    // A setting that hinders no container is not reported as missing.
    let diagnosis = on(&[OPEN, DOCKER], "", |it| examine(it, &BUILT));
    assert_eq!(subjects(&diagnosis), [Subject::Cgroup], "{diagnosis}");
}

#[test]
fn settings_are_named_with_the_command_that_changes_them() {
    let mounts = |errno| refused(Step::MakeMountsPrivate, errno);
    for (file, value, built, command) in [
        (
            "/proc/sys/user/max_user_namespaces",
            "0\n",
            refused(Step::Unshare, nix::Error::ENOSPC),
            "user.max_user_namespaces=15000",
        ),
        (
            "/proc/sys/user/max_net_namespaces",
            "0\n",
            refused(Step::Unshare, nix::Error::ENOSPC),
            "user.max_net_namespaces=15000",
        ),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0\n",
            refused(Step::Unshare, nix::Error::EPERM),
            "kernel.unprivileged_userns_clone=1",
        ),
        (APPARMOR, "1\n", refused(Step::Unshare, nix::Error::EPERM), "kernel.apparmor_restrict_unprivileged_userns=0"),
        (APPARMOR, "1\n", mounts(nix::Error::EACCES), "kernel.apparmor_restrict_unprivileged_userns=0"),
    ] {
        let changed: &[_] = &[(file, value)];
        let error = built.clone().unwrap_err();
        on(&[OPEN, changed], "", |it| {
            let diagnosis = examine(it, &built);
            let expected = format!("sysctl -w {command}");
            let is_named =
                |(subject, fix): &(Subject, &str)| *subject == Subject::Namespaces && fix.starts_with(&expected);
            assert!(lacks(&diagnosis).iter().any(is_named), "{diagnosis}");
            let cause = cause(it, error.failed_step().unwrap(), error.raw_os_error()).unwrap();
            let fix = fix(&cause, it.platform());
            assert!(fix.starts_with(&expected), "the error's hint is the same: {fix}");
        });
    }
    // The restriction does not apply to a process with CAP_SYS_ADMIN.
    let root: &[_] = &[(APPARMOR, "1\n"), ("/proc/thread-self/status", ROOT)];
    let diagnosis = on(&[OPEN, root], "/", |it| examine(it, &refused(Step::StartInit, nix::Error::EMFILE)));
    assert_eq!(subjects(&diagnosis), [Subject::Container]);
}

const APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

#[test]
fn a_refusal_without_a_visible_obstacle_has_the_remaining_cause() {
    let cause =
        |files: &[&[(&str, &str)]], step, errno| on(files, "", |it| super::causes::cause(it, step, Some(errno)));
    assert_eq!(cause(&[OPEN], Step::Unshare, libc::EPERM), Some(Obstacle::Refused));
    assert_eq!(cause(&[OPEN], Step::Unshare, libc::ENOSPC), Some(Obstacle::TooManyNamespaces));
    assert_eq!(cause(&[OPEN], Step::Mount, libc::EPERM), None, "proc is whole");
    assert_eq!(cause(&[OPEN], Step::Mount, libc::ENOENT), None);
    assert_eq!(cause(&[OPEN, DOCKER], Step::Unshare, libc::EPERM), Some(Obstacle::SeccompFilter));
    let profile = Some(Obstacle::AppArmorProfile { label: "docker-default (enforce)".into() });
    assert_eq!(cause(&[OPEN, DOCKER], Step::MakeMountsPrivate, libc::EACCES), profile);
    assert!(matches!(cause(&[OPEN, DOCKER], Step::Mount, libc::EPERM), Some(Obstacle::CoveredProc { .. })));
    assert_eq!(
        cause(&[OPEN, DOCKER], Step::OpenBindSource, libc::EACCES),
        None,
        "a file's mode is not a setting of the machine"
    );
    let old: &[_] = &[("/proc/sys/kernel/osrelease", "5.10.0-28-amd64")];
    assert!(matches!(cause(&[OPEN, old], Step::Mount, libc::ENOSYS), Some(Obstacle::OldKernel { .. })));
    assert_eq!(cause(&[OPEN], Step::Mount, libc::ENOSYS), None);
    assert_eq!(cause(&[&[]], Step::MapIds, libc::ENOENT), Some(Obstacle::NoProc), "nothing can be read");
    assert_eq!(on(&[OPEN], "", |it| super::causes::cause(it, Step::Hello, None)), None);
    assert_eq!(
        on(&[OPEN, DOCKER], "", |it| super::causes::cause(it, Step::Hello, None)),
        Some(Obstacle::SeccompFilter)
    );
}

#[test]
fn an_id_counts_only_if_both_maps_have_it() {
    let mapped = |users, groups| {
        let maps: &[_] =
            &[("/proc/self/uid_map", users), ("/proc/self/gid_map", groups), ("/proc/thread-self/status", ROOT)];
        let obstacles = on(&[OPEN, maps], "/", obstacles);
        obstacles.into_iter().find_map(|it| match it {
            Obstacle::UnmappedIds { mapped } => Some(mapped),
            _ => None,
        })
    };
    assert_eq!(mapped("0 0 4294967295", "0 0 4294967295"), None);
    assert_eq!(mapped("0 1000 1\n1 100000 65536", "0 1000 1\n1 100000 65536"), Some(Some(1..65537)));
    assert_eq!(mapped("0 100000 65536", "0 100000 1000"), Some(Some(0..1000)));
    assert_eq!(mapped("0 1000 1", "0 1000 1"), Some(None));
    assert_eq!(mapped("", ""), Some(None));
}

#[test]
fn each_v1_controller_is_examined_separately() {
    let v1: &[_] = &[
        (
            "/proc/self/mountinfo",
            "29 1 252:1 / / rw - ext4 /dev/vda1 rw\n\
             34 31 0:30 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             39 31 0:35 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n",
        ),
        ("/proc/self/cgroup", "8:pids:/\n4:memory:/docker/abc/x\n1:name=systemd:/\n"),
    ];
    let Cgroups { seen, can_limit, .. } = on(&[v1], "/sys/fs/cgroup", |it| it.cgroups());
    assert_eq!(
        (seen.as_str(), can_limit),
        ("memory: /sys/fs/cgroup/memory/x (v1); pids: /sys/fs/cgroup/pids (v1)", true)
    );
    let Cgroups { seen, can_limit, .. } = on(&[v1], "/sys/fs/cgroup/memory", |it| it.cgroups());
    assert!(seen.ends_with("pids: /sys/fs/cgroup/pids (v1), not writable") && !can_limit, "{seen}");
    let Cgroups { seen, can_limit, .. } = on(&[&[]], "", |it| it.cgroups());
    assert_eq!((seen.as_str(), can_limit), ("memory: no such controller; pids: no such controller", false));
}
