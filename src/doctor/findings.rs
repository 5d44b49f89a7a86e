//! The public form of a diagnosis.

use std::fmt;

use serde::Serialize;

use super::obstacles::{Description, Obstacle};
use super::platform::Platform;
use super::settings::fix;
use super::subject::Subject;

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
    /// What stands in the way, where it is known.
    #[serde(skip)]
    pub(super) obstacle: Option<Obstacle>,
}

impl Finding {
    /// The finding about an obstacle on a machine, or in a container of `platform`.
    pub(super) fn of(obstacle: &Obstacle, platform: Option<Platform>) -> Self {
        let Description { subject, seen, costs, .. } = obstacle.describe();
        let lack = Lack { costs, fix: Some(fix(obstacle, platform)) };
        let grant = if obstacle.is_fatal() { Grant::Missing(lack) } else { Grant::Weaker(lack) };
        Self { subject, seen, grant, obstacle: Some(obstacle.clone()) }
    }
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
        let head = format!("{:10}  {grant:7}  ", format!("{:?}", self.subject));
        f.write_str(&wrapped(&head, &self.seen, &" ".repeat(21)))?;
        let Some(Lack { costs, fix }) = lack else { return Ok(()) };
        write!(f, "\n{}", wrapped("    costs: ", costs, &" ".repeat(11)))?;
        fix.iter().try_for_each(|fix| write!(f, "\n{}", wrapped("    fix:   ", fix, &" ".repeat(11))))
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}

/// `head` and then a text, in lines of at most 80 columns where its words allow that. Further lines
/// begin with `margin`.
pub(super) fn wrapped(head: &str, text: &str, margin: &str) -> String {
    let (mut lines, mut column) = (head.to_owned(), head.len());
    for (at, word) in text.split_whitespace().enumerate() {
        if at > 0 && column + 1 + word.len() > 80 {
            lines = lines + "\n" + margin;
            column = margin.len();
        } else if at > 0 {
            lines.push(' ');
            column += 1;
        }
        lines += word;
        column += word.len();
    }
    lines
}
