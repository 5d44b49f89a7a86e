//! What a program gets, what it does not get, and how its run ends.
#![allow(missing_docs)]

mod common;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use cellblock::{
    Command, Container, ErrorKind, Mount, Stdio,
    command::Overflow,
    limits::Resource,
    report::Status,
    seccomp::{Otherwise, Syscalls},
};
use common::{builder, container, is_root, open_dir, processes_with, python, says, sh};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const KILLED: Status = Status::Signaled { signal: 9, core_dumped: false };

#[tokio::test]
async fn arguments_and_environment_arrive_as_given() {
    let container = container().await;
    let mut command = Command::new("python3");
    command.args(["-Sc", "import sys, os; print(sys.argv[1:], sorted(os.environb.items()))", "", "a b", "\n", "é"]);
    command.env("A", "1").env("B", "").env("A", "2").env("PYTHONUTF8", "1");
    let expected = r"['', 'a b', '\n', 'é'] [(b'A', b'2'), (b'B', b''), (b'PYTHONUTF8', b'1')]";
    let said = says(&container, &command).await;
    // Python may add LC_CTYPE of its own.
    assert_eq!(said.replace(", (b'LC_CTYPE', b'C.UTF-8')", ""), expected);
    assert_eq!(says(&container, &Command::new("env")).await, "", "the environment is empty unless told otherwise");
}

#[tokio::test]
async fn arguments_of_a_megabyte_arrive() {
    let container = container().await;
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-Sc", "import sys; print(len(sys.argv), sum(map(len, sys.argv[1:])))"]);
    command.args((0..10).map(|_| "x".repeat(100_000)));
    assert_eq!(says(&container, &command).await, "11 1000000");
    command.args((0..70).map(|_| "x".repeat(100_000)));
    let error = container.run(&command).await.unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Exec, Some(libc::E2BIG)));
    command.args((0..200).map(|_| "x".repeat(100_000)));
    let error = container.run(&command).await.unwrap_err();
    assert_eq!((error.step(), error.raw_os_error()), (Some("send"), Some(libc::EMSGSIZE)));
    assert_eq!(says(&container, &sh("echo still there")).await, "still there");
}

#[tokio::test]
async fn the_executable_is_looked_up_in_the_runs_path() {
    let container = container().await;
    container.write("bin/tool", "#!/bin/sh\necho mine", 0o755).await.unwrap();
    container.write("first/tool", "not executable", 0o644).await.unwrap();
    let run = async |program: &str, path: Option<&str>| {
        let mut command = Command::new(program);
        if let Some(path) = path {
            command.env("PATH", path);
        }
        container.output(command.stdin(Stdio::null())).await
    };
    assert_eq!(run("tool", Some("/w/none:/w/bin")).await.unwrap().stdout, b"mine\n");
    assert_eq!(run("tool", Some("/w/first:/w/bin")).await.unwrap().stdout, b"mine\n");
    assert_eq!(run("./bin/tool", Some("/nowhere")).await.unwrap().stdout, b"mine\n");
    assert!(run("true", None).await.unwrap().report.status.success(), "there is a default path");
    for (program, path, errno) in [
        ("tool", None, libc::ENOENT),
        ("true", Some("/w"), libc::ENOENT),
        ("tool", Some("/w/first:/w"), libc::EACCES),
        ("first/tool", None, libc::EACCES),
        ("/w", None, libc::EACCES),
        ("", None, libc::ENOENT),
    ] {
        let error = run(program, path).await.unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Exec, Some("exec")), "{error}");
        assert_eq!(error.raw_os_error(), Some(errno), "{program} in {path:?}");
        assert_eq!(error.path().unwrap().to_str(), Some(program));
        assert!(!error.is_retryable());
    }
    container.write("text", "no magic", 0o755).await.unwrap();
    let error = run("./text", None).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC), "a text is never taken for a script");
}

