//! The public form of a diagnosis.

use std::fmt;

use serde::Serialize;

/// The findings about this machine: the result of [`diagnose`](crate::doctor::diagnose()).
///
/// It displays as a list for people. It serializes as
/// `{"findings":[{"subject":"proc","seen":…,"grant":"granted"},
/// {"subject":"ids","seen":…,"grant":"weaker","costs":…,"mend":…},…]}`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The result of building a container, then at least one finding for each subject. Without a
    /// readable `/proc` there are two findings: the container and the missing `/proc`.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Whether a container could be built.
    pub fn can_build(&self) -> bool {
        self.findings.iter().any(|it| it.subject == Subject::Container && it.grant == Grant::Granted)
    }
}

/// A finding about one subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What was examined.
    pub subject: Subject,
    /// What was seen there.
    pub seen: String,
    /// Whether containers get it.
    #[serde(flatten)]
    pub grant: Grant,
}

/// Something that containers need, or that makes them stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Subject {
    /// A container as the builder describes it. One is built and destroyed.
    Container,
    /// The kernel's version and configuration.
    Kernel,
    /// Namespaces for a container, and the operations that the machine allows in them.
    Namespaces,
    /// A seccomp filter that confines this process.
    Seccomp,
    /// A proc file system for a container.
    Proc,
    /// User and group ids that a container shares with no other process.
    Ids,
    /// Control groups that this process may divide.
    Cgroup,
    /// Landlock, which bounds how a program may reopen the files it is given.
    Landlock,
}

/// Whether containers get a subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "grant", rename_all = "snake_case")]
pub enum Grant {
    /// Containers get it.
    Granted,
    /// Containers work without it, with weaker limits or weaker isolation.
    Weaker(Lack),
    /// Containers do not work without it.
    Missing(Lack),
}

/// The consequence of a subject that containers do not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Lack {
    /// What cannot be done, or is less safe.
    pub costs: String,
    /// The command or change that fixes it; `PROGRAM` stands for the service.
    ///
    /// `None` where no fix is known, and on the container's finding where another finding names the
    /// obstacle. It serializes as `mend`.
    #[serde(rename = "mend")]
    pub fix: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (grant, lack) = match &self.grant {
            Grant::Granted => ("granted", None),
            Grant::Weaker(lack) => ("weaker", Some(lack)),
            Grant::Missing(lack) => ("missing", Some(lack)),
        };
        write!(f, "{:10}  {grant:7}  {}", format!("{:?}", self.subject), self.seen)?;
        let Some(Lack { costs, fix }) = lack else { return Ok(()) };
        write!(f, "\n{:21}costs: {costs}", "")?;
        fix.iter().try_for_each(|fix| write!(f, "\n{:21}fix:   {fix}", ""))
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}
