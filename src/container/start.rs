//! A run, from its command to the handle of its caller.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::command::{Command, Stream};
use crate::doctor::hints;
use crate::error::{Error, ErrorKind, Result, ResultExt, Step};
use crate::limits::{Plan, check_room_for};
use crate::observe::RunSpan;
use crate::process::{CommandStreams, KillSwitch, Output, Process, ProgramFds, RunHandle, SealedInputs, open_streams};
use crate::report::Report;
use crate::sys::socket;
use crate::wire::FdRole;

use super::handle::Container;
use super::message::{Message, Operation, Place, QueuedRun, RunKey};
use super::origin::Origin;
use super::reply::ReplySender;

impl Container {
    pub(super) async fn spawn_in(&self, place: Place, command: &Command) -> Result<Process> {
        let streams = self.open_streams(command, &Stream::Null)?;
        let run = match &command.hook {
            Some(_) => self.start(place, command, streams.program).await?,
            None => self.start_announced(place, command, streams.program).await?,
        };
        Ok(Process::new(streams.host, run))
    }

    pub(super) async fn run_in(&self, place: Place, command: &Command) -> Result<Report> {
        let streams = self.open_streams(command, &Stream::Null)?;
        if streams.host.has_terminal() {
            return Err(Error::invalid("a program on a terminal needs its other end: spawn it, or collect its output"));
        }
        drop(streams.host);
        self.start(place, command, streams.program).await?.wait().await
    }

    pub(super) async fn start_output_in(
        &self,
        place: Place,
        command: &Command,
    ) -> Result<impl Future<Output = Result<Output>> + use<>> {
        let streams = self.open_streams(command, &Stream::Piped)?;
        let run = self.start(place, command, streams.program).await?;
        Ok(Output::collect(streams.host, run, command.capture))
    }

    fn open_streams(&self, command: &Command, unset: &Stream) -> Result<CommandStreams> {
        let inputs = if self.has_own_ids() { SealedInputs::Shared } else { SealedInputs::Copied };
        open_streams(command, unset, self.info.program, inputs)
    }

    /// Sends a command to the actor. If it has a hook, passes its process to that.
    async fn start(&self, place: Place, command: &Command, fds: ProgramFds) -> Result<RunHandle> {
        let Some(hook) = &command.hook else {
            return self.send(place, command, fds, None, None).await;
        };
        let (inside, gate) = socket::pair().fail(ErrorKind::Host, Step::PidHook)?;
        let (sender, forked) = oneshot::channel();
        let mut run = self.send(place, command, fds, Some(inside), Some(sender)).await?;
        run.pass_hook(hook, forked, gate).await?;
        Ok(run)
    }

    /// Sends a command without a hook, and waits until its process exists.
    async fn start_announced(&self, place: Place, command: &Command, fds: ProgramFds) -> Result<RunHandle> {
        let (sender, forked) = oneshot::channel();
        let mut run = self.send(place, command, fds, None, Some(sender)).await?;
        run.wait_forked(forked).await?;
        Ok(run)
    }

    /// Sends a command with its descriptors to the actor. `gate` holds its process until the hook
    /// has decided. `forked` gets its process, if the caller waits for it.
    async fn send(
        &self,
        place: Place,
        command: &Command,
        program: ProgramFds,
        gate: Option<OwnedFd>,
        forked: Option<ReplySender<(u32, OwnedFd)>>,
    ) -> Result<RunHandle> {
        let plan = self.plan(command, program.writes_elsewhere)?;
        let (roles, fds) = with_roles(program, gate);
        let request = command.to_start_run(roles, forked.is_some(), &plan)?;
        check_room_for(plan.group.memory, request.args.size_in_program() + request.env.size_in_program())?;
        let (outcome, report) = oneshot::channel();
        let (kill, killed) = KillSwitch::new();
        let key = RunKey::new();
        let origin = Origin {
            mailbox: self.mailbox.clone(),
            info: self.info.clone(),
            lease: self.lease,
            slot: self.slot,
            run: key,
        };
        let run = RunHandle::new(origin, report, kill, plan.output);
        let Plan { group, held, .. } = plan;
        let span = RunSpan::open(command.get_program(), self.slot, &held);
        let sent = QueuedRun { key, request, fds, group, held, forked, outcome, span, memory_deadline: None, killed };
        let message = match place {
            Place::Queue => Message::Queue(Operation::Run(sent)),
            Place::Beside(main) => Message::Beside(main, sent),
        };
        self.mailbox.send(message).await?;
        Ok(run)
    }

    /// Decides how each limit of a command is held.
    fn plan(&self, command: &Command, writes_elsewhere: bool) -> Result<Plan> {
        self.lease.plan(&command.limits, &self.info.support, writes_elsewhere).map_err(|error| {
            let lacks_groups = error.kind() == ErrorKind::Unsupported && self.info.support.groups.is_none();
            if lacks_groups { error.hinted(hints::hint(Step::HoldLimit, None)) } else { error }
        })
    }
}

/// The descriptors of a run, each with its role.
fn with_roles(program: ProgramFds, gate: Option<OwnedFd>) -> (Vec<FdRole>, Vec<Arc<OwnedFd>>) {
    let ProgramFds { fds, executable, .. } = program;
    let program = fds.into_iter().map(|(number, fd)| (FdRole::Program(number), fd));
    let executable = executable.map(|fd| (FdRole::Executable, fd));
    let gate = gate.map(|fd| (FdRole::Gate, Arc::new(fd)));
    program.chain(executable).chain(gate).unzip()
}
