//! Files that the host and programs share: a program never blocks or misleads the host, and never
//! gets more from a file than the host gave.

use std::fs::Permissions;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use cellblock::{ErrorKind, Limits, Stdio, Verdict, container::OpenFile, seccomp::Filter};
use tokio::io::AsyncReadExt;

use super::*;
use crate::common::{builder, has_own_ids, lacks, open_dir, sh};

/// Starts a program and waits until it writes a byte.
async fn started(container: &Container, command: &mut Command) -> cellblock::Process {
    let mut process = container.spawn(command.stdout(Stdio::piped())).await.unwrap();
    process.stdout.as_mut().unwrap().read_exact(&mut [0]).await.unwrap();
    process
}

#[tokio::test]
async fn the_host_gets_a_regular_file_or_an_error_whatever_a_program_swaps_in() {
    let container = container().await;
    let swap = "import os, socket
print('.', flush=True)
while True:
    for make in (lambda: os.mkfifo('f'), lambda: os.symlink('/etc/ld.so.cache', 'f'), lambda: os.symlink('/dev/zero', 'f'),
                 lambda: os.mkdir('f'), lambda: socket.socket(socket.AF_UNIX).bind('f'), lambda: open('f', 'w').write('mine')):
        try: make()
        except OSError: pass
        try: os.rmdir('f') if os.path.isdir('f') and not os.path.islink('f') else os.unlink('f')
        except OSError: pass";
    let mut process = started(&container, &mut python(swap)).await;
    let start = Instant::now();
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..20 {
        let files = (0..500)
            .map(|number| if number % 2 == 0 { OpenFile::read("f") } else { OpenFile::append("f").mode(0o600) });
        for result in container.open(files).await.unwrap() {
            match result {
                Ok(mut file) => {
                    assert!(file.metadata().unwrap().is_file());
                    let mut content = Vec::new();
                    // A file that is open for writing cannot be read.
                    file.read_to_end(&mut content).unwrap_or_default();
                    assert!(content.is_empty() || content == b"mine", "{content:?}");
                    opened += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::File);
                    refused += 1;
                }
            }
        }
    }
    assert!(opened > 0 && refused > 0 && start.elapsed() < 20 * SECOND, "{opened} {refused} {:?}", start.elapsed());
    process.kill().await.unwrap();
}

#[tokio::test]
async fn a_file_that_claims_to_be_huge_costs_nothing() {
    let container = container().await;
    says(&container, &python("import os; os.truncate(os.open('f', os.O_CREAT | os.O_RDWR), 7 << 60)")).await;
    let error = container.read("f", 1 << 20).await.unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::File, Some(libc::EFBIG)));
    let all = container.open([OpenFile::read("f")]).await.unwrap().pop().unwrap().unwrap();
    assert_eq!(all.metadata().unwrap().len(), 7 << 60, "the control");
}

#[tokio::test]
async fn a_file_that_grows_and_shrinks_is_read_within_its_limit() {
    let container = container().await;
    let breathe = "import os
f = os.open('f', os.O_CREAT | os.O_RDWR)
print('.', flush=True)
while True: os.truncate(f, 5000000); os.truncate(f, 0)";
    let mut process = started(&container, &mut python(breathe)).await;
    for _ in 0..100 {
        match container.read("f", 100_000).await {
            Ok(content) => assert!(content.len() <= 100_000),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EFBIG), "{error}"),
        }
    }
    process.kill().await.unwrap();
}

#[tokio::test]
async fn the_host_never_waits_for_a_lease_or_a_lock() {
    let container = container().await;
    // The kernel breaks a lease by a signal, which kills a holder that does not ignore it.
    let hold = "import fcntl, os, signal
signal.signal(signal.SIGIO, signal.SIG_IGN)
f = os.open('f', os.O_CREAT | os.O_RDWR, 0o666)
fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_EX)
r = os.open('leased', os.O_CREAT | os.O_RDONLY, 0o666)
try: fcntl.fcntl(r, 1024, fcntl.F_RDLCK); print('leased', flush=True)
except OSError as error: print(os.strerror(error.errno), flush=True)
import time; time.sleep(60)";
    let mut process = container.spawn(python(hold).stdout(Stdio::piped())).await.unwrap();
    let mut said = [0; 100];
    let count = process.stdout.as_mut().unwrap().read(&mut said).await.unwrap();
    let start = Instant::now();
    container.write("f", "mine").await.unwrap();
    assert_eq!(container.read("f", 9).await.unwrap(), b"mine");
    container.write("leased", "mine").await.unwrap();
    container.delete("leased").await.unwrap();
    assert!(start.elapsed() < 5 * SECOND);
    assert_eq!(String::from_utf8_lossy(&said[..count]), "Operation not permitted\n");
    process.kill().await.unwrap();
    // The control: a lease keeps the host from the file.
    let container = builder().filter(Filter::Off).build().await.unwrap();
    let mut process = container.spawn(python(hold).stdout(Stdio::piped())).await.unwrap();
    let count = process.stdout.as_mut().unwrap().read(&mut said).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&said[..count]), "leased\n");
    assert_eq!(container.write("leased", "").await.unwrap_err().raw_os_error(), Some(libc::EAGAIN));
    process.kill().await.unwrap();
}

