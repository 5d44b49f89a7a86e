//! The descriptors that a program gets: its streams and those that the command names.

use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use cellblock::{Command, ErrorKind, Stdio};

use crate::common::{container, python, says, sh};

#[tokio::test]
async fn a_program_has_three_descriptors_and_those_of_its_command() {
    // A descriptor of the host without `O_CLOEXEC`, as a careless library leaves one.
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
    // Numbers that the init uses for its own descriptors.
    command.stderr(Stdio::null()).fd(3, given()).fd(4, given()).fd(5, given()).fd(9, given()).fd(700, given());
    assert!(says(&container, &command).await.starts_with("[0, 1, 2, 3, 4, 5, 9, 700]"));
    drop(careless);
}

#[tokio::test]
async fn each_descriptor_arrives_at_its_number() {
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
async fn an_impossible_descriptor_number_is_an_error() {
    let container = container().await;
    for number in [i32::MAX - 1, i32::MAX] {
        let mut command = Command::new("/bin/true");
        command.fd(number, tempfile::tempfile().unwrap());
        let error = container.run(&command).await.unwrap_err();
        assert_eq!((error.kind(), error.step()), (ErrorKind::Exec, Some("place_fd")), "{number}: {error}");
    }
    container.ping(Duration::from_secs(5)).await.unwrap();
}