#[tokio::test]
async fn a_program_can_be_a_descriptor() {
    let container = container().await;
    let memfd = |content: &[u8], flags| {
        let mut file = File::from(nix::sys::memfd::memfd_create("program", flags).unwrap());
        file.write_all(content).unwrap();
        file
    };
    let echo = std::fs::read("/bin/echo").unwrap();
    let sealable = nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING;
    let sealed = memfd(&echo, sealable);
    let seals = nix::fcntl::SealFlag::F_SEAL_WRITE | nix::fcntl::SealFlag::F_SEAL_SEAL;
    nix::fcntl::fcntl(&sealed, nix::fcntl::FcntlArg::F_ADD_SEALS(seals)).unwrap();
    for file in [sealed, memfd(&echo, sealable), File::open("/bin/echo").unwrap()] {
        let mut command = Command::from_fd("echo", file);
        // Numbers that the descriptor itself may have in the init.
        command.args(["by", "fd"]).fd(5, tempfile::tempfile().unwrap()).fd(6, tempfile::tempfile().unwrap());
        assert_eq!(says(&container, &command).await, "by fd");
        assert_eq!(says(&container, &command).await, "by fd", "and again");
    }
    for content in [&b"#!/bin/sh\necho script"[..], b"no magic", b""] {
        let error = container.run(&Command::from_fd("script", memfd(content, sealable))).await.unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Exec, Some("exec")));
        assert_eq!((error.raw_os_error(), error.path().unwrap().to_str()), (Some(libc::ENOEXEC), Some("script")));
    }
    let directory = container.run(&Command::from_fd("dir", File::open("/").unwrap())).await.unwrap_err();
    assert_eq!(directory.raw_os_error(), Some(libc::EACCES));
}

#[tokio::test]
async fn a_command_that_makes_no_sense_is_refused() {
    let container = container().await;
    let mut commands = [(); 5].map(|()| Command::new("/bin/true"));
    commands[0].arg("nul\0");
    commands[1].env("a=b", "c");
    commands[2].env("", "c");
    commands[3].fd(1, File::open("/dev/null").unwrap());
    commands[4].stdout(Stdio::bytes("no output"));
    for command in commands {
        assert_eq!(container.run(&command).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn a_file_in_the_container_gives_default_variables() {
    let host = open_dir();
    let path = host.path().join("env");
    let build = async |content: &str| {
        std::fs::write(&path, content).unwrap();
        builder().mount(Mount::bind(&path, "/.env")).build().await
    };
    let container = build("# defaults\n\nPATH=/w/bin\nA=from file = \"as it is\"\r\nAB=\nLAST=1").await.unwrap();
    container.write("bin/tool", "#!/bin/sh\necho found $A", 0o755).await.unwrap();
    assert_eq!(says(&container, Command::new("tool").env("A", "own")).await, "found own");
    let all = says(&container, Command::new("/usr/bin/env").env("AB", "own")).await;
    assert_eq!(all, "AB=own\nPATH=/w/bin\nA=from file = \"as it is\"\nLAST=1");
    for (content, line) in [("A=1\nnothing\n", "/.env:2"), ("=x", "/.env:1"), ("\nA=\0", "/.env:2")] {
        let error = build(content).await.unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Build, Some("read_environment")), "{error}");
        assert_eq!(error.path().unwrap().to_str(), Some(line));
    }
    let error = build(&"A=1\n".repeat(20_000)).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
}

#[tokio::test]
async fn a_set_up_command_runs_once_or_the_build_fails_with_what_it_said() {
    let container = builder().setup_command(sh("echo once >> /w/f")).build().await.unwrap();
    assert_eq!(says(&container, &sh("cat f")).await, "once");
    let error = builder().setup_command(sh("echo out; echo err >&2; exit 3")).build().await.unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Build, Some("set_up")));
    assert!(error.to_string().ends_with("exited with 3: out\nerr"), "{error}");
    let error = builder().setup_command(Command::new("/no/such/thing")).build().await.unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Exec, Some(libc::ENOENT)));
}

#[tokio::test]
async fn the_working_directory_is_the_commands() {
    let container = container().await;
    container.write("sub/f", "", 0o644).await.unwrap();
    assert_eq!(says(&container, &sh("pwd")).await, "/w");
    assert_eq!(says(&container, sh("pwd").current_dir("sub")).await, "/w/sub");
    assert_eq!(says(&container, sh("pwd").current_dir("/usr/bin")).await, "/usr/bin");
    for (dir, errno) in [("none", libc::ENOENT), ("sub/f", libc::ENOTDIR)] {
        let error = container.run(sh("pwd").current_dir(dir)).await.unwrap_err();
        assert_eq!((error.step(), error.raw_os_error()), (Some("change_directory"), Some(errno)));
        assert_eq!(error.path().unwrap().to_str(), Some(dir));
    }
}

