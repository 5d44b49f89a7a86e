//! What users of `std::process` and `tokio::process` write first compiles, and does the obvious.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use cellblock::{Command, Container, Error, ErrorKind, Limits, Pool, Stdio, Verdict};

use crate::common::{builder, container, sh};

#[tokio::test]
async fn a_call_takes_a_command_a_reference_or_a_chain() {
    let container = container().await;
    let kept = Command::new("/bin/echo").arg("kept").clone();
    assert_eq!(container.output(Command::new("/bin/true")).await.unwrap().status().code(), Some(0));
    assert_eq!(container.output(&kept).await.unwrap().stdout_lossy(), "kept\n");
    assert_eq!(container.output(Command::new("/bin/echo").arg("chain")).await.unwrap().stdout, b"chain\n");
    assert!(container.run(kept.clone()).await.unwrap().status.success());
    assert!(container.spawn(kept).await.unwrap().wait().await.unwrap().status.success());
    // The future of a command by value may outlive the expression, and move to another task.
    let output = tokio::spawn(async move { container.output(Command::new("/bin/echo")).await });
    assert_eq!(output.await.unwrap().unwrap().stdout, b"\n");
}

#[tokio::test]
async fn a_pool_and_its_leases_take_the_same() {
    let pool =
        Pool::builder(builder().setup_command(Command::new("/bin/true").arg("x"))).size(2).build().await.unwrap();
    assert!(pool.run(Command::new("/bin/true")).await.unwrap().status.success());
    assert!(pool.run(Command::new("/bin/true").arg("x")).await.unwrap().status.success());
    assert_eq!(pool.output(Command::new("/bin/true")).await.unwrap().verdict(), Verdict::Ok);
    assert_eq!(pool.lease().await.unwrap().output(Command::new("/bin/true")).await.unwrap().verdict(), Verdict::Ok);
    let talk = pool.converse(sh("echo 21"), sh("read n; echo $((n * 2)) >&2").arg("x")).await.unwrap();
    assert_eq!(talk.second.stderr_lossy(), "42\n");
    pool.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn an_input_is_text_bytes_or_a_descriptor() {
    let container = container().await;
    let file = || {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"text").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        file
    };
    let (reader, mut writer) = io::pipe().unwrap();
    io::Write::write_all(&mut writer, b"text").unwrap();
    drop(writer);
    let inputs: [Stdio; 9] = [
        "text".into(),
        String::from("text").into(),
        (&String::from("text")).into(),
        b"text".into(),
        b"text"[..].into(),
        b"text".to_vec().into(),
        file().into(),
        std::os::fd::OwnedFd::from(file()).into(),
        reader.into(),
    ];
    for stdin in inputs {
        let shown = format!("{stdin:?}");
        let output = container.output(Command::new("/bin/cat").stdin(stdin)).await.unwrap();
        assert_eq!(output.stdout_lossy(), "text", "{shown}");
    }
    let output = container.output(Command::new("/bin/cat").stdin("said")).await.unwrap();
    assert_eq!((output.stdout_lossy(), output.stderr_lossy()), ("said".into(), "".into()));
    let refused = container.run(Command::new("/bin/true").stdout("text")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput, "text is no place for an output");
}

#[tokio::test]
async fn a_status_answers_as_the_status_of_std_does() {
    let container = container().await;
    let status = async |script| container.run(sh(script)).await.unwrap().status;
    let exited = status("exit 3").await;
    assert_eq!((exited.success(), exited.code(), exited.signal()), (false, Some(3), None));
    let killed = status("kill -9 $$").await;
    assert_eq!((killed.success(), killed.code(), killed.signal()), (false, None, Some(9)));
    assert!(!killed.core_dumped());
}

