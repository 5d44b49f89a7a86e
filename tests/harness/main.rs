//! Containers in the standard test harness, whose executable is their init. There is no call of
//! `init()`, and no `init_exe`.
#![allow(missing_docs)]
#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command as HostCommand, Stdio};

use cellblock::{Command, Container, Pool};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};

#[tokio::test]
async fn a_test_builds_a_container() {
    let container = Container::builder().build().await.unwrap();
    assert_eq!(container.output(Command::new("echo").arg("hello")).await.unwrap().stdout_lossy(), "hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_on_many_threads_builds_a_pool() {
    let pool = Pool::builder(Container::builder()).size(2).build().await.unwrap();
    let outputs = futures::future::join_all((0..10).map(|_| pool.output(Command::new("true")))).await;
    assert!(outputs.into_iter().all(|output| output.unwrap().status().success()));
}

/// The process would have its file's rights, and take orders from its caller.
#[test]
fn a_program_with_more_rights_than_its_caller_becomes_no_init() {
    if !nix::unistd::geteuid().is_root() {
        return common::skip("only root gives a file to another user");
    }
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("init");
    std::fs::copy(env!("CARGO_BIN_EXE_cellblock-init"), &copy).unwrap();
    assert!(says_hello(&copy), "the control");
    std::os::unix::fs::chown(&copy, Some(65534), None).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o4755)).unwrap();
    assert!(!says_hello(&copy), "set-user-id");
}

/// Whether a program that is started as an init is as one would expect: its first word is a hello.
fn says_hello(program: &Path) -> bool {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let mut command = HostCommand::new(program);
    let mut init = command.arg("cellblock:init").stdin(Stdio::from(theirs)).stderr(Stdio::null()).spawn().unwrap();
    drop(command); // it has the other end of the socket
    let mut said = [0; 100];
    let size = recv(ours.as_raw_fd(), &mut said, MsgFlags::empty()).unwrap();
    drop(ours);
    assert_eq!(init.wait().unwrap().code(), Some(0));
    said[..size].windows(5).any(|word| word == b"Hello")
}