#[tokio::test]
async fn a_program_sees_three_descriptors_and_those_it_is_given() {
    // A fd of the host's that a careless library left open across exec.
    let careless = nix::unistd::dup(std::io::stderr().as_fd()).unwrap();
    let container = container().await;
    let list = "import os
def target(fd):
    try: return os.readlink(f'/proc/self/fd/{fd}')
    except OSError: return None
print([fd for fd in range(3000) if target(fd)], target(0), target(2))";
    assert_eq!(says(&container, python(list).stderr(Stdio::null())).await, "[0, 1, 2] /dev/null /dev/null");
    let given = || -> OwnedFd { tempfile::tempfile().unwrap().into() };
    let mut command = python(list);
    // Numbers that the init's own descriptors have.
    command.stderr(Stdio::null()).fd(3, given()).fd(4, given()).fd(5, given()).fd(9, given()).fd(700, given());
    assert!(says(&container, &command).await.starts_with("[0, 1, 2, 3, 4, 5, 9, 700]"));
    drop(careless);
}

#[tokio::test]
async fn descriptors_go_where_they_were_sent() {
    let container = container().await;
    let mut command = sh("cat <&7; cat <&3; echo out >&5");
    let file = |content: &str| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.rewind().unwrap();
        file
    };
    let mut out = file("");
    command.fd(3, file("three ")).fd(7, file("seven ")).fd(5, out.try_clone().unwrap());
    assert_eq!(says(&container, &command).await, "seven three");
    out.rewind().unwrap();
    let mut content = String::new();
    out.read_to_string(&mut content).unwrap();
    assert_eq!(content, "out\n");
}

#[tokio::test]
async fn a_number_that_no_descriptor_can_have_is_an_error() {
    let container = container().await;
    for number in [i32::MAX - 1, i32::MAX] {
        let mut command = Command::new("/bin/true");
        command.fd(number, tempfile::tempfile().unwrap());
        let error = container.run(&command).await.unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Exec, Some("place_fd")), "{number}: {error}");
    }
    container.ping(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_program_that_may_neither_be_executed_nor_exit_is_an_error() {
    let container = container().await;
    for (path, names, errno) in [
        ("/bin/true", &["read"][..], libc::EXFULL),
        ("/none", &["execve"], libc::ENOENT),
        ("/bin/true", &[], libc::EXFULL),
    ] {
        let mut command = Command::new(path);
        command.syscalls(Syscalls::only(names.iter().copied(), Otherwise::Errno(libc::EXFULL)).unwrap());
        let error = tokio::time::timeout(Duration::from_secs(10), container.run(&command)).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Exec, Some(errno)), "{path}: {error}");
    }
    container.ping(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn streams_are_live() {
    let container = container().await;
    let mut command = sh("while read line; do echo \"got $line\"; echo err >&2; done; echo end");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    let (stdin, stdout) = (process.stdin.as_mut().unwrap(), process.stdout.as_mut().unwrap());
    let mut buffer = [0; 64];
    for word in ["one", "two"] {
        stdin.write_all(format!("{word}\n").as_bytes()).await.unwrap();
        let size = stdout.read(&mut buffer).await.unwrap();
        assert_eq!(std::str::from_utf8(&buffer[..size]).unwrap(), format!("got {word}\n"));
    }
    assert!(process.wait().await.unwrap().status.success(), "wait ends the input");
    let mut rest = String::new();
    process.stdout.take().unwrap().read_to_string(&mut rest).await.unwrap();
    process.stderr.take().unwrap().read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "end\nerr\nerr\n");
    assert!(process.wait().await.unwrap().status.success(), "the answer stays");
}

#[tokio::test]
async fn a_command_can_be_run_again_with_its_bytes() {
    let container = container().await;
    let mut command = Command::new("/bin/cat");
    command.stdin(Stdio::bytes("input"));
    for _ in 0..3 {
        assert_eq!(container.output(&command).await.unwrap().stdout, b"input");
    }
}

#[tokio::test]
async fn what_is_captured_has_a_limit_and_the_program_does_not_wait_for_it() {
    let container = container().await;
    let mut command = sh("head -c 3000000 /dev/zero; head -c 10 /dev/zero >&2");
    let output = container.output(command.capture_bytes(10)).await.unwrap();
    assert!(output.report.status.success());
    assert_eq!((output.stdout.len(), output.stdout_truncated), (10, true));
    assert_eq!((output.stderr.len(), output.stderr_truncated), (10, false));
    let output = container.output(command.capture_bytes(0)).await.unwrap();
    assert_eq!((output.stdout.len(), output.stdout_truncated, output.stderr_truncated), (0, true, true));
}

