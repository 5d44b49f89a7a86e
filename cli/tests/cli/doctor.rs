//! `cellblock doctor` and the hints of errors, on machines that do not allow containers.
//!
//! A test makes such a machine in new namespaces or by dropping privileges.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{is_root, open_dir};

/// New user, mount and pid namespaces, in which the caller's id is 0.
const NAMESPACES: &str = "exec unshare --user --map-root-user --mount --pid --fork --mount-proc";
/// Drops the capabilities to change ids, so that the host maps one id as it does for ordinary
/// users.
const UNDER_ONE_ID: &str = "setpriv --bounding-set=-setuid,-setgid";

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

/// Asserts that no container can be built through this script because `subject` is missing, and
/// that both the finding and the error name the cause and the fix.
#[track_caller]
fn assert_missing(script: &str, subject: &str, step: &str, seen: &str, mend: &str) {
    let (code, findings) = doctor(script);
    assert_eq!(code, 1, "{findings:?}");
    assert_eq!(subjects(&findings, "missing"), ["container", subject], "{findings:?}");
    let error = findings[0]["seen"].as_str().unwrap();
    assert!(error.contains(step), "{error}");
    let finding = findings[1..].iter().find(|it| it["subject"] == subject && it["grant"] == "missing").unwrap();
    let text = |key: &str| finding[key].as_str().unwrap();
    assert!(text("seen").contains(seen) && text("mend").contains(mend), "{finding}");
    assert!(!text("costs").is_empty());
    let hint = format!("(hint: {}; to fix it: {})", text("seen"), text("mend"));
    let refusal = refusal(script);
    assert!(refusal.contains(step) && refusal.contains(&hint), "{refusal}");
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
    for finding in &findings {
        assert!(text.contains(finding["seen"].as_str().unwrap()), "{text}");
    }
}

