//! `cellblock doctor` and the hints of errors, on machines that do not allow containers.
//!
//! A test makes such a machine in new namespaces or by dropping privileges. The library's tests
//! have every obstacle (`tests/lifecycle/doctor.rs`).

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{is_root, open_dir};

/// New user, mount and pid namespaces, in which the caller's id is 0.
const NAMESPACES: &str = "exec unshare --user --map-root-user --mount --pid --fork --mount-proc";
/// Drops the capabilities to change ids, so that the host maps one id as it does for ordinary
/// users.
const UNDER_ONE_ID: &str = "setpriv --bounding-set=-setuid,-setgid";

/// A user namespace that maps no id but the caller's.
const ONE_ID: &str = r#"exec unshare --user --map-root-user "$@""#;

/// Runs `cellblock` through a script, which gets the command as its arguments.
fn within(script: &str, args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-ec", script, "sh", env!("CARGO_BIN_EXE_cellblock")]).args(args);
    command.stdin(Stdio::null()).output().unwrap()
}

/// The exit code and the findings of the doctor.
fn doctor(script: &str) -> (i32, Vec<Value>) {
    let output = within(script, &["doctor", "--json"]);
    let diagnosis: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{script}: {error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), diagnosis["findings"].as_array().unwrap().clone())
}

/// The message of `cellblock run`, which must fail to build a container.
fn refusal(script: &str) -> String {
    let output = within(script, &["run", "--", "true"]);
    assert_eq!(output.status.code(), Some(125), "{script}");
    String::from_utf8(output.stderr).unwrap()
}

fn subjects(findings: &[Value], grant: &str) -> Vec<String> {
    findings.iter().filter(|it| it["grant"] == grant).map(|it| it["subject"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn nothing_is_missing_on_this_machine() {
    let (code, findings) = doctor(r#"exec "$@""#);
    assert_eq!((code, subjects(&findings, "missing").len()), (0, 0), "{findings:?}");
    let subjects: Vec<_> = findings.iter().map(|it| it["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["container", "kernel", "namespaces", "seccomp", "proc", "ids", "cgroup", "landlock"]);
    let ids = findings.iter().find(|it| it["subject"] == "ids").unwrap();
    if is_root() {
        assert_eq!(ids["grant"], "granted");
    } else {
        assert!(ids["costs"].as_str().unwrap().contains("shares its user id with the init"), "{ids}");
        assert!(ids["mend"].as_str().unwrap().contains("usermod --add-subuids"), "{ids}");
    }
    let output = within(r#"exec "$@""#, &["doctor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text.lines().all(|line| line.len() <= 80 || !line.trim().contains(' ')), "80 columns: {text}");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for finding in &findings {
        assert!(text.contains(finding["seen"].as_str().unwrap()), "{text}");
    }
}

#[test]
fn a_missing_right_is_reported_with_its_fix_by_the_doctor_and_by_run() {
    let (code, findings) = doctor(ONE_ID);
    assert_eq!((code, subjects(&findings, "missing")), (1, vec!["container".into(), "ids".into()]), "{findings:?}");
    let finding = findings[1..].iter().find(|it| it["subject"] == "ids").unwrap();
    let text = |key: &str| finding[key].as_str().unwrap();
    let hint = format!("(hint: {}; to fix it: {})", text("seen"), text("mend"));
    let refusal = refusal(ONE_ID);
    assert!(refusal.contains("map user and group ids") && refusal.contains(&hint), "{refusal}");

    let fixed = format!(r#"exec unshare --user --map-root-user {UNDER_ONE_ID} "$@""#);
    assert_eq!(doctor(&fixed).0, 0, "the reported fix works");
}

/// A snippet of the doctor, and its exit code.
fn snippet(script: &str, platform: &str) -> (Option<i32>, String) {
    let output = within(script, &["doctor", "--for", platform]);
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_snippet_is_valid_and_the_exit_code_is_that_of_the_doctor() {
    let covered =
        format!(r#"{NAMESPACES} sh -ec 'mount --bind /dev/null /proc/version; exec {UNDER_ONE_ID} "$@"' sh "$@""#);
    let bare = r#"exec unshare --user --map-root-user setpriv --bounding-set=-all "$@""#;
    for (script, code, [option, field, setting]) in [
        (r#"exec "$@""#, 0, ["", "", ""]),
        (&covered, 1, ["--security-opt systempaths=unconfined", "procMount: Unmasked", "ProtectKernelLogs=no"]),
        (bare, 1, ["--cap-add SETFCAP", "capabilities: {", "CapabilityBoundingSet="]),
        (ONE_ID, 1, ["", "", "PrivateUsers=no"]),
    ] {
        let (docker, pod, unit) =
            (snippet(script, "docker"), snippet(script, "kubernetes"), snippet(script, "systemd"));
        for (status, text) in [&docker, &pod, &unit] {
            assert_eq!(*status, Some(code), "{script}: {text}");
        }
        assert_is_shell(&docker.1);
        assert_is_pod(&pod.1);
        assert_is_unit(&unit.1);
        let asked = [(&docker.1, option), (&pod.1, field), (&unit.1, setting)];
        assert!(asked.iter().all(|(text, setting)| text.contains(setting)), "{script}: {asked:?}");
        assert!(asked.iter().all(|(text, _)| !text.contains("privileged:")), "{script}: {asked:?}");
    }
}

/// The shell reads it, and `docker` would get an image as its last argument.
fn assert_is_shell(text: &str) {
    let script = format!("docker() {{ printf '%s\\n' \"$@\"; }}\n{text}");
    let output = Command::new("sh").args(["-euc", &script]).output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{text}");
    assert!(words.starts_with("run\n") && words.ends_with("IMAGE\n"), "{words}");
}

fn assert_is_pod(text: &str) {
    let pod: Value = serde_yaml_ng::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((&pod["apiVersion"], &pod["kind"]), (&"v1".into(), &"Pod".into()));
    assert_eq!(pod["spec"]["containers"][0]["image"], "IMAGE");
}

fn assert_is_unit(text: &str) {
    let dir = open_dir();
    let path = dir.path().join("judge.service");
    fs::write(&path, text.replace("/usr/local/bin/PROGRAM", "/bin/true")).unwrap();
    let verified = match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(output) => output,
        Err(error) => return skip(&format!("systemd-analyze: {error}")),
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    // It also speaks of the machine's own units.
    let complaints: Vec<_> = said.lines().filter(|line| line.contains("judge.service")).collect();
    assert!(complaints.is_empty(), "{complaints:?}: {text}");
}

/// Tells that this machine lacks what a test needs. In CI that is a failure.
fn skip(why: &str) {
    assert!(std::env::var_os("CELLBLOCK_TEST_MACHINE").is_none_or(|machine| machine != "whole"), "{why}");
    eprintln!("skipped: {why}");
}
