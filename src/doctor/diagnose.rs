//! Diagnosing a machine: one container is built, and the machine's files are read.

use rustix::thread::CapabilitySet;

use crate::container::ContainerBuilder;
use crate::error::Error;

use super::causes::cause;
use super::findings::{Diagnosis, Finding, Grant, Lack};
use super::machine::Machine;
use super::obstacles::Obstacle;
use super::subject::Subject;
use super::survey::obstacles;

/// Examines what this machine grants to containers as the builder describes them, and builds one.
///
/// A setting that hinders other containers, but not this one, is not reported as missing. The
/// container is destroyed, and nothing else is changed.
///
/// # Panics
/// As [`ContainerBuilder::build`].
///
/// ```no_run
/// use cellblock::doctor::{self, Grant};
/// use cellblock::Container;
///
/// # async fn example() {
/// let diagnosis = doctor::diagnose(&Container::builder()).await;
/// if !diagnosis.can_build() {
///     for finding in &diagnosis.findings {
///         if let Grant::Missing(lack) = &finding.grant {
///             eprintln!("{}: {:?}", finding.seen, lack.fix);
///         }
///     }
/// }
/// println!("{diagnosis}"); // the whole list
/// # }
/// ```
pub async fn diagnose(builder: &ContainerBuilder) -> Diagnosis {
    let built = match builder.build().await {
        Ok(container) => {
            let has_own_ids = container.has_own_ids();
            container.destroy().await;
            Ok(Built { has_own_ids })
        }
        Err(error) => Err(error),
    };
    examine(&Machine::THIS, &built)
}

/// A container that was built.
#[derive(Clone, Debug)]
pub(super) struct Built {
    /// Whether its program and its init have different ids on the host.
    pub(super) has_own_ids: bool,
}

/// The findings about a machine, given the result of building a container there.
pub(super) fn examine(machine: &Machine<'_>, built: &Result<Built, Error>) -> Diagnosis {
    let mut obstacles = obstacles(machine);
    let container = match built {
        Ok(built) => {
            // This container shows that these do not hinder it. They may hinder others.
            let is_refuted = |it: &Obstacle| it.is_fatal() || (built.has_own_ids && *it == Obstacle::NoSetIds);
            obstacles.retain(|it| !is_refuted(it));
            Finding { subject: Subject::Container, seen: "one was built".into(), grant: Grant::Granted, obstacle: None }
        }
        Err(error) => {
            let cause = error.failed_step().and_then(|step| cause(machine, step, error.raw_os_error()));
            let finding = failed_build(error, cause.as_ref());
            obstacles.extend(cause.filter(|it| !obstacles.contains(it)));
            finding
        }
    };
    let mut findings = vec![container];
    for (subject, seen) in observations(machine, built.is_ok()) {
        let known = findings.len();
        findings.extend(about(&obstacles, machine).filter(|it| it.subject == subject));
        // Without a readable /proc nothing else can be told.
        if findings.len() == known && machine.caller().is_some() {
            findings.push(Finding { subject, seen, grant: Grant::Granted, obstacle: None });
        }
    }
    Diagnosis { findings }
}

/// The finding about a container that could not be built. Another finding has the fix if the cause
/// is known.
fn failed_build(error: &Error, cause: Option<&Obstacle>) -> Finding {
    let fix = if cause.is_none() { error.hint().map(str::to_owned) } else { None };
    let lack = Lack { costs: "no program can be run".into(), fix };
    let seen = error.clone().hinted(None).to_string();
    Finding { subject: Subject::Container, seen, grant: Grant::Missing(lack), obstacle: None }
}

/// The findings about obstacles, with the fixes of this machine's platform.
fn about(obstacles: &[Obstacle], machine: &Machine<'_>) -> impl Iterator<Item = Finding> {
    let platform = machine.platform();
    obstacles.iter().map(move |obstacle| Finding::of(obstacle, platform))
}

/// What is seen of each subject when no obstacle is in the way.
fn observations(machine: &Machine<'_>, is_built: bool) -> [(Subject, String); 7] {
    let caller = machine.caller();
    let can_set_ids = caller.as_ref().is_some_and(|it| it.has(CapabilitySet::SETUID | CapabilitySet::SETGID));
    let is_filtered = caller.as_ref().is_some_and(|it| it.is_filtered);
    let namespaces = match is_built {
        true => "the container's namespaces were made".to_owned(),
        false => format!("user.max_user_namespaces is {}", machine.sysctl("user.max_user_namespaces")),
    };
    let seccomp = if is_filtered { "this process is under a filter" } else { "this process is not under a filter" };
    let proc = machine.proc_covers();
    let proc = proc.map_or("nothing covers it".to_owned(), |by| format!("covered: {}", by.join(" ")));
    let ids = match can_set_ids {
        true => "this process has CAP_SETUID and CAP_SETGID",
        false => "this user has subordinate ids, and newuidmap and newgidmap map them",
    };
    [
        (Subject::Kernel, format!("Linux {}", machine.release())),
        (Subject::Namespaces, namespaces),
        (Subject::Seccomp, seccomp.to_owned()),
        (Subject::Proc, proc),
        (Subject::Ids, ids.to_owned()),
        (Subject::Cgroup, machine.cgroups().seen),
        (Subject::Landlock, "the kernel has it".to_owned()),
    ]
}
