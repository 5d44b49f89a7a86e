//! Reports as text, for people.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::limits::{Form, Held, Limit};
use crate::seccomp::Filter;

use super::record::{Cause, Evidence, Report, Source, Status, Usage};
use super::verdict::Verdict;

impl fmt::Display for Report {
    /// One line for each known fact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "verdict    {}", self.verdict())?;
        writeln!(f, "status     {}{}", self.status, kill_of(self.cause))?;
        write_usage(self, f)?;
        write_evidence(&self.evidence, f)?;
        for Held { limit, value, form } in &self.limits {
            writeln!(f, "limit      {limit} {value} ({form})")?;
        }
        let ids = if self.protections.own_ids { "own" } else { "shared with the init" };
        let list = if self.protections.syscalls { " and a list of its own" } else { "" };
        let landlock = if self.protections.landlock { ", landlock" } else { "" };
        writeln!(f, "protected  filter {}{list}, ids {ids}{landlock}", self.protections.filter)
    }
}

/// What is added to a status that a kill caused.
fn kill_of(cause: Cause) -> String {
    match cause {
        Cause::Exit | Cause::Signal => String::new(),
        Cause::Limit(limit) => format!(" (killed: {limit} limit)"),
        Cause::Request => " (killed on request)".into(),
        Cause::MainEnded => " (killed at the end of the run that it was beside)".into(),
        Cause::OutOfMemory => " (killed by the kernel: out of memory)".into(),
    }
}

fn write_usage(Report { usage, sources, .. }: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Usage { wall, cpu, user, system, memory_peak_bytes, processes_peak, set_up } = *usage;
    let time = |time: Duration| format!("{time:.3?}");
    let user_and_system = user.zip(system).map(|(user, system)| format!("{user:.3?} user, {system:.3?} system"));
    for (name, value, source) in [
        ("wall", wall.map(time), sources.wall),
        ("set-up", set_up.map(time), sources.wall),
        ("cpu", cpu.map(time), sources.cpu),
        ("", user_and_system, sources.user_and_system),
        ("memory", memory_peak_bytes.map(|bytes| format!("{bytes} bytes at most")), sources.memory_peak),
        ("processes", processes_peak.map(|count| format!("{count} at most")), sources.processes_peak),
    ] {
        if let Some(value) = value {
            writeln!(f, "{name:<10} {value} ({source})")?;
        }
    }
    Ok(())
}

fn write_evidence(evidence: &Evidence, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Evidence { oom_kills, refused_forks, throttled, output_exceeded, cpu_overshoot } = *evidence;
    for fact in [
        oom_kills.filter(|&count| count > 0).map(|count| format!("{count} out-of-memory kills")),
        refused_forks.filter(|&count| count > 0).map(|count| format!("{count} refused forks")),
        throttled.filter(|time| !time.is_zero()).map(|time| format!("throttled for {time:.3?}")),
        output_exceeded.filter(|&is_exceeded| is_exceeded).map(|_| "more output than the limit".to_owned()),
        cpu_overshoot.map(|time| format!("{time:.3?} over the CPU time limit")),
    ]
    .into_iter()
    .flatten()
    {
        writeln!(f, "evidence   {fact}")?;
    }
    Ok(())
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Signaled { signal, core_dumped: false } => write!(f, "ended by signal {signal}"),
            Self::Signaled { signal, core_dumped: true } => write!(f, "ended by signal {signal}, core dumped"),
        }
    }
}

macro_rules! display_as_serialized {
    ($($type:ty),*) => {
        $(impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serialize(f)
            }
        })*
    };
}

display_as_serialized!(Filter, Form, Limit, Source, Verdict);
