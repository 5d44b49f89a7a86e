//! This architecture's filter in the kernel.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;

use crate::seccomp::denylist::Needs;
use crate::seccomp::filter::Filter;
use crate::sys::process::{attempt, install_filter};
use crate::wire::FilterChoice;

#[test]
fn a_filter_is_short_and_off_compiles_to_none() {
    assert_eq!(FilterChoice::from(Filter::Off).compile(Needs::default()), None);
    let lengths = [Filter::Denylist, Filter::DenylistKill]
        .map(|filter| FilterChoice::from(filter).compile(Needs::default()).unwrap().len());
    assert!(lengths.iter().all(|length| (100..700).contains(length)), "{lengths:?}");
    assert_eq!(Filter::default(), Filter::Denylist);
    let names = [Filter::Denylist, Filter::DenylistKill, Filter::Off].map(|it| serde_json::to_value(it).unwrap());
    assert_eq!(names, ["denylist", "denylist_kill", "off"]);
}

/// Calls `run` in a new thread under the filter.
fn under<T: Send + 'static>(filter: Filter, run: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(move || {
        if let Some(program) = FilterChoice::from(filter).compile(Needs::default()) {
            nix::sys::prctl::set_no_new_privs().unwrap();
            install_filter(&program).unwrap();
        }
        run()
    });
    thread.join().unwrap()
}

#[test]
fn the_kernel_answers_as_the_filter_says() {
    const HIGH: usize = 1 << 32;
    let keyctl = (libc::SYS_keyctl, [9999, 0, 0, 0, 0]);
    // Calls with their errors under the filter. Without the filter the kernel gives every one
    // another error.
    let attempts = [
        (keyctl, libc::EPERM),
        ((libc::SYS_clone3, [0; 5]), libc::ENOSYS),
        ((libc::SYS_io_uring_setup, [0; 5]), libc::ENOSYS),
        // The kernel refuses this in a process with several threads, and together with CLONE_FS.
        ((libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0]), libc::EPERM),
        ((libc::SYS_clone, [(libc::CLONE_NEWUSER | libc::CLONE_FS) as usize, 0, 0, 0, 0]), libc::EPERM),
        ((libc::SYS_clone, [HIGH | (libc::CLONE_NEWUSER | libc::CLONE_FS) as usize, 0, 0, 0, 0]), libc::EPERM),
        ((libc::SYS_setns, [usize::MAX, 0, 0, 0, 0]), libc::EPERM),
        ((libc::SYS_ioctl, [usize::MAX, libc::TIOCSTI as usize, 0, 0, 0]), libc::EPERM),
        ((libc::SYS_ioctl, [usize::MAX, HIGH | libc::TIOCSTI as usize, 0, 0, 0]), libc::EPERM),
        ((libc::SYS_socket, [HIGH | libc::AF_NETLINK as usize, libc::SOCK_RAW as usize, 31, 0, 0]), libc::EAFNOSUPPORT),
        ((libc::SYS_socketpair, [libc::AF_INET as usize, libc::SOCK_STREAM as usize, 0, 0, 0]), libc::EAFNOSUPPORT),
    ];
    // Calls whose result without the filter depends on the machine and on the user.
    let more = [
        ((libc::SYS_socket, [libc::AF_ALG as usize, libc::SOCK_SEQPACKET as usize, 0, 0, 0]), libc::EAFNOSUPPORT),
        ((libc::SYS_prlimit64, [1, 9999, 0, 0, 0]), libc::EPERM),
        ((libc::SYS_prlimit64, [HIGH | 1, 9999, 0, 0, 0]), libc::EPERM),
        ((470, [0; 5]), libc::ENOSYS),
    ];
    let answers = move || {
        let answers = attempts.iter().chain(&more).map(|((number, arguments), _)| attempt(*number, *arguments));
        (answers.collect::<Vec<_>>(), std::process::id(), attempt(libc::SYS_prlimit64, [0, 9999, 0, 0, 0]))
    };
    let (filtered, pid, own) = under(Filter::Denylist, answers);
    let wanted: Vec<_> = attempts.iter().chain(&more).map(|(_, errno)| Err(*errno)).collect();
    assert_eq!(filtered, wanted);
    assert_eq!((pid, own), (std::process::id(), Err(libc::EINVAL)), "the thread may make other calls");

    let (free, ..) = under(Filter::Off, answers);
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    if status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "0"])) {
        for (((number, arguments), errno), free) in attempts.iter().zip(&free) {
            assert_ne!(free, &Err(*errno), "the control of call {number} with {arguments:x?}");
        }
    }
    if nix::unistd::geteuid().is_root() {
        assert_eq!(free[attempts.len() + 1..][..2], [Err(libc::EINVAL); 2], "root may set limits of pid 1");
    }
}

/// Set when this executable runs again: which calls it makes.
const ROLE: &str = "CELLBLOCK_TEST_OF_FILTER";

#[test]
fn a_program_that_inherits_the_filter_is_refused_or_killed() {
    let run = |filter, role: &'static str| {
        let again = move || -> io::Result<_> {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--exact", "seccomp::tests::kernel::the_program_that_is_run_again", "--nocapture"]);
            command.env(ROLE, role).output()
        };
        under(filter, again).unwrap()
    };
    for (filter, role, signal) in [
        (Filter::Denylist, "forbidden", None),
        (Filter::DenylistKill, "refused", None),
        (Filter::DenylistKill, "forbidden", Some(libc::SIGSYS)),
    ] {
        let output = run(filter, role);
        assert_eq!(output.status.signal(), signal, "{filter:?} {role} {output:?}");
        assert_eq!(output.status.success(), signal.is_none(), "{filter:?} {role} {output:?}");
    }
}

#[test]
fn the_program_that_is_run_again() {
    let Ok(role) = std::env::var(ROLE) else { return };
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0).unwrap();
    match &*role {
        "forbidden" => assert_eq!(attempt(libc::SYS_keyctl, [9999, 0, 0, 0, 0]), Err(libc::EPERM)),
        _ => {
            assert_eq!(attempt(libc::SYS_clone3, [0; 5]), Err(libc::ENOSYS));
            thread::spawn(|| assert!(Command::new("/proc/self/exe").arg("--list").output().unwrap().status.success()))
                .join()
                .unwrap();
        }
    }
}
