//! Hosts with unusual state: umask, descriptors, signals, namespaces, memory, a control group.
//!
//! Containers work there, and inherit none of that state.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use cellblock::{Command, Container, ErrorKind, container::OpenFile};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::common::{LeakSnapshot, alone, builder, children, container, is_root, says, sh};

/// Runs this executable as another host, started by a program that changes its state.
fn host(role: &str, through: &[&str]) -> ExitStatus {
    crate::common::another_host(&format!("hosts/{role}"), through).stdout(std::process::Stdio::null()).status().unwrap()
}

/// A shell that runs this script and then executes its arguments.
fn after(script: &str) -> [String; 4] {
    ["/bin/sh".into(), "-c".into(), format!("{script}; exec \"$@\""), "sh".into()]
}

fn serves(role: &str, through: &[impl AsRef<str>]) {
    alone(async |snapshot| {
        let through: Vec<_> = through.iter().map(AsRef::as_ref).collect();
        let status = host(role, &through);
        assert!(status.success(), "{role} {through:?}: {status}");
        snapshot.assert_restored().await;
    });
}

/// The part of the other process.
pub fn play(role: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match role {
            "plain" => serve().await,
            "subordinate" => {
                let container = builder().filter(cellblock::seccomp::Filter::Off).build().await.unwrap();
                let output = container.output(&sh("id -u; exec 3>f; ls -ln f")).await.unwrap();
                assert!(output.report.protections.own_ids, "{}", output.report);
                let said = String::from_utf8(output.stdout).unwrap();
                assert!(said.starts_with("1000\n") && said.contains(" 1000 1000 "), "{said}");
                let mut process = container.spawn(&sh("sleep 4321.5")).await.unwrap();
                let mut pids = Vec::new();
                crate::common::eventually("it runs", || {
                    pids = crate::common::processes_with("sleep 4321.5");
                    !pids.is_empty()
                })
                .await;
                let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{}", pids[0])).unwrap());
                assert!((200_000..200_100).contains(&owner), "{owner}");
                process.kill().await.unwrap();
                let attack =
                    crate::common::python("import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (100, 200))");
                assert!(!container.run(&attack).await.unwrap().status.success(), "the init has another id");
                container.reset().await.unwrap();
                serve().await;
            }
            "without streams" => {
                for fd in 0..3 {
                    nix::unistd::close(fd).unwrap();
                }
                serve().await;
            }
            "with many descriptors" => {
                for _ in 0..300 {
                    let file = File::open("/etc/passwd").unwrap();
                    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
                    // Stays open until the process ends.
                    assert!(file.into_raw_fd() > 2);
                }
                serve().await;
            }
            "as a subreaper" => {
                nix::sys::prctl::set_child_subreaper(true).unwrap();
                serve().await;
            }
            "of gigabytes" => be_large().await,
            "in a user namespace" => {
                let error = builder().build().await.unwrap_err();
                assert_eq!((error.kind(), error.step()), (ErrorKind::Build, Some("map_ids")), "{error}");
                assert!(error.hint().unwrap().contains("ContainerBuilder::id_range"), "{error}");
                crate::common::eventually("what was begun is reaped", || children().is_empty()).await;
            }
            other => panic!("no such role: {other}"),
        }
    });
    // The test harness would write to its closed streams.
    std::process::exit(0);
}

/// Builds and uses a container, and checks that it inherits nothing from the host.
async fn serve() {
    container().await.destroy().await;
    let snapshot = LeakSnapshot::take();
    let container = container().await;
    let init = *children().first().unwrap();
    if is_root() {
        let fds = fs::read_dir(format!("/proc/{init}/fd")).unwrap();
        let targets: Vec<_> = fds.map(|fd| fs::read_link(fd.unwrap().path()).unwrap()).collect();
        assert!(!targets.contains(&PathBuf::from("/etc/passwd")), "{targets:?}");
        assert!(targets.len() < 17, "{targets:?}");
    }
    container.ping(Duration::from_secs(5)).await.unwrap();
    let [file] = <[_; 1]>::try_from(container.open([OpenFile::write("f").mode(0o642)]).await.unwrap()).unwrap();
    assert!(file.unwrap().as_raw_fd() >= 0);
    container.file("d/e/f").mode(0o604).write(*b"text").await.unwrap();
    assert_eq!(container.read("d/e/f", 10).await.unwrap(), b"text");
    let modes = "stat -c %a f d d/e d/e/f . /tmp; mkdir n; : > n/f; stat -c %a n n/f";
    assert_eq!(
        says(&container, &sh(modes)).await.split_whitespace().collect::<Vec<_>>(),
        ["642", "755", "755", "604", "755", "1777", "755", "644"]
    );
    // Three streams, and the descriptor of the listing.
    assert_eq!(says(&container, &sh("ls /proc/self/fd")).await.split_whitespace().count(), 4);
    let signals = says(&container, &sh("grep -E 'Sig(Blk|Ign)' /proc/self/status")).await;
    for line in signals.lines() {
        assert!(line.ends_with("\t0000000000000000"), "{signals}");
    }
    assert_eq!(says(&container, &sh("pwd; ls -d /proc/[0-9]* | wc -l")).await.lines().next(), Some("/w"));
    container.reset().await.unwrap();
    assert!(container.run(&Command::new("/bin/true")).await.unwrap().status.success());
    container.destroy().await;
    assert_eq!(LeakSnapshot::take(), snapshot);
}

