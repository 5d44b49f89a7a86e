//! The conversation with a real init. Whenever the host sends or waits, it receives and checks the
//! replies as well.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::LONG;
use super::check::{Owed, Running, Seen};
use crate::container::Fingerprint;
use crate::container::fuzzing::{
    Broken, Connection, Frame, GroupFiles, GroupLimits, KillReason, MAX_FDS, Reply, Request, StartBeside, StartRun,
    encode,
};

pub(super) struct Session {
    connection: Connection,
    pid: Pid,
    last_id: u64,
    owed: VecDeque<(u64, Owed)>,
    running: Option<Running>,
    besides: Vec<Running>,
    /// The last one that the init has sent.
    fingerprint: Option<Fingerprint>,
    pub(super) seen: Seen,
}

impl Session {
    pub(super) fn new(connection: Connection) -> Self {
        let pid = connection.pid1.pid().expect("the init is alive");
        Self {
            connection,
            pid: Pid::from_raw(pid as i32),
            last_id: 0,
            owed: VecDeque::new(),
            running: None,
            besides: Vec::new(),
            fingerprint: None,
            seen: Seen::default(),
        }
    }

    /// Sends a request that the init replies to.
    pub(super) fn request(&mut self, request: &Request, owed: Owed) {
        let id = self.next_id();
        self.owed.push_back((id, owed));
        self.send(id, request, Vec::new());
    }

    /// Starts a run, unless it has more descriptors than a message may carry.
    pub(super) fn run(&mut self, (run, fds): (StartRun, Vec<Arc<OwnedFd>>)) {
        self.prepare_group();
        if fds.len() > MAX_FDS {
            return;
        }
        let id = self.next_id();
        self.running = Some(Running { id, is_to_be_announced: run.announce, is_too_late: false });
        self.send(id, &Request::StartRun(run), fds);
    }

    /// Starts a run beside the current one, if there is one.
    pub(super) fn run_beside(&mut self, (run, fds): (StartRun, Vec<Arc<OwnedFd>>)) {
        let Some(main) = self.running.as_ref().map(|main| main.id) else { return };
        if fds.len() > MAX_FDS || self.besides.len() >= 4 {
            return;
        }
        let id = self.next_id();
        self.besides.push(Running { id, is_to_be_announced: run.announce, is_too_late: false });
        self.send(id, &Request::StartBeside(StartBeside { main, run, group: None }), fds);
    }

    /// Waits for the runs beside the current one.
    pub(super) fn settle_besides(&mut self) {
        self.wait_until("the runs beside another one end", |session| session.besides.is_empty());
    }

    fn prepare_group(&mut self) {
        let limits = GroupLimits { memory: Some(256 << 20), processes: Some(64), ..GroupLimits::default() };
        let Some(group) = &mut self.connection.group else { return };
        group.prepare(&limits).expect("a group");
        let join = group.take_join();
        group.begin_run();
        if let Some((files, fds)) = join {
            self.join(files, fds);
        }
    }

    pub(super) fn join(&mut self, files: GroupFiles, fds: Vec<Arc<OwnedFd>>) {
        self.send(0, &Request::Join(files), fds);
    }

    /// Kills the current run, if there is one.
    pub(super) fn kill_current(&mut self) {
        let id = self.running.as_ref().map_or(0, |run| run.id);
        self.kill(id);
    }

    /// Kills the request that was sent so many requests ago, which may be no run.
    pub(super) fn kill_earlier(&mut self, ago: u8) {
        self.kill(self.last_id.wrapping_sub(ago.into()));
    }

    /// Sends a signal to the program of the request that was sent so many requests ago.
    pub(super) fn signal_earlier(&mut self, ago: u8, number: u8) {
        let id = self.last_id.wrapping_sub(ago.into());
        self.request(&Request::Signal(id, i32::from(number as i8)), Owed::DoneOrFailed);
    }

    fn kill(&mut self, id: u64) {
        self.send(0, &Request::Kill(id, KillReason::Request), Vec::new());
    }

    /// Waits for every reply except the run's.
    pub(super) fn settle(&mut self) {
        self.wait_until("every request is answered", |session| session.owed.is_empty());
    }

    pub(super) fn end_run(&mut self) {
        self.settle();
        if self.running.is_some() {
            self.kill_current();
            self.wait_until("a killed run ends", |session| session.running.is_none());
        }
        self.settle_besides();
    }

    /// Resets the container, and asks for its fingerprint. The reset's leftovers are freed before
    /// the second reply.
    pub(super) fn reset(&mut self) -> Fingerprint {
        self.request_and_look(&Request::Reset)
    }

    /// Makes the present files those that a reset restores, and asks for the fingerprint.
    pub(super) fn freeze(&mut self) -> Fingerprint {
        self.request_and_look(&Request::Freeze)
    }

    fn request_and_look(&mut self, request: &Request) -> Fingerprint {
        self.end_run();
        self.request(request, Owed::Done);
        self.request(&Request::Fingerprint, Owed::Fingerprint);
        self.settle();
        self.fingerprint.take().expect("a fingerprint")
    }

    /// How many descriptors the init has, if the kernel shows them.
    pub(super) fn count_fds(&self) -> Option<usize> {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map(Iterator::count).ok()
    }