#[tokio::test]
async fn a_run_may_end_when_it_writes_too_much() {
    let container = container().await;
    let mut command = sh("echo before >&2; yes; echo never");
    command.capture_bytes(1000).overflow(Overflow::Kill);
    let output = container.output(&command).await.unwrap();
    assert_eq!((output.report.status, output.stdout.len(), output.stdout_truncated), (KILLED, 1000, true));
    assert_eq!((output.stderr.as_slice(), output.stderr_truncated), (&b"before\n"[..], false));
    let mut command = sh("printf 1234");
    let output = container.output(command.capture_bytes(4).overflow(Overflow::Kill)).await.unwrap();
    assert!(output.report.status.success() && !output.stdout_truncated, "just enough is not too much");
}

#[tokio::test]
async fn streams_can_be_opened_by_their_names() {
    let container = container().await;
    let mut command = sh("cat /dev/stdin > /dev/stdout; echo err > /dev/stderr");
    let output = container.output(command.stdin(Stdio::bytes("in"))).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"in"[..], &b"err\n"[..]));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = container.spawn(&command).await.unwrap();
    process.stdin.as_mut().unwrap().write_all(b"piped").await.unwrap();
    assert!(process.wait().await.unwrap().status.success());
    let mut said = String::new();
    process.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "piped");
}

