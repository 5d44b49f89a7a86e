//! Fixes and snippets: each is for the machine and the platform that it is made on.

use super::*;
use crate::doctor::settings::{docker_options, pod_fields, security_context, unit_settings};

const SYSTEMD_UNIT: &[(&str, &str)] = &[
    ("/proc/thread-self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\nSeccomp:\t2\n"),
    (
        "/proc/self/mountinfo",
        "29 1 252:1 / / rw - ext4 /dev/vda1 rw\n\
         23 29 0:22 / /proc rw - proc proc rw\n\
         24 23 0:22 /sys /proc/sys ro - proc proc rw\n\
         31 29 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n",
    ),
    ("/proc/self/cgroup", "0::/system.slice/judge.service\n"),
    ("/sys/fs/cgroup/system.slice/judge.service/cgroup.controllers", "cpu memory pids\n"),
];

const POD: &[(&str, &str)] = &[("/var/run/secrets/kubernetes.io/serviceaccount/namespace", "default")];

const V1: &[(&str, &str)] = &[
    (
        "/proc/self/mountinfo",
        "29 1 252:1 / / rw - ext4 /dev/vda1 rw\n\
         23 29 0:22 / /proc rw - proc proc rw\n\
         34 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
         39 31 0:35 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
         40 31 0:36 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
    ),
    ("/proc/self/cgroup", "8:pids:/\n4:memory:/x\n1:name=systemd:/\n0::/x\n"),
];

const REFUSED: (Step, nix::Error) = (Step::Unshare, nix::Error::EPERM);

fn diagnosis(files: &[&[(&str, &str)]]) -> Diagnosis {
    on(files, "", |it| examine(it, &refused(REFUSED.0, REFUSED.1)))
}

/// The fix of the finding about a subject.
fn fix_of(diagnosis: &Diagnosis, subject: Subject) -> String {
    lacks(diagnosis).into_iter().find(|(of, _)| *of == subject).unwrap().1.to_owned()
}

