//! The least that each limit may be: less is refused before anything runs, and a run with the least
//! is a report.

use cellblock::{ErrorKind, Output, Pool, Stdio, pool::PoolStatus};

use super::*;
use crate::common::SECOND;

const MEMORY: u64 = 2 * MIB;
const STACK: u64 = 64 << 10;
const OPEN_FILES: u64 = 4;
const ADDRESS_SPACE: u64 = MIB;

/// A limit below its floor, and the same limit at its floor. With the least memory a program may read
/// its own pages from the disk again and again, so it does not get long.
fn floors() -> Vec<(&'static str, Limits, Limits)> {
    let us = Duration::from_micros;
    let limits = || limits().wall_time(5 * SECOND);
    vec![
        ("memory", limits().memory(MEMORY - 1), limits().memory(MEMORY)),
        ("no memory", limits().memory(0), limits().memory(MEMORY)),
        ("stack", limits().stack(STACK - 1), limits().stack(STACK)),
        ("open files", limits().open_files(OPEN_FILES - 1), limits().open_files(OPEN_FILES)),
        ("address space", limits().address_space(ADDRESS_SPACE - 1), limits().address_space(ADDRESS_SPACE)),
        ("wall time", limits().wall_time(us(0)), limits().wall_time(us(1))),
        ("CPU time", limits().cpu_time(us(0)), limits().cpu_time(us(1))),
    ]
}

#[tokio::test]
async fn a_limit_below_its_floor_is_refused_and_at_its_floor_it_is_a_report() {
    let container = container().await;
    for (what, below, at) in floors() {
        for program in ["/bin/true", "/usr/bin/python3"] {
            let mut command = Command::new(program);
            let error = container.run(command.limits(below.clone())).await.unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::InvalidInput, false), "{what}: {error}");
            for _ in 0..rounds() {
                let result = container.run(command.args(["-c", "pass"]).limits(at.clone())).await;
                assert!(result.is_ok(), "{what} of {program}: {result:?}");
                container.reset().await.unwrap();
            }
        }
    }
    // Limits whose floor is a program that does nothing of the kind.
    for none in [limits().file_size(0), limits().output(0), limits().processes(1)] {
        if !(none.get_processes().is_some() && lacks_process_limits(&container).await) {
            assert!(run(&container, Command::new("/bin/true").limits(none)).await.status.success());
        }
    }
    let refused = container.run(Command::new("/bin/true").limits(limits().processes(0))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

/// The kernel does not limit the machine's root, and counts an ordinary user's other processes.
async fn lacks_process_limits(container: &Container) -> bool {
    groups(container).await.is_none()
}

/// A start takes more where its child gets a copy of the init's memory, or more to set up.
#[tokio::test]
async fn every_kind_of_start_fits_into_the_least_memory() {
    let container = container().await;
    let least = || limits().memory(MEMORY);
    let mut starts = vec![
        ("with a hook", Command::new("/bin/true").pid_hook(|_, _| async { Ok(()) }).clone()),
        ("on a terminal", Command::new("/bin/true").stdin(Stdio::pty()).stdout(Stdio::pty()).clone()),
        ("with files", Command::new("/bin/true").stdin(File::open("/etc/passwd").unwrap()).clone()),
    ];
    if groups(&container).await.is_some() {
        starts.push(("at a CPU rate", Command::new("/bin/true").limits(least().cpu_rate(0.5)).clone()));
    }
    let repetitions = if is_slow() { 1 } else { 10 };
    for (what, mut command) in starts {
        if command.get_limits().get_cpu_rate().is_none() {
            command.limits(least());
        }
        for _ in 0..repetitions * rounds() {
            let result = container.output(&command).await;
            assert!(result.is_ok_and(|Output { report, .. }| report.status.success()), "{what}");
            container.reset().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_memory_limit_has_room_for_the_arguments() {
    let container = container().await;
    if groups(&container).await.is_none() {
        return skip("no group counts the memory of arguments");
    }
    let mut command = Command::new("/bin/true");
    let argument = "x".repeat(99_999);
    command.args([&argument; 10]).env("SIZE", &argument);
    // Each string ends with a NUL, and has a pointer.
    let size = 10 * 100_008 + "/bin/true".len() as u64 + 9 + "SIZE=".len() as u64 + 100_008;
    let least = MEMORY + size - (128 << 10);
    let error = container.run(command.limits(limits().memory(least - 1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    for _ in 0..rounds() {
        assert!(run(&container, command.limits(limits().memory(least))).await.status.success());
        container.reset().await.unwrap();
    }
}

#[tokio::test]
async fn cpus_that_the_machine_lacks_are_refused_and_too_many_processes_are_capped() {
    let container = container().await;
    let mut command = Command::new("/bin/true");
    let error = container.run(command.limits(limits().cpu_set([0, 9999]))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    for rate in [0.0099, f64::NAN, -1.0, f64::INFINITY] {
        let error = container.run(command.limits(limits().cpu_rate(rate))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    if groups(&container).await.is_some() {
        assert!(run(&container, command.limits(limits().cpu_rate(0.01))).await.status.success());
        let report = run(&container, command.limits(limits().processes(u32::MAX - 1))).await;
        let held = report.limit(cellblock::limits::Limit::Processes).unwrap();
        assert_eq!(held.value, 4 << 20, "the kernel's own limit");
    }
}

#[tokio::test]
async fn a_tenant_who_chooses_too_low_a_limit_costs_no_container() {
    let pool = Pool::builder(builder()).size(1).build().await.unwrap();
    for (what, below, _) in floors() {
        let error = pool.run(Command::new("/bin/true").limits(below)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}");
        let PoolStatus { building, broken, .. } = pool.status();
        assert_eq!((building, broken), (0, 0), "{what}: the container is kept");
    }
    pool.shutdown(SECOND).await;
    let error = Pool::builder(builder()).memory(MEMORY - 1).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let pool = Pool::builder(builder()).size(1).memory(MEMORY).build().await.unwrap();
    assert_eq!(pool.lease_with_memory(MEMORY - 1).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    drop(pool.lease_with_memory(MEMORY).await.unwrap());
}