#[tokio::test]
async fn a_program_cannot_change_the_input_of_the_next_run() {
    let container = container().await;
    let mut attack = python(
        "import os
for flags in (os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_TRUNC):
    try: f = os.open('/proc/self/fd/0', flags)
    except OSError: continue
    for action in (lambda: os.write(f, b'attacked'), lambda: os.ftruncate(f, 1)):
        try: action(); print('works')
        except OSError: pass
print(open(0).read())",
    );
    attack.stdin(Stdio::bytes("input"));
    for _ in 0..2 {
        assert_eq!(says(&container, &attack).await, "input");
    }
    // The control: a memfd without seals, which every user may write to.
    let mut open = File::from(nix::sys::memfd::memfd_create("open", nix::sys::memfd::MFdFlags::empty()).unwrap());
    open.write_all(b"input").unwrap();
    open.rewind().unwrap();
    assert!(says(&container, attack.stdin(open)).await.starts_with("works"));
}

/// The content of a sealed memfd cannot change, but its owner can change its mode and its times.
#[tokio::test]
async fn what_a_run_changes_of_a_sealed_input_ends_with_the_run() {
    let container = container().await;
    let change = "import os
for change in (lambda f: os.fchmod(f, 0o640), lambda f: os.utime(f, (1, 2)), lambda f: os.utime(f)):
    for f in (0, 3):
        try: change(f)
        except PermissionError: pass
print(os.read(0, 3).decode(), os.read(3, 9).decode())";
    let state = |file: &File| {
        let it = file.metadata().unwrap();
        use std::os::unix::fs::MetadataExt;
        // Without the access time, which the host's own copying moves too.
        (it.mode(), it.mtime(), it.mtime_nsec(), it.ctime(), it.ctime_nsec())
    };
    let make = || {
        let mut file = sealed(b"a word");
        // Without write access for other users, who could set the times to the present.
        file.set_permissions(Permissions::from_mode(0o555)).unwrap();
        file.seek(std::io::SeekFrom::Start(2)).unwrap();
        file
    };
    let (input, other) = (make(), make());
    let before = [state(&input), state(&other)];
    let mut attack = python(change);
    attack.stdin(input.try_clone().unwrap()).fd(3, other.try_clone().unwrap());
    assert_eq!(says(&container, &attack).await, "wor word");
    assert_eq!(before, [state(&input), state(&other)]);
    // The program itself is such an input too.
    let program = sealed(&fs::read(&attacks().path).unwrap());
    program.set_permissions(Permissions::from_mode(0o555)).unwrap();
    let before = state(&program);
    let mut spoil = Command::from_fd("attack", program.try_clone().unwrap());
    for _ in 0..2 {
        assert_eq!(works(&outcomes(&says(&container, spoil.args(["spoil"])).await)).len(), usize::from(!has_own_ids()));
        spoil = Command::from_fd("attack", program.try_clone().unwrap());
    }
    assert_eq!(before.0, state(&program).0);

    let mut control = HostCommand::new("/usr/bin/python3");
    let control_input = make();
    let before = state(&control_input);
    control
        .args(["-c", "import os; os.fchmod(0, 0o640); os.utime(0, (1, 2))"])
        .stdin(control_input.try_clone().unwrap());
    assert!(control.status().unwrap().success());
    assert_ne!(state(&control_input), before, "the control");
}

fn sealed(content: &[u8]) -> File {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let mut file = File::from(memfd_create("input", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC).unwrap());
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all())).unwrap();
    file
}

/// Tries to open the files at 0 and 1 for more than the host did. Then uses them as intended, by
/// name.
const REOPEN: &str = "import os, sys
for what, attempt in {
    'write': lambda: os.open('/proc/self/fd/0', os.O_WRONLY), 'both': lambda: os.open('/dev/stdin', os.O_RDWR),
    'append': lambda: os.open('/dev/fd/0', os.O_WRONLY | os.O_APPEND), 'truncate': lambda: os.truncate('/proc/self/fd/0', 0),
    'read': lambda: os.open('/proc/self/fd/1', os.O_RDONLY), 'read and write': lambda: os.open('/dev/stdout', os.O_RDWR),
}.items():
    try: attempt(); print(what, 'works', file=sys.stderr)
    except OSError as error: print(what, error.strerror.replace(' ', '_'), file=sys.stderr)
