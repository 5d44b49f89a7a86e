//! The calls that programs need, and what the arguments of the others decide.

use crate::seccomp::denylist::{Needs, compile};
use crate::seccomp::rule::Answer;

use super::machine::{ALLOW, Call, HIGH, KILL, answer, errno, machines, run};

#[test]
fn calls_that_inits_and_ordinary_programs_need_are_allowed_without_a_look_at_arguments() {
    let init = "mount umount2 fsopen fsconfig fsmount fspick move_mount open_tree mount_setattr openat2 chdir fchdir \
                execve execveat wait4 waitid capset setresuid setresgid setgroups setsid ppoll recvmsg sendmsg \
                pidfd_open close_range dup3 rt_sigprocmask nanosleep signalfd4 seccomp \
                symlinkat unlinkat mkdirat fchownat fchmodat statx statfs umask exit_group";
    let programs = "read write close fstat mprotect munmap brk rt_sigaction rt_sigreturn futex getpid gettid \
                    set_robust_list rseq getrandom clock_gettime clock_nanosleep epoll_create1 epoll_ctl epoll_pwait \
                    eventfd2 sched_yield sched_getaffinity getpriority getxattr listxattr ptrace mknodat memfd_secret \
                    name_to_handle_at landlock_create_ruleset mq_open semget get_mempolicy membarrier \
                    file_getattr";
    for (arch, machine, number) in machines() {
        let program = compile(&arch, true, Needs::default());
        for name in init.split_whitespace().chain(programs.split_whitespace()) {
            let call = Call { number: number(name).unwrap(), audit: arch.audit, arguments: [0; 6] };
            let (action, steps) =
                run(&program, call, false).unwrap_or_else(|| panic!("{machine} {name} has conditions"));
            assert_eq!(action, ALLOW, "{machine} {name}");
            assert!(steps <= 13, "{machine} {name} takes {steps} instructions");
        }
    }
}

#[test]
fn a_call_that_no_program_needs_is_refused_and_kills_unless_programs_try_it() {
    let refused = [
        (libc::ENOSYS, "io_uring_setup io_uring_enter io_uring_register clone3 process_vm_readv process_vm_writev"),
        (
            libc::ENOSYS,
            "process_madvise process_mrelease lookup_dcookie modify_ldt sysfs ustat uselib _sysctl nfsservctl",
        ),
        (libc::ENOSYS, "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents"),
        (libc::EOPNOTSUPP, "setxattr lsetxattr fsetxattr setxattrat file_setattr"),
        (libc::EOPNOTSUPP, "removexattr lremovexattr fremovexattr removexattrat"),
        (0, "fsync fdatasync sync_file_range"),
        (
            libc::EPERM,
            "kcmp sync syncfs mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node adjtimex clock_adjtime",
        ),
    ];
    let forbidden = "bpf perf_event_open userfaultfd fanotify_init add_key request_key keyctl setns unshare pivot_root chroot \
                     pidfd_getfd open_by_handle_at init_module finit_module delete_module kexec_load kexec_file_load \
                     reboot swapon swapoff acct quotactl quotactl_fd syslog vhangup clock_settime settimeofday iopl ioperm";
    let only_x86_64 = "modify_ldt sysfs ustat uselib _sysctl iopl ioperm";
    for (arch, machine, number) in machines() {
        let check = |name: &str, errno_: i32, killing: u32| match number(name) {
            Some(number) => {
                assert_eq!(answer(&arch, false, number, &[]), errno(errno_), "{machine} {name}");
                assert_eq!(answer(&arch, true, number, &[]), killing, "{machine} {name}");
            }
            None => assert!(machine == "aarch64" && only_x86_64.split(' ').any(|it| it == name), "{machine} {name}"),
        };
        for (errno_, names) in refused {
            names.split_whitespace().for_each(|name| check(name, errno_, errno(errno_)));
        }
        forbidden.split_whitespace().for_each(|name| check(name, libc::EPERM, KILL));
    }
}

