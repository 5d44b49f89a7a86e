//! Signals for a program.

use std::fmt;

/// A signal, for [`Process::signal`](crate::Process::signal).
///
/// ```
/// use cellblock::process::Signal;
///
/// assert_eq!(Signal::from_raw(2), Some(Signal::INTERRUPT));
/// assert_eq!(Signal::from_raw(0), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

impl Signal {
    /// `SIGHUP`: the terminal is gone.
    pub const HANGUP: Self = Self(libc::SIGHUP);
    /// `SIGINT`: Ctrl-C.
    pub const INTERRUPT: Self = Self(libc::SIGINT);
    /// `SIGQUIT`: Ctrl-\.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// `SIGKILL`, for the program's first process alone. [`Process::kill`](crate::Process::kill)
    /// kills everything that the program started.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// `SIGUSR1`.
    pub const USER_1: Self = Self(libc::SIGUSR1);
    /// `SIGUSR2`.
    pub const USER_2: Self = Self(libc::SIGUSR2);
    /// `SIGTERM`: a request to end.
    pub const TERMINATE: Self = Self(libc::SIGTERM);
    /// `SIGCONT`: continue after a stop.
    pub const CONTINUE: Self = Self(libc::SIGCONT);
    /// `SIGSTOP`: stop until `SIGCONT`. The clocks of the run go on.
    pub const STOP: Self = Self(libc::SIGSTOP);

    /// The signal with this number. `None` unless the number is one of the standard signals, 1 to
    /// 31.
    pub fn from_raw(number: i32) -> Option<Self> {
        (1..=31).contains(&number).then_some(Self(number))
    }

    /// The signal's number.
    pub fn as_raw(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signal({})", self.0)
    }
}