/// A build takes no longer when the host has much memory, because nothing copies page tables.
async fn be_large() {
    // Huge pages would keep the page tables small.
    nix::sys::prctl::set_thp_disable(true).unwrap();
    let build = async || {
        let mut times = Vec::new();
        for _ in 0..15 {
            let start = Instant::now();
            let container: Container = container().await;
            times.push(start.elapsed());
            container.destroy().await;
        }
        times.sort();
        times[times.len() / 4]
    };
    build().await;
    let small = build().await;
    let memory = vec![1_u8; 1 << 30];
    let large = build().await;
    assert!(memory[memory.len() / 2] == 1 && large < small * 2, "{small:?} and then {large:?}");
}

#[test]
fn a_host_with_an_odd_umask_is_served() {
    for mask in ["0777", "0000", "0077"] {
        serves("plain", &after(&format!("umask {mask}")));
    }
}

#[test]
fn a_host_with_many_open_descriptors_leaks_none_into_containers() {
    serves("plain", &after("exec 3</etc/passwd 7</etc/passwd 9>/dev/full"));
    serves("with many descriptors", &[""; 0]);
}

#[test]
fn a_host_without_standard_streams_is_served() {
    serves("without streams", &[""; 0]);
}

#[test]
fn a_host_with_signals_blocked_and_ignored_is_served() {
    let odd = "import os, signal, sys
for s in signal.valid_signals() - {9, 19}:
    signal.signal(s, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
os.execv(sys.argv[1], sys.argv[1:])";
    serves("plain", &["/usr/bin/python3", "-Sc", odd]);
}

#[test]
fn a_host_whose_working_directory_is_gone_is_served() {
    serves("plain", &after("dir=$(mktemp -d) && cd $dir && rmdir $dir"));
}

#[test]
fn a_host_with_low_priority_and_little_stack_is_served() {
    serves("plain", &["nice", "-n", "10", "prlimit", "--stack=262144"]);
}

#[test]
fn a_host_that_adopts_orphans_is_served() {
    serves("as a subreaper", &[""; 0]);
}

#[test]
fn a_host_with_gigabytes_of_memory_builds_as_fast() {
    serves("of gigabytes", &[""; 0]);
}

#[test]
fn a_host_in_its_own_namespaces_is_served_or_gets_a_hint() {
    if is_root() {
        serves("plain", &["unshare", "--pid", "--fork", "--mount-proc"]);
    }
    // The host has all capabilities and one id there.
    serves("in a user namespace", &["unshare", "-Urpf", "--mount-proc"]);
}

#[test]
fn a_user_with_subordinate_ids_has_programs_of_their_own_id() {
    if !is_root() {
        crate::common::skip("only root can set up such a user");
        return;
    }
    if ["newuidmap", "newgidmap"].iter().any(|tool| !PathBuf::from("/usr/bin").join(tool).exists()) {
        crate::common::lacks("newuidmap and newgidmap");
        return;
    }
    let granted = crate::common::open_dir();
    let file = granted.path().join("granted");
    fs::write(&file, "nobody:200000:100\n").unwrap();
    let ranges = format!("for f in /etc/subuid /etc/subgid; do touch $f; mount --bind {} $f; done", file.display());
    let user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let script = format!("{ranges}; exec {user} \"$@\"");
    serves("subordinate", &["unshare", "--mount", "/bin/sh", "-c", &script, "sh"]);
}

#[test]
fn a_host_in_its_own_cgroup_is_served_and_leaves_it_empty() {
    let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
    let make = |root: &PathBuf| {
        let group = root.join(format!("cellblock-test-{}", std::process::id()));
        (root.join("cgroup.procs").exists() && fs::create_dir(&group).is_ok()).then_some(group)
    };
    let Some(group) = roots.iter().find_map(make).map(Group) else {
        crate::common::skip("this user may not make a control group");
        return;
    };
    serves("plain", &after(&format!("echo $$ > {}/cgroup.procs", group.0.display())));
    // The kernel removes a group only when it has no processes.
    fs::remove_dir(&group.0).unwrap();
}

/// A control group that is removed on drop.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.0));
    }
}