#[tokio::test]
async fn both_outputs_can_go_into_one() {
    let container = container().await;
    let mut command = sh("echo 1; echo 2 >&2; echo 3");
    let output = container.output(command.stderr(Stdio::as_stdout())).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"1\n2\n3\n"[..], &b""[..]));
    let to_null = container.run(command.stdout(Stdio::null())).await.unwrap();
    assert!(to_null.status.success());
    let error = container.run(sh(":").stdout(Stdio::as_stdout())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_program_has_no_privileges() {
    let container = container().await;
    let status = says(&container, &sh("grep -E '^(Cap|NoNewPrivs|Groups|Uid|Gid)' /proc/self/status")).await;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    if is_root() {
        assert!(status.contains("Uid:\t1000\t1000\t1000\t1000"), "{status}");
        assert!(status.contains("Gid:\t1000\t1000\t1000\t1000"), "{status}");
        assert!(status.contains("Groups:\t \n"), "{status}");
    }
    for attempt in ["mount -t tmpfs none /tmp", "chroot / true", "hostname x", "chown 1 /w || chown 0:5 /w"] {
        let output = container.output(sh(attempt).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")).await.unwrap();
        assert!(!output.report.status.success(), "{attempt}");
    }
}

#[tokio::test]
async fn a_program_starts_with_clean_signals_and_a_session_of_its_own() {
    let container = container().await;
    let status = says(&container, &sh("grep -E '^Sig(Blk|Ign|Cgt|Pnd)' /proc/self/status")).await;
    for set in ["SigBlk", "SigIgn", "SigPnd"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    let ids = python("import os; print(os.getpid() == os.getsid(0) == os.getpgrp(), os.getppid())");
    assert_eq!(says(&container, &ids).await, "True 1");
    let mask =
        python("import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(signal.SIGCHLD))");
    assert_eq!(says(&container, &mask).await, "set() 0");
}

#[tokio::test]
async fn limits_are_the_commands() {
    let container = container().await;
    let mut command = sh("ulimit -Sn; ulimit -Hn; ulimit -Sf");
    command.rlimit(Resource::OpenFiles, 32, 64).rlimit(Resource::FileSize, 512, 1024);
    assert_eq!(says(&container, &command).await, "32\n64\n1");
    let hard = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().1;
    let error = container.run(sh(":").rlimit(Resource::OpenFiles, 1, hard + 1)).await.unwrap_err();
    assert_eq!((error.step(), error.raw_os_error()), (Some("set_limit"), Some(libc::EPERM)));
    assert_ne!(says(&container, &sh("ulimit -Sn")).await, "32", "the next run has its own");
}

#[tokio::test]
async fn a_program_that_is_copied_in_runs() {
    let container = container().await;
    let program = std::fs::read("/bin/true").unwrap();
    for round in 0..20 {
        let name = format!("program{round}");
        container.write(&name, program.clone(), 0o755).await.unwrap();
        let report = container.run(&Command::new(format!("./{name}"))).await.unwrap();
        assert!(report.status.success());
    }
}

#[tokio::test]
async fn the_compiler_of_the_host_works() {
    let container = container().await;
    container
        .write("hello.c", "#include <stdio.h>\nint main(void) { puts(\"compiled\"); return 3; }", 0o644)
        .await
        .unwrap();
    says(&container, &sh("gcc -O1 -o hello hello.c")).await;
    let output = container.output(&Command::new("./hello")).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.report.status), (&b"compiled\n"[..], Status::Exited(3)));
}

#[tokio::test]
async fn a_report_tells_how_the_program_ended_and_what_it_used() {
    let container = container().await;
    let ended = async |script: &str| container.run(&sh(script)).await.unwrap().status;
    assert_eq!(ended("exit 7").await, Status::Exited(7));
    assert_eq!(ended("kill -9 $$").await, KILLED);
    assert_eq!(ended("kill -SEGV $$").await, Status::Signaled { signal: 11, core_dumped: false });
    let busy = python(
        "import os, time
if os.fork() == 0:
    while time.process_time() < 0.3: pass
    os._exit(0)
held = b'x' * 50_000_000
os.wait(); time.sleep(0.1)",
    );
    let usage = container.run(&busy).await.unwrap().usage;
    let cpu = usage.user.unwrap() + usage.system.unwrap();
    assert!(cpu >= Duration::from_millis(300), "the child's is in it: {cpu:?}");
    assert!(usage.wall.unwrap() >= Duration::from_millis(100), "{usage:?}");
    assert!(usage.memory_peak_bytes.unwrap() > 50_000_000, "{usage:?}");
    let small = container.run(&sh(":")).await.unwrap().usage;
    assert!(small.memory_peak_bytes.unwrap() < 20_000_000, "a peak is the run's own: {small:?}");
}

#[tokio::test]
async fn orphans_count_and_are_reaped_as_they_die() {
    let container = container().await;
    // Two hundred orphans under a limit of thirty processes: each is reaped before the next few are needed.
    let orphans = "import os, time
for _ in range(200):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.001); os._exit(0)
        os._exit(0)
    os.wait(); time.sleep(0.002)
print('done')";
    let mut command = python(orphans);
    if is_root() {
        command.rlimit(Resource::Processes, 30, 30);
    }
    assert_eq!(says(&container, &command).await, "done");
    // It goes on until its grandchild has closed the pipe by its end.
    let burn = "import os, time
reader, writer = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        while time.process_time() < 0.3: pass
        os._exit(0)
    os._exit(0)
os.close(writer); os.wait(); os.read(reader, 1)";
    let usage = container.run(&python(burn)).await.unwrap().usage;
    assert!(usage.user.unwrap() + usage.system.unwrap() >= Duration::from_millis(300), "{usage:?}");
}

#[tokio::test]
async fn a_run_is_over_when_everything_that_it_started_is_dead() {
    let container = container().await;
    let mark = format!("mark{}", std::process::id());
    let daemons = format!(
        "for i in 1 2 3; do setsid sh -c 'trap \"\" HUP TERM INT; while :; do sleep 1; done # {mark}' & done; echo started"
    );
    let start = Instant::now();
    // A grandchild holds the output open: its end comes promptly all the same.
    assert_eq!(says(&container, &sh(&daemons)).await, "started");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(processes_with(&mark), []);
    let mut process = container.spawn(&sh(&format!("{daemons}; sleep 60"))).await.unwrap();
    common::eventually("the daemons run", || processes_with(&mark).len() > 3).await;
    assert_eq!(process.kill().await.unwrap().status, KILLED);
    assert_eq!(processes_with(&mark), []);
}

#[tokio::test]
async fn a_dropped_process_is_killed_and_the_next_run_goes_on() {
    let container = container().await;
    let mark = format!("dropped{}", std::process::id());
    let process = container.spawn(&sh(&format!("sleep 60 # {mark}"))).await.unwrap();
    drop(process);
    assert_eq!(says(&container, &sh("echo next")).await, "next");
    assert_eq!(processes_with(&mark), []);
}

