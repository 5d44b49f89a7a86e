//! Programs beside a running one.

use std::borrow::Borrow;

use crate::command::Command;
use crate::error::Result;
use crate::process::{Output, Process};
use crate::report::Report;

use super::handle::Container;
use super::message::{Place, RunKey};
use super::origin::Origin;

/// Starts programs beside a running one, in the same container: from [`Process::beside`], or from
/// [`Container::beside`].
///
/// Such a program has its own streams, limits, control group and report. It is over when it and
/// everything that it started is dead, whatever the main program does. When the main run ends, for
/// whatever reason, every program beside it is killed, and its report's cause is
/// [`MainEnded`](crate::report::Cause::MainEnded). A reset waits until all are over.
///
/// # What the programs share
/// They have the same files, network, `/proc` and user, so they can read and change what the other
/// has in files and in memory. A program beside another one has a pid namespace of its own: its
/// process has the id 2, and it can signal and trace no process of the main run. The main program
/// sees the processes of the others in `/proc`, and can signal them. `/proc/self` works for all,
/// but
/// `/proc/$$` is another process for a program beside another one.
///
/// # Errors
/// [`ErrorKind::NotRunning`](crate::ErrorKind::NotRunning) if there is no run to be beside: it has
/// ended, or is being killed, or has not begun. [`ErrorKind::Busy`](crate::ErrorKind::Busy) if 64
/// programs are beside it. Otherwise as for the methods of [`Container`].
///
/// A handle keeps the container alive, and is cheap to clone.
///
/// ```no_run
/// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
/// use cellblock::Command;
///
/// let mut server = container.spawn(Command::new("python3").args(["-m", "http.server"])).await?;
/// let client = server.beside().output(Command::new("ps").arg("ax")).await?;
/// println!("{}", String::from_utf8_lossy(&client.stdout));
/// server.kill().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Beside {
    container: Container,
    place: Place,
}

impl Beside {
    fn new(container: Container, main: Option<RunKey>) -> Self {
        Self { container, place: Place::Beside(main) }
    }

    /// Starts a program and returns its live streams, like [`Container::spawn`], at once.
    ///
    /// # Errors
    /// As [the type](Self#errors) says.
    ///
    /// # Cancel safety
    /// If the future is dropped the program is killed, or never starts.
    ///
    /// ```no_run
    /// # async fn example(main: cellblock::Process) -> cellblock::Result<()> {
    /// use cellblock::Command;
    ///
    /// let mut tail = main.beside().spawn(Command::new("tail").args(["-f", "log"])).await?;
    /// let report = tail.kill().await?;
    /// # Ok(()) }
    /// ```
    pub async fn spawn(&self, command: impl Borrow<Command>) -> Result<Process> {
        self.container.spawn_in(self.place, command.borrow()).await
    }

    /// Runs a program to its end, like [`Container::run`].
    ///
    /// # Errors
    /// As [the type](Self#errors) says.
    ///
    /// # Cancel safety
    /// As [`spawn`](Self::spawn).
    ///
    /// ```no_run
    /// # async fn example(main: cellblock::Process) -> cellblock::Result<()> {
    /// let report = main.beside().run(cellblock::Command::new("sync-files")).await?;
    /// # Ok(()) }
    /// ```
    pub async fn run(&self, command: impl Borrow<Command>) -> Result<Report> {
        self.container.run_in(self.place, command.borrow()).await
    }

    /// Runs a program to its end and collects its outputs, like [`Container::output`].
    ///
    /// # Errors
    /// As [the type](Self#errors) says.
    ///
    /// # Cancel safety
    /// As [`spawn`](Self::spawn). The collected output is lost.
    ///
    /// ```no_run
    /// # async fn example(main: cellblock::Process) -> cellblock::Result<()> {
    /// let output = main.beside().output(cellblock::Command::new("ls")).await?;
    /// # Ok(()) }
    /// ```
    pub async fn output(&self, command: impl Borrow<Command>) -> Result<Output> {
        self.container.start_output_in(self.place, command.borrow()).await?.await
    }
}

impl Container {
    /// Starts programs beside the run that is going on when they are started. See [`Beside`].
    ///
    /// [`Process::beside`] names the run: its programs never start beside the next one.
    ///
    /// ```no_run
    /// # async fn example(container: &cellblock::Container) -> cellblock::Result<()> {
    /// # use cellblock::ErrorKind;
    /// match container.beside().output(cellblock::Command::new("ls")).await {
    ///     Err(error) if error.kind() == ErrorKind::NotRunning => println!("nothing runs"),
    ///     output => println!("{:?}", output?.stdout),
    /// }
    /// # Ok(()) }
    /// ```
    pub fn beside(&self) -> Beside {
        Beside::new(self.clone(), None)
    }
}

impl Process {
    /// Starts programs beside this one. See [`Beside`].
    ///
    /// ```no_run
    /// # async fn example(interpreter: &cellblock::Process) -> cellblock::Result<()> {
    /// let files = interpreter.beside().output(cellblock::Command::new("ls")).await?;
    /// # Ok(()) }
    /// ```
    pub fn beside(&self) -> Beside {
        let Origin { mailbox, info, lease, slot, run } = self.origin().clone();
        Beside::new(Container { mailbox, info, lease, slot }, Some(run))
    }
}