    /// Sends bytes that are no message.
    pub(super) fn send_garbage(&self, bytes: &[u8]) {
        rustix::net::send(self.connection.socket.as_fd(), bytes, rustix::net::SendFlags::NOSIGNAL)
            .expect("the init listens");
    }

    /// Closes the host's end.
    pub(super) fn close(&self) {
        rustix::net::shutdown(self.connection.socket.as_fd(), rustix::net::Shutdown::Both).expect("a socket");
    }

    /// Sends a request that has no reply of its own.
    pub(super) fn notify(&mut self, request: &Request) {
        self.send(0, request, Vec::new());
    }

    /// Waits until the init exits. Returns its exit code, and what it said on standard error.
    pub(super) fn wait_for_exit(&mut self) -> (i32, String) {
        let end = Instant::now() + LONG;
        loop {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
            match waitid(Id::Pid(self.pid), flags) {
                Ok(WaitStatus::Exited(_, code)) => return (code, self.stderr()),
                Ok(WaitStatus::StillAlive) => assert!(Instant::now() < end, "the init does not exit"),
                other => panic!("the init ended with {other:?}: {}", self.stderr()),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn stderr(&mut self) -> String {
        let mut text = Vec::new();
        // The pipe does not block.
        self.connection.stderr.read_to_end(&mut text).ok();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Sends a message, unless it is over a limit. Receives while the socket is full.
    fn send(&mut self, id: u64, request: &Request, fds: Vec<Arc<OwnedFd>>) {
        let Ok(datagrams) = encode(id, request, fds) else {
            self.owed.retain(|(owed, _)| *owed != id);
            self.running.take_if(|run| run.id == id);
            self.besides.retain(|run| run.id != id);
            return;
        };
        let end = Instant::now() + LONG;
        for datagram in datagrams {
            while let Err(error) = datagram.send(&self.connection.socket, false) {
                match error.raw_os_error() {
                    Some(libc::EAGAIN) => {}
                    // This user has too many descriptors on their way.
                    Some(libc::ETOOMANYREFS) => std::thread::sleep(Duration::from_millis(1)),
                    _ => self.fail(&format!("sending: {error}")),
                }
                assert!(Instant::now() < end, "the init does not receive");
                wait_for(&self.connection.socket, PollFlags::POLLOUT | PollFlags::POLLIN, 100);
                self.receive();
            }
        }
    }

    /// Receives and checks every reply that is there.
    fn receive(&mut self) {
        loop {
            match self.connection.decoder.receive::<Reply>(&self.connection.socket, false) {
                Ok(Some(reply)) => self.take(reply),
                Err(Broken::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(None) => self.fail("the init closed its socket"),
                Err(broken) => self.fail(&broken.to_string()),
            }
        }
    }

    fn take(&mut self, Frame { id, body, fds }: Frame<Reply>) {
        self.seen.is_running = self.running.is_some();
        if let Some(run) = self.running.as_mut().filter(|run| run.id == id) {
            if run.check(body, &fds, &mut self.seen) {
                self.running = None;
                self.besides.iter_mut().for_each(|beside| beside.is_too_late = true);
                self.check_children();
            }
            return;
        }
        if let Some(place) = self.besides.iter().position(|run| run.id == id) {
            if self.besides[place].check(body, &fds, &mut self.seen) {
                self.besides.swap_remove(place);
            }
            return;
        }
        let Some((owed_id, owed)) = self.owed.pop_front() else { panic!("a reply to no request: {id} {body:?}") };
        assert_eq!(owed_id, id, "out of order: {body:?} where {owed:?} was owed");
        let fingerprint = owed.check(body, &fds, &mut self.seen);
        self.fingerprint = fingerprint.or(self.fingerprint.take());
    }

    /// Once a run is over, none of its processes is alive.
    fn check_children(&self) {
        // A kernel may not list them.
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).unwrap_or_default();
        assert_eq!(children, "", "a run is over, and these are alive");
    }

    fn wait_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LONG;
        while !is_so(self) {
            if Instant::now() > end {
                let stack = fs::read_to_string(format!("/proc/{}/stack", self.pid)).unwrap_or_default();
                panic!("never: {what}; the init owes {:?} and {:?}; its stack: {stack}", self.owed, self.running);
            }
            wait_for(&self.connection.socket, PollFlags::POLLIN, 100);
            self.receive();
        }
    }

    /// The init has ended, and should not have.
    fn fail(&mut self, how: &str) -> ! {
        let (code, text) = self.wait_for_exit();
        panic!("{how}; the init exited with {code}: {text}")
    }
}

impl Drop for Session {
    /// Kills and reaps the init, and removes its group, before the process may exit.
    fn drop(&mut self) {
        kill(self.pid, Signal::SIGKILL).expect("the init is a child");
        while waitid(Id::Pid(self.pid), WaitPidFlag::WEXITED | WaitPidFlag::__WALL) == Err(Errno::EINTR) {}
        if let Some(group) = self.connection.group.take() {
            group.remove();
        }
    }
}

/// Waits until a descriptor is ready. Returns false if the time is over first.
pub(super) fn wait_for(fd: impl AsFd, events: PollFlags, millis: u16) -> bool {
    loop {
        match poll(&mut [PollFd::new(fd.as_fd(), events)], millis) {
            // The fuzzer uses signals.
            Err(Errno::EINTR) => {}
            ready => return ready.expect("a wait") > 0,
        }
    }
}