#[tokio::test]
async fn a_queued_run_whose_future_is_dropped_never_starts() {
    let container = container().await;
    let mut first = container.spawn(&sh("sleep 60")).await.unwrap();
    {
        let command = sh("echo started > f");
        let mut queued = Box::pin(container.run(&command));
        assert!(futures::poll!(queued.as_mut()).is_pending());
        // It is in the queue now: this comes after it, and is answered.
        container.ping(Duration::from_secs(1)).await.unwrap();
    }
    first.kill().await.unwrap();
    assert_eq!(says(&container, &sh("ls")).await, "");
}

#[tokio::test]
async fn runs_take_their_turns_in_order() {
    let container = container().await;
    let commands: Vec<_> = (0..20).map(|number| sh(&format!("echo {number} >> order"))).collect();
    let reports = futures::future::join_all(commands.iter().map(|command| container.run(command))).await;
    assert!(reports.iter().all(|report| report.as_ref().unwrap().status.success()));
    let order: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(says(&container, &sh("cat order")).await, order.join("\n"));
}

#[tokio::test]
async fn a_late_kill_does_not_hit_the_next_run() {
    let container = container().await;
    for _ in 0..200 {
        let mut process = container.spawn(&Command::new("/bin/true")).await.unwrap();
        process.start_kill();
        let next = container.run(&Command::new("/bin/true")).await.unwrap();
        assert!(next.status.success(), "{}", next.status);
        let first = process.wait().await.unwrap().status;
        assert!(first.success() || first == KILLED, "{first}");
    }
}

#[tokio::test]
async fn dropping_at_any_poll_leaves_a_usable_container() {
    let container = container().await;
    let command = sh("echo hi; sleep 0.01");
    let mut completed = false;
    for polls in 0.. {
        let mut future = Box::pin(container.output(&command));
        for _ in 0..polls {
            if futures::poll!(future.as_mut()).is_ready() {
                completed = true;
                break;
            }
            // Lets the actor and the program go on by one wake-up or a little time.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(future);
        container.ping(Duration::from_secs(5)).await.unwrap();
        assert_eq!(says(&container, &sh("echo usable")).await, "usable");
        if completed {
            break;
        }
    }
}

#[tokio::test]
async fn the_init_cannot_be_signaled_or_traced() {
    let container: Container = container().await;
    let attack = python(
        "import os, signal, ctypes
for s in range(1, 65):
    try: os.kill(1, s)
    except PermissionError: pass
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(16, 1, 0, 0), ctypes.get_errno() in (1, 3))
def denied(f):
    try: f()
    except OSError: return True
print(all(denied(f) for f in [
    lambda: open('/proc/1/mem'), lambda: open('/proc/1/environ').read(), lambda: os.readlink('/proc/1/exe'),
    lambda: os.open('/proc/1/exe', os.O_PATH), lambda: os.listdir('/proc/1/root'), lambda: os.listdir('/proc/1/fd')]))
me = os.getpid()
print(denied(lambda: os.readlink('/proc/self/exe')), denied(lambda: open('/proc/self/environ').read()))",
    );
    assert_eq!(says(&container, &attack).await, "-1 True\nTrue\nNone None");
    container.ping(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test]
async fn a_program_copied_in_beside_other_builds_is_not_busy() {
    let container = container().await;
    let program = std::fs::read("/bin/true").unwrap();
    let others = async {
        for _ in 0..30 {
            builder().build().await.unwrap().destroy().await;
        }
    };
    let runs = async {
        for round in 0..100 {
            let name = format!("p{round}");
            container.write(&name, program.clone(), 0o755).await.unwrap();
            container.run(&Command::new(format!("./{name}"))).await.unwrap();
            container.delete(&name).await.unwrap();
        }
    };
    tokio::join!(others, runs);
}

#[tokio::test]
async fn the_hosts_own_files_can_be_streams() {
    let container = container().await;
    let dir = open_dir();
    let path = dir.path().join("out");
    let file = File::create(&path).unwrap();
    let mut command = sh("cat; echo err >&2");
    command.stdin(File::open("/etc/hostname").unwrap());
    command.stdout(file.try_clone().unwrap()).stderr(file);
    assert!(container.run(&command).await.unwrap().status.success());
    let expected = std::fs::read_to_string("/etc/hostname").unwrap() + "err\n";
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
}