#[test]
fn namespaces_that_a_setting_forbids_are_reported_with_the_command() {
    // A container can be built in these namespaces, and the setting is the new user namespace's
    // own.
    let with = |before: &str| format!(r#"{NAMESPACES} sh -ec '{before}; exec {UNDER_ONE_ID} "$@"' sh "$@""#);
    let file = "/proc/sys/user/max_user_namespaces";
    let host = std::fs::read_to_string(file).unwrap();
    assert_eq!(doctor(&with(":")).0, 0, "the control");
    let forbid = format!("echo 0 > {file}");
    let command = "sysctl -w user.max_user_namespaces=15000";
    assert_missing(&with(&forbid), "namespaces", "unshare namespaces", "user.max_user_namespaces is 0", command);
    assert_eq!(doctor(&with(&format!("{forbid}; echo 15000 > {file}"))).0, 0, "the reported fix works");
    assert_eq!(std::fs::read_to_string(file).unwrap(), host, "nothing was changed outside");
}

#[test]
fn a_refusal_after_the_hello_is_reported_every_time() {
    let forbid = "echo 0 > /proc/sys/user/max_net_namespaces";
    let command = format!(r#"{NAMESPACES} sh -ec '{forbid}; exec {UNDER_ONE_ID} "$@"' sh "$@""#);
    for _ in 0..20 {
        let said = refusal(&command);
        assert!(said.contains("unshare namespaces: No space left on device"), "{said}");
        assert!(said.contains("sysctl -w user.max_net_namespaces=15000"), "{said}");
    }
}

#[test]
fn a_covered_proc_is_reported_with_the_mount_that_covers_it() {
    let with = |before: &str| format!(r#"{NAMESPACES} sh -ec '{before}; exec {UNDER_ONE_ID} "$@"' sh "$@""#);
    for (cover, place) in [
        ("mount --bind /dev/null /proc/version", "/proc/version"),
        ("mount -t tmpfs none /proc/fs", "/proc/fs"),
        ("mount --bind /proc/sys /proc/sys", "/proc/sys"),
    ] {
        assert_missing(&with(cover), "proc", "mount /proc", place, "docker run --security-opt systempaths=unconfined");
    }
    // A mount on a directory that is always empty hides nothing.
    if Path::new("/proc/sys/fs/binfmt_misc").exists() {
        assert_eq!(doctor(&with("mount -t tmpfs none /proc/sys/fs/binfmt_misc")).0, 0);
    }
}

#[test]
fn a_machine_without_proc_is_told_to_mount_it() {
    let (code, findings) = doctor(&format!(r#"{NAMESPACES} sh -ec 'mount -t tmpfs none /proc; exec "$@"' sh "$@""#));
    assert_eq!((code, subjects(&findings, "missing")), (1, vec!["container".into(), "proc".into()]), "{findings:?}");
    assert!(findings.len() == 2 && findings[1]["mend"] == "mount -t proc proc /proc", "{findings:?}");
}

#[test]
fn a_chroot_is_refused_with_a_hint() {
    let dir = open_dir();
    let root = dir.path().display();
    let chroot = format!(r#"mount --rbind / {root}; exec {UNDER_ONE_ID} chroot {root} "$@""#);
    let script = format!(r#"{NAMESPACES} sh -ec '{chroot}' sh "$@""#);
    assert_missing(&script, "namespaces", "unshare namespaces", "in a chroot", "pivot_root");
}

#[test]
fn a_filter_is_reported_whether_it_refuses_or_kills() {
    // A filter as in seccomp(2): it answers unshare with `answer` and allows everything else.
    let filtered = |answer: &str| {
        let source = format!(
            "import ctypes,os,platform,struct,sys
libc=ctypes.CDLL(None,use_errno=True)
number=97 if platform.machine()==\"aarch64\" else 272
code=[(0x20,0,0,0),(0x15,0,1,number),(6,0,0,{answer}),(6,0,0,0x7fff0000)]
text=ctypes.create_string_buffer(b\"\".join(struct.pack(\"HBBI\",*it) for it in code))
class Program(ctypes.Structure): _fields_=[(\"length\",ctypes.c_ushort),(\"code\",ctypes.c_void_p)]
assert libc.prctl(38,1,0,0,0)==0
assert libc.prctl(22,2,ctypes.byref(Program(len(code),ctypes.addressof(text))),0,0)==0
os.execv(sys.argv[1],sys.argv[1:])"
        );
        format!(r#"exec /usr/bin/python3 -Sc '{source}' "$@""#)
    };
    let mend = "docker run --security-opt seccomp=unconfined";
    assert_missing(&filtered("0x50001"), "seccomp", "unshare namespaces", "a seccomp filter confines", mend);

    let said = refusal(&filtered("0x80000000"));
    assert!(said.contains("the init ended without a word") && said.contains(mend), "{said}");
    let (code, findings) = doctor(&filtered("0x80000000"));
    assert_eq!((code, subjects(&findings, "missing")), (1, vec!["container".into(), "seccomp".into()]), "{findings:?}");

    // A filter that allows what containers need is reported, but nothing is missing.
    let (code, findings) = doctor(&filtered("0x7fff0000"));
    assert_eq!((code, subjects(&findings, "missing").len()), (0, 0), "{findings:?}");
    assert!(findings.iter().any(|it| it["seen"] == "this process is under a filter"), "{findings:?}");
}

#[test]
fn ids_that_cannot_be_mapped_are_reported() {
    let one = r#"exec unshare --user --map-root-user "$@""#;
    assert_missing(one, "ids", "map user and group ids", "maps no ids but its own", UNDER_ONE_ID);
    let (code, _) = doctor(&format!(r#"exec unshare --user --map-root-user {UNDER_ONE_ID} "$@""#));
    assert_eq!(code, 0, "the reported fix works");

    let bare = r#"exec unshare --user --map-root-user setpriv --bounding-set=-all "$@""#;
    assert_missing(bare, "ids", "map user and group ids", "no CAP_SETFCAP", "docker run --cap-add SETFCAP");

    let unmapped = r#"exec unshare --user "$@""#;
    assert_missing(
        unmapped,
        "namespaces",
        "unshare namespaces",
        "a user id that its own",
        "unshare --map-current-user",
    );
}

#[test]
fn a_part_of_the_ids_is_reported_as_a_range() {
    if !is_root() {
        // Only root may map several ids.
        return;
    }
    let mapped = "import ctypes,os,sys
ready,told=os.pipe();go,tell=os.pipe()
child=os.fork()
if not child:
  ctypes.CDLL(None).unshare(0x10000000);os.write(told,b\"x\");os.read(go,1)
  os.setresgid(0,0,0);os.setresuid(0,0,0);os.execv(sys.argv[1],sys.argv[1:])
os.read(ready,1)
for it in \"uid_map\",\"gid_map\": open(f\"/proc/{child}/{it}\",\"w\").write(\"0 1800000000 65536\")
os.write(tell,b\"x\");sys.exit(os.waitstatus_to_exitcode(os.waitpid(child,0)[1]))";
    let script = format!(r#"exec /usr/bin/python3 -Sc '{mapped}' "$@""#);
    assert_missing(
        &script,
        "ids",
        "map user and group ids",
        "maps the ids 0 to 65535",
        "ContainerBuilder::id_range(1..65536)",
    );
}