if sys.argv[1] == 'attack': sys.exit()
assert open('/dev/stdin').read() == 'input'
open('/dev/stdout', 'a').write('output')
os.makedirs('a/b'); open('a/f', 'w').write('x'); os.rename('a/f', 'a/b/f'); os.link('a/b/f', 'f')";

#[tokio::test]
async fn a_file_of_the_host_cannot_be_reopened_for_more() {
    let container = container().await;
    let dir = open_dir();
    let (input, output) = (dir.path().join("input"), dir.path().join("output"));
    let files = || {
        fs::write(&input, "input").unwrap();
        fs::write(&output, "").unwrap();
        // The mode allows everything to every user.
        for path in [&input, &output] {
            fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
        }
        (File::open(&input).unwrap(), File::options().write(true).open(&output).unwrap())
    };
    let (stdin, stdout) = files();
    let mut attack = python(REOPEN);
    let attack = attack.arg("all").stdin(stdin).stdout(stdout);
    let said = container.output(attack).await.unwrap();
    if !said.report.protections.landlock {
        return lacks("Landlock that knows truncation");
    }
    let outcomes = outcomes(&String::from_utf8(said.stderr).unwrap());
    assert_eq!((works(&outcomes), outcomes.len()), (vec![], 6), "{outcomes:?}");
    assert!(said.report.status.success(), "the intended use works: {}", said.report);
    assert_eq!([&input, &output].map(|path| fs::read_to_string(path).unwrap()), ["input", "output"]);

    let (stdin, stdout) = files();
    let mut control = HostCommand::new("/usr/bin/python3");
    let control = control.args(["-c", REOPEN, "attack"]).stdin(stdin).stdout(stdout).output().unwrap();
    let control = self::outcomes(&String::from_utf8(control.stderr).unwrap());
    assert_eq!(works(&control).len(), 6, "the control: {control:?}");
}

#[tokio::test]
async fn a_command_may_pass_many_files_of_the_host() {
    let container = container().await;
    let mut command = sh("exec echo well");
    for number in 3..100 {
        command.fd(number, File::open("/usr/bin/env").unwrap());
    }
    assert_eq!(says(&container, &command).await, "well");
}

#[tokio::test]
async fn an_error_escapes_the_names_of_files() {
    let container = container().await;
    let name = "\u{1b}[31mred\n\u{202e}evil";
    let error = container.read(name, 9).await.unwrap_err().to_string();
    assert!(!error.contains('\u{1b}') && !error.contains('\n'), "{error:?}");
    let error = container.run(&Command::new(name)).await.unwrap_err().to_string();
    assert!(!error.contains('\u{1b}') && !error.contains('\n'), "{error:?}");
}

/// In packet mode a read discards the rest of a packet that is longer than the read. The filter
/// refuses that mode.
#[tokio::test]
async fn an_output_limit_is_exact_for_a_pipe_in_packet_mode() {
    let flood = "import fcntl, os, sys
try: fcntl.fcntl(1, fcntl.F_SETFL, os.O_DIRECT); print('packets', file=sys.stderr)
except OSError: pass
os.write(1, b'x' * 4096)";
    let control = "import fcntl, os
r, w = os.pipe(); fcntl.fcntl(w, fcntl.F_SETFL, os.O_DIRECT); os.write(w, b'x' * 4096); os.read(r, 100)
os.set_blocking(r, False)
try: os.read(r, 100); print('a stream')
except BlockingIOError: print('packets')";
    let unfiltered = builder().filter(Filter::Off).build().await.unwrap();
    assert_eq!(says(&unfiltered, &python(control)).await, "packets", "the control");
    for (container, stderr) in [(&container().await, ""), (&unfiltered, "packets\n")] {
        let mut command = python(flood);
        let output = container.output(command.capture_bytes(100)).await.unwrap();
        assert_eq!((output.stdout.len(), output.stdout_truncated), (100, true));
        assert_eq!((output.report.verdict(), &*output.stderr), (Verdict::Ok, stderr.as_bytes()));
        let room = stderr.len() as u64;
        let output =
            container.output(command.limits(Limits::new().output(4096 + room)).capture_bytes(5000)).await.unwrap();
        assert_eq!((output.stdout.len(), output.stdout_truncated), (4096, false));
        assert_eq!(output.report.verdict(), Verdict::Ok);
        let output = container.output(command.limits(Limits::new().output(100 + room))).await.unwrap();
        assert!(output.stdout.len() + output.stderr.len() <= 100 + stderr.len() && output.stdout_truncated);
        assert_eq!(output.report.verdict(), Verdict::Output);
    }
}