#[test]
fn arguments_decide_and_high_halves_change_nothing() {
    const ALLOWED: Answer = Answer::Allow;
    const REFUSED: Answer = Answer::Refuse(libc::EPERM);
    const FORBIDDEN: Answer = Answer::Forbid(libc::EPERM);
    const NO_PAGES: Answer = Answer::Refuse(libc::ENOMEM);
    const NO_FAMILY: Answer = Answer::Refuse(libc::EAFNOSUPPORT);
    const INVALID: Answer = Answer::Refuse(libc::EINVAL);
    const NO_REQUEST: Answer = Answer::Refuse(libc::ENOTTY);
    const NO_OPTION: Answer = Answer::Refuse(libc::ENOPROTOOPT);
    const NO_PROTOCOL: Answer = Answer::Refuse(libc::EPROTONOSUPPORT);
    let cases: &[(&str, &[u64], Answer)] = &[
        ("clone", &[libc::SIGCHLD as u64], ALLOWED),
        ("clone", &[0x3D_0F00], ALLOWED), // a thread, as glibc makes one
        ("clone", &[0x4111], ALLOWED),    // a vfork
        ("clone", &[0x1000_0011], FORBIDDEN),
        ("clone", &[0x0002_0000], FORBIDDEN),
        ("clone", &[0x4000_0000], FORBIDDEN),
        ("clone", &[0x0200_0000], FORBIDDEN),
        ("clone", &[0x0400_0000], FORBIDDEN),
        ("clone", &[0x0800_0000], FORBIDDEN),
        ("clone", &[0x2000_0000], FORBIDDEN),
        ("prlimit64", &[0, 7], ALLOWED),
        ("prlimit64", &[0, 7, 0x1000], ALLOWED),
        ("prlimit64", &[2, 7], ALLOWED),
        ("prlimit64", &[1, 7], FORBIDDEN),
        ("sched_setaffinity", &[1], FORBIDDEN),
        ("sched_setaffinity", &[0], ALLOWED),
        ("sched_setscheduler", &[1], FORBIDDEN),
        ("sched_setscheduler", &[11], ALLOWED),
        ("sched_setparam", &[1], FORBIDDEN),
        ("sched_setattr", &[1], FORBIDDEN),
        ("setpriority", &[0, 0, 19], ALLOWED),
        ("setpriority", &[0, 1, 19], FORBIDDEN),
        ("setpriority", &[1, 1, 19], FORBIDDEN),
        ("setpriority", &[1, 0, 19], ALLOWED),
        ("setpriority", &[2, 0, 19], FORBIDDEN),
        ("setpriority", &[2, 1000, 19], FORBIDDEN),
        ("ioprio_set", &[1, 0], ALLOWED),
        ("ioprio_set", &[1, 1], FORBIDDEN),
        ("ioprio_set", &[2, 1], FORBIDDEN),
        ("ioprio_set", &[2, 7], ALLOWED),
        ("ioprio_set", &[3, 5], FORBIDDEN),
        ("kill", &[1, 17], REFUSED),
        ("kill", &[1, 15], ALLOWED),
        ("kill", &[7, 17], ALLOWED),
        ("tkill", &[1, 17], REFUSED),
        ("rt_sigqueueinfo", &[1, 17], REFUSED),
        ("tgkill", &[1, 1, 17], REFUSED),
        ("tgkill", &[1, 1, 6], ALLOWED),
        ("tgkill", &[7, 8, 17], ALLOWED),
        ("rt_tgsigqueueinfo", &[1, 1, 17], REFUSED),
        ("pidfd_send_signal", &[0, 17], REFUSED),
        ("pidfd_send_signal", &[0, 9], ALLOWED),
        ("mmap", &[0, 4096, 3, 0x22], ALLOWED),
        ("mmap", &[0, 4096, 3, 0x4_0022], NO_PAGES),
        ("memfd_create", &[0, 3], ALLOWED),
        ("memfd_create", &[0, 7], NO_PAGES),
        ("shmget", &[0, 0, 0o1600], ALLOWED),
        ("shmget", &[0, 0, 0o5600], NO_PAGES),
        ("shmctl", &[0, 2], ALLOWED),
        ("shmctl", &[0, 11], REFUSED),
        ("fadvise64", &[0, 0, 0, 3], ALLOWED),
        ("fadvise64", &[0, 0, 0, 4], REFUSED),
        ("prctl", &[38, 1], ALLOWED),
        ("prctl", &[62, 1], REFUSED),
        ("prctl", &[67, 1], INVALID),
        ("madvise", &[0, 4096, 4], ALLOWED),
        ("madvise", &[0, 4096, 12], INVALID),
        ("madvise", &[0, 4096, 20], INVALID),
        ("madvise", &[0, 4096, 21], INVALID),
        ("msync", &[0, 4096, 1], ALLOWED),
        ("msync", &[0, 4096, 4], Answer::Ignore),
        ("msync", &[0, 4096, 6], Answer::Ignore),
        ("preadv2", &[0, 0, 1, 0, 0, 8], ALLOWED),
        ("preadv2", &[0, 0, 1, 0, 0, 0x80], Answer::Refuse(libc::EOPNOTSUPP)),
        ("pwritev2", &[0, 0, 1, 0, 0, 0x82], Answer::Refuse(libc::EOPNOTSUPP)),
        ("fcntl", &[0, 1], ALLOWED),
        ("fcntl", &[0, 10, 17], REFUSED),
        ("fcntl", &[0, 10, 29], ALLOWED),
        ("fcntl", &[0, 1030], ALLOWED), // F_DUPFD_CLOEXEC
        ("fcntl", &[0, 1024], REFUSED),
        ("fcntl", &[0, 1040], REFUSED),
        ("fcntl", &[0, 1026, 0x8000_0020], INVALID),
        ("fcntl", &[0, 1035], ALLOWED),
        ("fcntl", &[0, 1036], INVALID),
        ("fcntl", &[0, 1038], INVALID),
        ("fcntl", &[0, 4, 0x800], ALLOWED),
        ("ioctl", &[0, 0x5401], ALLOWED),
        ("ioctl", &[0, 0x540E], ALLOWED), // TIOCSCTTY, which a child of pid 1 needs
        ("ioctl", &[0, 0x5412], FORBIDDEN),
        ("ioctl", &[0, 0x541C], FORBIDDEN),
        ("ioctl", &[0, 0x5423], FORBIDDEN),
        ("ioctl", &[0, 0x8912], ALLOWED), // SIOCGIFCONF
        ("ioctl", &[0, 0x8982], REFUSED),
        ("ioctl", &[0, 0x89A1], REFUSED),
        ("ioctl", &[0, 0x8008_6601], ALLOWED), // FS_IOC_GETFLAGS
        ("ioctl", &[0, 0x4008_6602], NO_REQUEST),
        ("ioctl", &[0, 0xc020_660b], NO_REQUEST),
        ("ioctl", &[0, 0x401C_5820], NO_REQUEST),
        ("ioctl", &[0, 0xC050_6617], NO_REQUEST),
        ("ioctl", &[0, 0x9408], NO_REQUEST),
        ("ioctl", &[0, 0x4004_9409], ALLOWED), // FICLONE
        ("ioctl", &[0, 0x8906], NO_REQUEST),
        ("ioctl", &[0, 0x8010_8907], NO_REQUEST),
        ("personality", &[0xFFFF_FFFF], ALLOWED),
        ("personality", &[0], ALLOWED),
        ("personality", &[0x6_0008], ALLOWED),
        ("personality", &[0x10_0000], REFUSED),
        ("personality", &[0x44_0000], REFUSED),
        ("socket", &[1, 1, 0], ALLOWED),
        ("socket", &[2, 0x8_0801, 6], ALLOWED),
        ("socket", &[10, 2, 17], ALLOWED),
        ("socket", &[2, 2, 1], ALLOWED),
        ("socket", &[2, 3, 255], ALLOWED),
        ("socket", &[10, 2, 58], ALLOWED),
        ("socket", &[2, 2, 58], NO_PROTOCOL), // ICMPv6 over IPv4
        ("socket", &[10, 2, 1], NO_PROTOCOL),
        ("socket", &[2, 1, 17], NO_PROTOCOL),  // UDP as a stream
        ("socket", &[2, 1, 132], NO_PROTOCOL), // SCTP
        ("socket", &[2, 5, 0], NO_PROTOCOL),   // SCTP by its type
        ("socket", &[10, 6, 0], NO_PROTOCOL),  // DCCP by its type
        ("socket", &[2, 10, 0], NO_PROTOCOL),  // AF_PACKET under another name
        ("socket", &[16, 3, 0], NO_FAMILY),
        ("socket", &[16, 3, 15], NO_FAMILY),
        ("socket", &[38, 5, 0], NO_FAMILY),
        ("socket", &[17, 3, 0], NO_FAMILY),
        ("socket", &[40, 1, 0], NO_FAMILY),
        ("socket", &[0, 1, 0], NO_FAMILY),
        ("setsockopt", &[0, 1, 2], ALLOWED),
        ("setsockopt", &[0, 41, 26], ALLOWED),
        ("setsockopt", &[0, 41, 32], NO_OPTION), // a flow label
        ("setsockopt", &[0, 41, 20], NO_OPTION), // a multicast group
        ("setsockopt", &[0, 1, 83], ALLOWED),
        ("setsockopt", &[0, 1, 26], NO_OPTION), // SO_ATTACH_FILTER
        ("setsockopt", &[0, 1, 29], NO_OPTION), // SO_TIMESTAMP
        ("setsockopt", &[0, 1, 50], NO_OPTION),
        ("setsockopt", &[0, 1, 51], NO_OPTION),
        ("setsockopt", &[0, 1, 60], NO_OPTION), // SO_ZEROCOPY
        ("setsockopt", &[0, 6, 1], ALLOWED),
        ("setsockopt", &[0, 6, 13], NO_OPTION), // TCP_CONGESTION
        ("setsockopt", &[0, 6, 14], NO_OPTION), // TCP_MD5SIG
        ("setsockopt", &[0, 6, 31], NO_OPTION), // TCP_ULP
        ("setsockopt", &[0, 6, 38], NO_OPTION), // TCP_AO_ADD_KEY
        ("setsockopt", &[0, 0, 1], ALLOWED),
        ("setsockopt", &[0, 0, 39], NO_OPTION), // a source
        ("setsockopt", &[0, 0, 42], NO_OPTION),
        ("setsockopt", &[0, 0, 64], NO_OPTION), // a table of netfilter
        ("setsockopt", &[0, 17, 103], ALLOWED),
        ("setsockopt", &[0, 17, 104], NO_OPTION),
        ("setsockopt", &[0, 132, 1], NO_OPTION),
        ("socketpair", &[1, 1], ALLOWED),
        ("socketpair", &[2, 1], NO_FAMILY),
        ("socketpair", &[30, 1], NO_FAMILY),
    ];
    for (arch, machine, number) in machines() {
        let answers = |name: &str, arguments: &[u64]| {
            [false, true].map(|kills| answer(&arch, kills, number(name).unwrap(), arguments))
        };
        for (name, arguments, wanted) in cases {
            let wanted = [false, true].map(|kills| wanted.action(kills));
            for high in [0, HIGH, 1 << 32] {
                let arguments: Vec<u64> = arguments.iter().map(|it| it | high).collect();
                assert_eq!(answers(name, &arguments), wanted, "{machine} {name} {arguments:x?}");
            }
        }
        let direct = if machine == "x86_64" { 0x4000 } else { 0x1_0000 };
        let calls: &[(&str, &[u64])] =
            &[("openat", &[0, 0, direct | 2]), ("pipe2", &[0, direct]), ("fcntl", &[0, 4, direct | 0x800])];
        for (name, arguments) in calls {
            assert_eq!(answers(name, arguments), [errno(libc::EINVAL); 2], "{machine} {name}");
            let others: Vec<u64> = arguments.iter().map(|it| it & !direct).collect();
            assert_eq!(answers(name, &others), [ALLOW; 2], "{machine} {name}");
        }
        if machine == "x86_64" {
            assert_eq!(answers("open", &[0, direct]), [errno(libc::EINVAL); 2]);
            assert_eq!(answers("open", &[0, 0x1_0000]), [ALLOW; 2], "a directory");
        }
        // The kernel looks at all 64 bits of the flags of unshare and of pointers.
        let unshare = |flags| answers("unshare", &[flags])[0];
        assert_eq!([0x0200_0000, 0x0800_0000, 0x4000_0000, 0x2000_0000].map(unshare), [ALLOW; 4]);
        for flags in [0, 0x200, 0x80, 0x1000_0000, 0x0202_0000, 1 << 32 | 0x0200_0000] {
            assert_eq!(unshare(flags), errno(libc::EPERM), "{machine} {flags:x}");
        }
        let setns = |kind| answers("setns", &[3, kind])[0];
        assert_eq!(setns(0x2000_0000), ALLOW);
        for kind in [0, 0x0002_0000, 0x1000_0000, 0x2002_0000, 0x4000_0000] {
            assert_eq!(setns(kind), errno(libc::EPERM), "{machine} {kind:x}");
        }
        for place in [1, 1 << 32] {
            assert_eq!(answers("prlimit64", &[0, 4, 0, place]), [ALLOW; 2], "the limit of core dumps can be read");
            assert_eq!(answers("prlimit64", &[0, 4, place, 0]), [errno(0); 2], "and setting it has no effect");
            assert_eq!(answers("prlimit64", &[0, 4, place, place]), [errno(libc::EPERM); 2]);
        }
        assert_eq!(answers("setrlimit", &[4, 1]), [errno(0); 2]);
        assert_eq!(answers("setrlimit", &[7, 1]), [ALLOW; 2]);
    }
}