#[tokio::test]
async fn variables_are_removed_with_the_defaults_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("env");
    std::fs::write(&file, "A=default\nAB=default\nB=default\n").unwrap();
    let builder = builder().mount(cellblock::Mount::bind(file, "/.env"));
    let container = builder.build().await.unwrap();
    let env = |change: fn(&mut Command) -> &mut Command| {
        let mut command = Command::new("/usr/bin/env");
        change(&mut command);
        let output = container.output(command);
        async {
            let output = output.await.unwrap();
            let mut lines: Vec<_> = output.stdout_lossy().lines().map(str::to_owned).collect();
            lines.retain(|line| ["A", "AB", "B"].iter().any(|key| line.starts_with(&format!("{key}="))));
            lines.sort();
            lines.join(" ")
        }
    };
    assert_eq!(env(|command| command).await, "A=default AB=default B=default");
    assert_eq!(env(|command| command.env("B", "1")).await, "A=default AB=default B=1");
    assert_eq!(env(|command| command.env("A", "1").env_remove("A")).await, "AB=default B=default");
    assert_eq!(env(|command| command.env_remove("A").env("A", "1")).await, "A=1 AB=default B=default");
    assert_eq!(env(|command| command.env("A", "1").env_clear().env("B", "2")).await, "B=2");
    assert_eq!(env(|command| command.env_clear().env_remove("A")).await, "");
    let refused = container.run(Command::new("/bin/true").env_remove("A=B")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_command_and_limits_tell_what_was_set() {
    let limits = Limits::new().wall_time(Duration::from_secs(1)).memory(64 << 20).cpu_set([3, 1]).allow_weaker(true);
    assert_eq!((limits.get_wall_time(), limits.get_memory()), (Some(Duration::from_secs(1)), Some(64 << 20)));
    assert_eq!((limits.get_cpu_set(), limits.allows_weaker()), (&[1, 3][..], true));
    let unset = Limits::new();
    assert_eq!((unset.get_cpu_time(), unset.get_wall_time(), unset.get_memory()), (None, None, None));
    assert_eq!((unset.get_processes(), unset.get_stack(), unset.get_file_size()), (None, None, None));
    assert_eq!((unset.get_open_files(), unset.get_address_space(), unset.get_output()), (None, None, None));
    assert_eq!((unset.get_cpu_rate(), unset.get_cpu_set(), unset.allows_weaker()), (None, &[][..], false));

    let mut command = Command::new("python3");
    command.args(["-c", "pass"]).env("A", "1").env_remove("B").current_dir("/tmp").limits(limits.clone());
    assert_eq!(command.get_program(), "python3");
    assert_eq!(command.get_args().collect::<Vec<_>>(), ["-c", "pass"]);
    let envs: Vec<_> = command.get_envs().collect();
    assert_eq!(envs, [("A".as_ref(), Some("1".as_ref())), ("B".as_ref(), None)]);
    assert_eq!(command.get_current_dir(), Some("/tmp".as_ref()));
    assert_eq!(command.get_limits(), &limits);
}

#[tokio::test]
async fn an_error_becomes_an_io_error_of_the_kind_that_fits() {
    async fn run(container: &Container, program: &str) -> io::Result<i32> {
        Ok(container.run(Command::new(program)).await?.status.shell_code())
    }
    let container = container().await;
    assert_eq!(run(&container, "/bin/true").await.unwrap(), 0);
    let error = run(&container, "/no/such/program").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "the kernel's");
    let inside = error.get_ref().unwrap().downcast_ref::<Error>().unwrap();
    assert_eq!((inside.kind(), inside.step()), (ErrorKind::Exec, Some("exec")));
    assert_eq!(error.to_string(), inside.to_string());
    assert!(inside.source().is_some());
    assert_eq!(run(&container, "a\0b").await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    container.destroy().await;
    assert_eq!(run(&container, "/bin/true").await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn an_error_is_debugged_as_it_is_displayed() {
    let error = container().await.run(Command::new("/no/such/program")).await.unwrap_err();
    assert_eq!(format!("{error:?}"), error.to_string());
    assert!(error.to_string().contains("execute /no/such/program: No such file"), "{error}");
}
