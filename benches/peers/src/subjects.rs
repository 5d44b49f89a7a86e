//! The subjects: each runs one program and checks what it did.

use std::error::Error;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::time::Duration;

use cellblock::{Command, Container, Limits};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::process::Command as HostCommand;
use tokio::runtime::Runtime;

const MEMORY: u64 = 64 << 20;
const CPU_SECONDS: u64 = 1;
const OPEN_FILES: u64 = 64;

/// What a run has to do.
#[derive(Clone, Copy)]
pub enum Work {
    /// Run `/bin/true`.
    True,
    /// Run `/bin/echo` under limits of memory, CPU time and open files, and capture its output.
    ///
    /// cellblock holds these limits for the whole run. The others set the limits of a process.
    Echo,
}

impl Work {
    pub const ALL: [Self; 2] = [Self::True, Self::Echo];

    fn args(self) -> &'static [&'static str] {
        match self {
            Self::True => &["/bin/true"],
            Self::Echo => &["/bin/echo", "hello"],
        }
    }
}

type Done = Result<(), Box<dyn Error>>;

pub struct Subject<'a> {
    pub name: &'static str,
    pub run: Box<dyn FnMut(Work) -> Done + 'a>,
}

impl<'a> Subject<'a> {
    fn new(name: &'static str, run: impl FnMut(Work) -> Done + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// A program of the host that runs its arguments.
    fn wrapper(name: &'static str, runtime: &'a Runtime, wrapper: &'static [&'static str]) -> Self {
        Self::new(name, move |work| runtime.block_on(host_run(&[wrapper, work.args()].concat(), work)))
    }
}

/// All subjects. The first one is the floor.
pub fn subjects(runtime: &Runtime) -> Result<Vec<Subject<'_>>, Box<dyn Error>> {
    let warm = runtime.block_on(Container::builder().build())?;
    let fresh = warm.clone();
    Ok(vec![
        Subject::new("`posix_spawn`, no limits, output not captured", bare_spawn),
        Subject::wrapper("`tokio::process`", runtime, &[]),
        Subject::new("cellblock", move |work| runtime.block_on(contained_run(&warm, work))),
        Subject::new("cellblock, with a reset before each run", move |work| {
            runtime.block_on(async {
                fresh.reset().await?;
                contained_run(&fresh, work).await
            })
        }),
        Subject::new("cellblock, with a new container for each run", |work| {
            runtime.block_on(async {
                let container = Container::builder().build().await?;
                contained_run(&container, work).await?;
                container.destroy().await;
                Ok(())
            })
        }),
        Subject::wrapper("`unshare`, all namespaces", runtime, UNSHARE),
        Subject::new("hakoniwa 1.8", hakoniwa_run),
        Subject::wrapper("bubblewrap", runtime, BUBBLEWRAP),
    ])
}

const UNSHARE: &[&str] = &[
    "/usr/bin/unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "--pid",
    "--net",
    "--ipc",
    "--uts",
    "--cgroup",
    "--fork",
    "--mount-proc",
];

/// The world that a container of cellblock shows, as far as bubblewrap can make it.
const BUBBLEWRAP: &[&str] = &[
    "/usr/bin/bwrap",
    "--unshare-all",
    "--die-with-parent",
    "--new-session",
    "--clearenv",
    "--ro-bind",
    "/usr",
    "/usr",
    "--symlink",
    "usr/bin",
    "/bin",
    "--symlink",
    "usr/lib",
    "/lib",
    "--symlink",
    "usr/lib64",
    "/lib64",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--tmpfs",
    "/tmp",
    "--tmpfs",
    "/w",
    "--chdir",
    "/w",
];

fn bare_spawn(work: Work) -> Done {
    let args = work.args().iter().map(|arg| std::ffi::CString::new(*arg)).collect::<Result<Vec<_>, _>>()?;
    let mut actions = PosixSpawnFileActions::init()?;
    let null = File::options().write(true).open("/dev/null")?;
    actions.add_dup2(null.as_raw_fd(), 1)?;
    let none: [&std::ffi::CStr; 0] = [];
    let pid = posix_spawn(args[0].as_c_str(), &actions, &PosixSpawnAttr::init()?, &args, &none)?;
    match waitpid(pid, None)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

async fn host_run(args: &[&str], work: Work) -> Done {
    let mut command = HostCommand::new(args[0]);
    command.args(&args[1..]).env_clear().kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
    if let Work::True = work {
        return check(work, command.status().await?.success(), b"");
    }
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // The program that has started has done nothing yet: its dynamic linker takes longer than this.
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    for (resource, limit) in [(Resource::As, MEMORY), (Resource::Cpu, CPU_SECONDS), (Resource::Nofile, OPEN_FILES)] {
        prlimit(pid, resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    let output = child.wait_with_output().await?;
    check(work, output.status.success(), &output.stdout)
}

async fn contained_run(container: &Container, work: Work) -> Done {
    let [program, args @ ..] = work.args() else { return Err("no program".into()) };
    let mut command = Command::new(program);
    command.args(args);
    if let Work::True = work {
        return check(work, container.run(&command).await?.status.success(), b"");
    }
    let limits = Limits::new().memory(MEMORY).cpu_time(Duration::from_secs(CPU_SECONDS)).open_files(OPEN_FILES);
    let output = container.output(command.limits(limits.allow_weaker(true))).await?;
    check(work, output.report.status.success(), &output.stdout)
}

fn hakoniwa_run(work: Work) -> Done {
    use hakoniwa::{Namespace, Rlimit};
    let [program, args @ ..] = work.args() else { return Err("no program".into()) };
    let mut container = hakoniwa::Container::new();
    for namespace in [Namespace::Cgroup, Namespace::Ipc, Namespace::Network, Namespace::Uts] {
        container.unshare(namespace);
    }
    container.rootfs("/")?.devfsmount("/dev").tmpfsmount("/tmp").tmpfsmount("/w");
    if let Work::True = work {
        return check(work, container.command(program).status()?.success(), b"");
    }
    for (resource, limit) in [(Rlimit::As, MEMORY), (Rlimit::Cpu, CPU_SECONDS), (Rlimit::Nofile, OPEN_FILES)] {
        container.setrlimit(resource, limit, limit);
    }
    let output = container.command(program).args(args).output()?;
    check(work, output.status.success(), &output.stdout)
}

fn check(work: Work, is_success: bool, stdout: &[u8]) -> Done {
    let expected: &[u8] = match work {
        Work::True => b"",
        Work::Echo => b"hello\n",
    };
    match is_success && stdout == expected {
        true => Ok(()),
        false => Err(format!("success: {is_success}, output: {:?}", String::from_utf8_lossy(stdout)).into()),
    }
}