/// A snippet without its comments.
fn settings_of(diagnosis: &Diagnosis, platform: Platform) -> Vec<String> {
    let snippet = diagnosis.snippet(platform);
    snippet.lines().filter(|line| !line.trim_start().starts_with('#')).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_fix_is_for_the_platform_that_the_process_is_in() {
    let docker = diagnosis(&[OPEN, DOCKER]);
    assert_eq!(fix_of(&docker, Subject::Seccomp), "docker run --security-opt seccomp=unconfined");
    assert_eq!(fix_of(&docker, Subject::Cgroup), "docker run --security-opt writable-cgroups=true");
    let pod = diagnosis(&[OPEN, DOCKER, POD]);
    assert_eq!(fix_of(&pod, Subject::Seccomp), "in the pod seccompProfile: { type: Unconfined }");
    assert!(fix_of(&pod, Subject::Proc).starts_with("in the pod hostUsers: false, procMount: Unmasked; or "));
    assert!(fix_of(&pod, Subject::Cgroup).starts_with("Limits::allow_weaker"));
    let unit = diagnosis(&[OPEN, SYSTEMD_UNIT]);
    assert_eq!(fix_of(&unit, Subject::Seccomp), "in the unit RestrictNamespaces=no, SystemCallFilter=");
    assert_eq!(fix_of(&unit, Subject::Cgroup), "in the unit Delegate=yes, ProtectControlGroups=no");
    // A machine that was made from an image of Docker is not in Docker.
    let marked: &[_] = &[("/.dockerenv", "")];
    let fix = fix_of(&on(&[OPEN, marked], "", |it| examine(it, &BUILT)), Subject::Cgroup);
    assert!(fix.starts_with("systemd-run"), "{fix}");
    // Where no file shows the platform, each is named.
    let open: &[_] = &[("/proc/thread-self/status", "Uid:\t1\t1\t1\t1\nCapEff:\t0\nSeccomp:\t2\n")];
    let fix = fix_of(&diagnosis(&[OPEN, open]), Subject::Seccomp);
    assert!(fix.contains("docker run") && fix.contains("in a systemd unit"), "{fix}");
}

#[test]
fn a_fix_for_control_groups_is_for_the_version_that_the_machine_has() {
    let fix = |files: &[&[(&str, &str)]]| fix_of(&on(files, "", |it| examine(it, &BUILT)), Subject::Cgroup);
    let root: &[_] = &[("/proc/thread-self/status", ROOT)];
    assert!(fix(&[OPEN]).starts_with("systemd-run --user --scope -p Delegate=yes PROGRAM"));
    assert!(fix(&[OPEN, root]).starts_with("systemd-run --scope -p Delegate=yes PROGRAM"));
    let without_systemd: &[_] = &[("/proc/1/comm", "init\n")];
    assert!(fix(&[OPEN, without_systemd]).starts_with("as root mkdir /sys/fs/cgroup/judge;"));
    for v1 in [fix(&[OPEN, V1]), fix(&[OPEN, V1, root])] {
        assert!(v1.contains("for it in memory pids cpuacct; do"), "{v1}");
        assert!(!v1.contains("systemd-run") && !v1.contains("v2"), "{v1}");
    }
    // systemd delegates nothing to an ordinary user on v1.
    let unit: &[_] = &[("/proc/self/cgroup", "8:pids:/\n4:memory:/x\n1:name=systemd:/system.slice/x.service\n")];
    assert!(fix(&[OPEN, V1, unit]).starts_with("as root for it in memory"));
    assert!(fix(&[OPEN, V1, unit, root]).starts_with("in the unit Delegate=yes"));
    let none: &[_] = &[("/proc/self/mountinfo", "23 29 0:22 / /proc rw - proc proc rw\n"), ("/proc/self/cgroup", "")];
    assert_eq!(fix(&[OPEN, none]), "mount -t cgroup2 none /sys/fs/cgroup");
}

#[test]
fn a_snippet_has_what_the_findings_ask_for_and_no_more() {
    let docker = diagnosis(&[OPEN, DOCKER]);
    let expected = [
        "docker run \\",
        "--security-opt seccomp=unconfined \\",
        "--security-opt writable-cgroups=true \\",
        "--security-opt apparmor=unconfined \\",
        "--security-opt systempaths=unconfined \\",
        "IMAGE",
    ];
    let mut found = settings_of(&docker, Platform::Docker);
    let mut sorted = expected.map(str::to_owned);
    found.sort();
    sorted.sort();
    assert_eq!(found, sorted);

    let pod = settings_of(&docker, Platform::Kubernetes).join("\n");
    let fields = ["hostUsers: false", "procMount: Unmasked", "seccompProfile: {", "appArmorProfile: {"];
    assert!(fields.iter().all(|field| pod.matches(field).count() == 1), "{pod}");
    assert!(!pod.contains("privileged") && !pod.contains("capabilities"), "{pod}");

    let unit = settings_of(&diagnosis(&[OPEN, SYSTEMD_UNIT]), Platform::Systemd);
    let expected = [
        "[Service]",
        "ExecStart=/usr/local/bin/PROGRAM",
        "RestrictNamespaces=no",
        "SystemCallFilter=",
        "ProtectKernelTunables=no",
        "ProtectKernelLogs=no",
        "AmbientCapabilities=CAP_SETUID CAP_SETGID",
        "Delegate=yes",
        "ProtectControlGroups=no",
    ];
    assert_eq!(unit, expected);

    // A fix in a comment is the one under the snippet's platform.
    let comments = docker.snippet(Platform::Kubernetes);
    assert!(comments.contains("to fix it: Limits::allow_weaker") && !comments.contains("docker run"), "{comments}");

    // Each finding alone brings its own settings, and none of another's.
    let cgroup = on(&[OPEN, DOCKER], "", |it| examine(it, &BUILT));
    let command = settings_of(&cgroup, Platform::Docker);
    assert_eq!(command, ["docker run \\", "--security-opt writable-cgroups=true \\", "IMAGE"]);
}

#[test]
fn the_guide_has_every_setting() {
    // As one line, so that a line break within a setting does not matter.
    let guide = include_str!("../../guide/deploying.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let cgroup = on(&[OPEN], "", obstacles).into_iter().find(|it| matches!(it, Obstacle::NoCgroup { .. }));
    for obstacle in [
        Obstacle::SeccompFilter,
        Obstacle::AppArmorProfile { label: String::new() },
        Obstacle::CoveredProc { by: Vec::new() },
        Obstacle::RootWithoutSetfcap,
        Obstacle::NoSetIds,
        Obstacle::UnmappedIds { mapped: None },
        cgroup.unwrap(),
    ] {
        for setting in [docker_options, pod_fields, security_context, unit_settings].map(|of| of(&obstacle)).concat() {
            assert!(guide.contains(setting), "{setting}");
        }
    }
}

#[test]
fn a_machine_that_lacks_nothing_asks_for_no_permission() {
    let root: &[_] = &[("/proc/thread-self/status", ROOT)];
    let whole = on(&[OPEN, root], "/sys/fs/cgroup", |it| examine(it, &BUILT));
    assert_eq!(settings_of(&whole, Platform::Docker), ["docker run \\", "IMAGE"]);
    assert_eq!(settings_of(&whole, Platform::Systemd), ["[Service]", "ExecStart=/usr/local/bin/PROGRAM"]);
    let pod = settings_of(&whole, Platform::Kubernetes);
    assert_eq!(pod[5..], ["containers:", "- name: judge", "image: IMAGE"]);
}

#[test]
fn what_no_setting_fixes_is_a_comment_with_its_fix() {
    let limit: &[_] = &[("/proc/sys/user/max_user_namespaces", "0\n")];
    let limited = on(&[OPEN, limit], "/", |it| examine(it, &refused(Step::Unshare, nix::Error::ENOSPC)));
    for platform in [Platform::Docker, Platform::Kubernetes, Platform::Systemd] {
        let snippet = limited.snippet(platform);
        assert!(snippet.contains("# Namespaces missing: user.max_user_namespaces is 0\n"), "{snippet}");
        assert!(snippet.contains("fix it: sysctl -w user.max_user_namespaces=15000\n"), "{snippet}");
        let docker = diagnosis(&[OPEN, DOCKER]).snippet(platform);
        for line in snippet.lines().chain(docker.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn a_fix_reads_in_80_columns() {
    let text = diagnosis(&[OPEN, DOCKER]).to_string();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("\nProc        missing  "), "{text}");
}
