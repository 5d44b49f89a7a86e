//! A command: its arguments, environment, program, working directory and resource limits.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use cellblock::{
    Command, ErrorKind, Mount, Stdio,
    limits::Resource,
    report::Status,
    seccomp::{DefaultAction, Syscalls},
};

use crate::common::{builder, container, open_dir, says, sh};

#[tokio::test]
async fn arguments_and_environment_arrive_as_given() {
    let container = container().await;
    let mut command = Command::new("python3");
    command.args(["-Sc", "import sys, os; print(sys.argv[1:], sorted(os.environb.items()))", "", "a b", "\n", "é"]);
    command.env("A", "1").env("B", "").env("A", "2").env("PYTHONUTF8", "1");
    let expected = r"['', 'a b', '\n', 'é'] [(b'A', b'2'), (b'B', b''), (b'HOME', b'/w'), (b'PYTHONUTF8', b'1')]";
    let said = says(&container, &command).await;
    // Python may add LC_CTYPE.
    assert_eq!(said.replace(", (b'LC_CTYPE', b'C.UTF-8')", ""), expected);
    assert_eq!(says(&container, &Command::new("env")).await, "HOME=/w", "nothing else by default");
    assert_eq!(says(&container, Command::new("env").env("HOME", "/tmp")).await, "HOME=/tmp");
}

#[tokio::test]
async fn a_megabyte_of_arguments_arrives() {
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
    container.file("bin/tool").mode(0o755).write("#!/bin/sh\necho mine").await.unwrap();
    container.write("first/tool", "not executable").await.unwrap();
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
    container.file("text").mode(0o755).write("no magic").await.unwrap();
    let error = run("./text", None).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOEXEC), "a text file is never run as a script");
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
        // Numbers that the program's descriptor may have in the init.
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
async fn an_invalid_command_is_refused() {
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
    container.file("bin/tool").mode(0o755).write("#!/bin/sh\necho found $A").await.unwrap();
    assert_eq!(says(&container, Command::new("tool").env("A", "own")).await, "found own");
    let all = says(&container, Command::new("/usr/bin/env").env("AB", "own")).await;
    assert_eq!(all, "AB=own\nPATH=/w/bin\nA=from file = \"as it is\"\nLAST=1\nHOME=/w");
    for (content, line) in [("A=1\nnothing\n", "/.env:2"), ("=x", "/.env:1"), ("\nA=\0", "/.env:2")] {
        let error = build(content).await.unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Build, Some("read_environment")), "{error}");
        assert_eq!(error.path().unwrap().to_str(), Some(line));
    }
    let error = build(&"A=1\n".repeat(20_000)).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
}

#[tokio::test]
async fn a_setup_command_runs_once_or_fails_the_build_with_its_output() {
    let container = builder().setup_command(sh("echo once >> /w/f")).build().await.unwrap();
    assert_eq!(says(&container, &sh("cat f")).await, "once");
    let error = builder().setup_command(sh("echo out; echo err >&2; exit 3")).build().await.unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Build, Some("set_up")));
    assert!(error.to_string().ends_with("exited with 3: out\nerr"), "{error}");
    let error = builder().setup_command(Command::new("/no/such/thing")).build().await.unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Exec, Some(libc::ENOENT)));
}

#[tokio::test]
async fn a_command_sets_the_working_directory() {
    let container = container().await;
    container.write("sub/f", "").await.unwrap();
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
async fn a_command_sets_the_resource_limits() {
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
async fn a_filter_that_allows_neither_exec_nor_exit_is_an_error() {
    let container = container().await;
    for (path, names, errno) in [
        ("/bin/true", &["read"][..], libc::EXFULL),
        ("/none", &["execve"], libc::ENOENT),
        ("/bin/true", &[], libc::EXFULL),
    ] {
        let mut command = Command::new(path);
        command.syscalls(Syscalls::only(names.iter().copied(), DefaultAction::Errno(libc::EXFULL)).unwrap());
        let error = tokio::time::timeout(Duration::from_secs(10), container.run(&command)).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Exec, Some(errno)), "{path}: {error}");
    }
    container.ping(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_program_copied_into_the_container_runs() {
    let container = container().await;
    let program = std::fs::read("/bin/true").unwrap();
    for round in 0..20 {
        let name = format!("program{round}");
        container.file(&name).mode(0o755).write(program.clone()).await.unwrap();
        let report = container.run(&Command::new(format!("./{name}"))).await.unwrap();
        assert!(report.status.success());
    }
}

#[tokio::test]
async fn a_program_copied_in_during_other_builds_is_not_busy() {
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
            container.file(&name).mode(0o755).write(program.clone()).await.unwrap();
            container.run(&Command::new(format!("./{name}"))).await.unwrap();
            container.delete(&name).await.unwrap();
        }
    };
    tokio::join!(others, runs);
}

#[tokio::test]
async fn the_compiler_of_the_host_works() {
    let container = container().await;
    container.write("hello.c", "#include <stdio.h>\nint main(void) { puts(\"compiled\"); return 3; }").await.unwrap();
    says(&container, &sh("gcc -O1 -o hello hello.c")).await;
    let output = container.output(&Command::new("./hello")).await.unwrap();
    assert_eq!((output.stdout.as_slice(), output.report.status), (&b"compiled\n"[..], Status::Exited(3)));
}
