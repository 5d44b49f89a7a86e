//! Configuration for Docker, Kubernetes and systemd, made of a diagnosis.
//!
//! Invariant: a snippet has the settings that take a found obstacle away, and no other permission.
//! Everything else in it is a comment.

use super::findings::{Diagnosis, Finding, Grant, wrapped};
use super::obstacles::Obstacle;
use super::platform::Platform;
use super::settings::{docker_options, fix, pod_fields, security_context, unit_settings};

impl Diagnosis {
    /// A configuration of `platform` with the permissions that these findings ask for, and no more.
    ///
    /// For [`Platform::Docker`] it is a shell command, for [`Platform::Kubernetes`] a pod in YAML,
    /// and for [`Platform::Systemd`] a unit. `IMAGE` and `PROGRAM` stand for the service. Comments
    /// say which finding asks for a setting, and how to fix what no setting of the platform fixes.
    ///
    /// What a platform withholds shows only under the platform: diagnose in the container or unit.
    ///
    /// ```no_run
    /// use cellblock::Container;
    /// use cellblock::doctor::{self, Platform};
    ///
    /// # async fn example() {
    /// let diagnosis = doctor::diagnose(&Container::builder()).await;
    /// print!("{}", diagnosis.snippet(Platform::Systemd));
    /// # }
    /// ```
    pub fn snippet(&self, platform: Platform) -> String {
        let lacks: Vec<_> = self.findings.iter().filter_map(|it| Lacking::of(it, platform)).collect();
        match platform {
            Platform::Docker => docker_command(&lacks),
            Platform::Kubernetes => pod(&lacks),
            Platform::Systemd => unit(&lacks),
        }
    }
}

/// A finding that is not granted.
struct Lacking<'a> {
    obstacle: Option<&'a Obstacle>,
    /// The subject, how much is lacking, and what was seen.
    text: String,
    /// How to fix it under the snippet's platform, which may not be the one that was diagnosed.
    fix: String,
}

impl<'a> Lacking<'a> {
    fn of(finding: &'a Finding, platform: Platform) -> Option<Self> {
        let (word, lack) = match &finding.grant {
            Grant::Granted => return None,
            Grant::Weaker(lack) => ("weaker", lack),
            Grant::Missing(lack) => ("missing", lack),
        };
        // Without a fix, another finding names the obstacle.
        let found = lack.fix.clone()?;
        let obstacle = finding.obstacle.as_ref();
        let fix = obstacle.map_or(found, |obstacle| fix(obstacle, Some(platform)));
        Some(Self { obstacle, text: format!("{:?} {word}: {}", finding.subject, finding.seen), fix })
    }

    fn settings(&self, of: fn(&Obstacle) -> &'static [&'static str]) -> &'static [&'static str] {
        self.obstacle.map_or(&[], of)
    }
}

fn docker_command(lacks: &[Lacking<'_>]) -> String {
    let mut text = header("docker run", "container", lacks);
    let mut command = "docker run".to_owned();
    for lack in lacks {
        let options = lack.settings(docker_options);
        text += &reason("", lack, options.is_empty());
        for option in options {
            text += &format!("#   {option}\n");
            command += &format!(" \\\n    {option}");
        }
    }
    text + &command + " \\\n    IMAGE\n"
}

fn pod(lacks: &[Lacking<'_>]) -> String {
    let mut text = header("a pod", "pod", lacks);
    let (mut of_pod, mut of_container) = (String::new(), String::new());
    for lack in lacks {
        let (outer, inner) = (lack.settings(pod_fields), lack.settings(security_context));
        if outer.is_empty() && inner.is_empty() {
            text += &reason("", lack, true);
        }
        of_pod += &with_reason("  ", lack, outer);
        of_container += &with_reason("        ", lack, inner);
    }
    text += "apiVersion: v1\nkind: Pod\nmetadata:\n  name: judge\nspec:\n";
    text += &of_pod;
    text += "  containers:\n    - name: judge\n      image: IMAGE\n";
    if !of_container.is_empty() {
        text += "      securityContext:\n";
    }
    text + &of_container
}

fn unit(lacks: &[Lacking<'_>]) -> String {
    let mut text = header("a unit", "unit", lacks);
    text += "[Service]\nExecStart=/usr/local/bin/PROGRAM\n";
    for lack in lacks {
        let settings = lack.settings(unit_settings);
        match settings.is_empty() {
            true => text += &reason("", lack, true),
            false => text += &with_reason("", lack, settings),
        }
    }
    text
}

/// What a snippet is, as comments.
fn header(what: &str, place: &str, lacks: &[Lacking<'_>]) -> String {
    let asks = match lacks.is_empty() {
        true => "Nothing is missing here, so it asks for no permission.",
        false => "It has the permissions that the findings here ask for, and no more.",
    };
    let again = format!("Run the doctor in the {place} too: it sees what is withheld there.");
    format!("# For {what}, by `cellblock doctor`.\n# {asks}\n# {again}\n")
}

/// A finding as a comment, with its fix where no setting is one.
fn reason(margin: &str, lack: &Lacking<'_>, needs_fix: bool) -> String {
    let further = format!("{margin}#   ");
    let mut text = wrapped(&format!("{margin}# "), &lack.text, &further) + "\n";
    if needs_fix {
        text += &wrapped(&further, &format!("no setting for it; to fix it: {}", lack.fix), &further);
        text += "\n";
    }
    text
}

/// Settings, each on its line, below the finding that asks for them.
fn with_reason(margin: &str, lack: &Lacking<'_>, settings: &[&str]) -> String {
    if settings.is_empty() {
        return String::new();
    }
    settings.iter().fold(reason(margin, lack, false), |text, setting| text + margin + setting + "\n")
}
