//! The doctor's findings and the hints of errors, on machines where no container can be built.
//!
//! Each test makes one obstacle: in namespaces of its own, or by giving up a right.

use std::path::Path;
use std::process::{Output, Stdio};

use cellblock::{
    ContainerBuilder, Error, Mount,
    doctor::{Diagnosis, Subject},
};
use serde_json::Value;

use crate::common::{alone, builder, is_root, open_dir, sh, turn};

/// Enters new user, mount and pid namespaces, where the caller's id is 0.
const NAMESPACES: &str = "exec unshare --user --map-root-user --mount --pid --fork --mount-proc";
/// Gives up the right to map other ids, as an ordinary user lacks it.
const UNDER_ONE_ID: &str = "setpriv --bounding-set=-setuid,-setgid";

/// Plays a role in another process. The script prepares that process and executes its arguments.
fn host(role: &str, script: &str) -> Output {
    let role = format!("doctor/{role}");
    crate::common::another_host(&role, &["sh", "-ec", script, "sh"]).stdin(Stdio::null()).output().unwrap()
}

/// The doctor's findings in the script's environment, and the exit status: 0 if a container can be
/// built.
fn doctor(script: &str) -> (i32, Vec<Value>) {
    let output = host("diagnose", script);
    let said = String::from_utf8_lossy(&output.stdout);
    let diagnosis = said.lines().find(|line| line.starts_with('{'));
    let diagnosis = diagnosis.unwrap_or_else(|| panic!("{script}: {}", String::from_utf8_lossy(&output.stderr)));
    let diagnosis: Value = serde_json::from_str(diagnosis).unwrap();
    (output.status.code().unwrap(), diagnosis["findings"].as_array().unwrap().clone())
}

/// The error of a build in the script's environment.
fn refusal(script: &str) -> String {
    let output = host("run", script);
    assert_eq!(output.status.code(), Some(125), "{script}");
    String::from_utf8(output.stderr).unwrap()
}

fn subjects_with(findings: &[Value], grant: &str) -> Vec<String> {
    findings.iter().filter(|it| it["grant"] == grant).map(|it| it["subject"].as_str().unwrap().to_owned()).collect()
}

/// Asserts that no container can be built in the script's environment because `subject` is missing,
/// and that the error and the finding both say so and say how to fix it.
#[track_caller]
fn assert_missing(script: &str, subject: &str, step: &str, seen: &str, mend: &str) {
    let (code, findings) = doctor(script);
    assert_eq!(code, 1, "{findings:?}");
    assert_eq!(subjects_with(&findings, "missing"), ["container", subject], "{findings:?}");
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
fn a_machine_that_grants_everything_has_no_findings_against_it() {
    let _turn = turn();
    let (code, findings) = doctor(r#"exec "$@""#);
    assert_eq!((code, subjects_with(&findings, "missing").len()), (0, 0), "{findings:?}");
    let subjects: Vec<_> = findings.iter().map(|it| it["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["container", "kernel", "namespaces", "seccomp", "proc", "ids", "cgroup", "landlock"]);
    let ids = findings.iter().find(|it| it["subject"] == "ids").unwrap();
    if is_root() {
        assert_eq!(ids["grant"], "granted");
    } else {
        assert!(ids["costs"].as_str().unwrap().contains("shares its user id with the init"), "{ids}");
        assert!(ids["mend"].as_str().unwrap().contains("usermod --add-subuids"), "{ids}");
    }
    let diagnosis = diagnose_here();
    assert!(diagnosis.can_build());
    let text = diagnosis.to_string();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for finding in &findings {
        assert!(text.contains(finding["seen"].as_str().unwrap()), "{text}");
    }
}

/// The doctor's findings in this process.
fn diagnose_here() -> Diagnosis {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(cellblock::doctor::diagnose(&builder()))
}

#[test]
fn a_sysctl_that_forbids_namespaces_is_named_with_its_command() {
    let _turn = turn();
    // The setting belongs to the user namespace. Without it a container can be built there.
    let with = |before: &str| format!(r#"{NAMESPACES} sh -ec '{before}; exec {UNDER_ONE_ID} "$@"' sh "$@""#);
    let file = "/proc/sys/user/max_user_namespaces";
    let host = std::fs::read_to_string(file).unwrap();
    assert_eq!(doctor(&with(":")).0, 0, "the control");
    let forbid = format!("echo 0 > {file}");
    let command = "sysctl -w user.max_user_namespaces=15000";
    assert_missing(&with(&forbid), "namespaces", "unshare namespaces", "user.max_user_namespaces is 0", command);
    assert_eq!(doctor(&with(&format!("{forbid}; echo 15000 > {file}"))).0, 0, "the advised command mends it");
    assert_eq!(std::fs::read_to_string(file).unwrap(), host, "the host's setting is unchanged");
}

#[test]
fn a_refusal_after_the_hello_is_reported_in_every_interleaving() {
    let _turn = turn();
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
    let _turn = turn();
    let with = |before: &str| format!(r#"{NAMESPACES} sh -ec '{before}; exec {UNDER_ONE_ID} "$@"' sh "$@""#);
    for (cover, place) in [
        ("mount --bind /dev/null /proc/version", "/proc/version"),
        ("mount -t tmpfs none /proc/fs", "/proc/fs"),
        ("mount --bind /proc/sys /proc/sys", "/proc/sys"),
    ] {
        assert_missing(&with(cover), "proc", "mount /proc", place, "docker run --security-opt systempaths=unconfined");
    }
    // A mount on an empty directory that the kernel keeps for mounts covers nothing.
    if Path::new("/proc/sys/fs/binfmt_misc").exists() {
        assert_eq!(doctor(&with("mount -t tmpfs none /proc/sys/fs/binfmt_misc")).0, 0);
    }
    assert_mended("without a proc", &with("mount --bind /dev/null /proc/version"));
}

#[test]
fn a_machine_without_proc_is_told_to_mount_it() {
    let _turn = turn();
    let (code, findings) = doctor(&format!(r#"{NAMESPACES} sh -ec 'mount -t tmpfs none /proc; exec "$@"' sh "$@""#));
    assert_eq!(
        (code, subjects_with(&findings, "missing")),
        (1, vec!["container".into(), "proc".into()]),
        "{findings:?}"
    );
    assert!(findings.len() == 2 && findings[1]["mend"] == "mount -t proc proc /proc", "{findings:?}");
}

#[test]
fn a_chroot_is_refused_with_a_hint() {
    let _turn = turn();
    let dir = open_dir();
    let root = dir.path().display();
    let chroot = format!(r#"mount --rbind / {root}; exec {UNDER_ONE_ID} chroot {root} "$@""#);
    let script = format!(r#"{NAMESPACES} sh -ec '{chroot}' sh "$@""#);
    assert_missing(&script, "namespaces", "unshare namespaces", "in a chroot", "pivot_root");
}

#[test]
fn a_seccomp_filter_is_reported_whether_it_refuses_or_kills() {
    let _turn = turn();
    // A seccomp(2) program: `unshare` gets this answer, and every other call is allowed.
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
    assert_eq!(
        (code, subjects_with(&findings, "missing")),
        (1, vec!["container".into(), "seccomp".into()]),
        "{findings:?}"
    );

    // A filter that allows everything is found, and is no obstacle.
    let (code, findings) = doctor(&filtered("0x7fff0000"));
    assert_eq!((code, subjects_with(&findings, "missing").len()), (0, 0), "{findings:?}");
    assert!(findings.iter().any(|it| it["seen"] == "this process is under a filter"), "{findings:?}");
}

#[test]
fn ids_that_cannot_be_mapped_are_reported() {
    let _turn = turn();
    let one = r#"exec unshare --user --map-root-user "$@""#;
    assert_missing(one, "ids", "map user and group ids", "maps no ids but its own", UNDER_ONE_ID);
    let (code, _) = doctor(&format!(r#"exec unshare --user --map-root-user {UNDER_ONE_ID} "$@""#));
    assert_eq!(code, 0, "the advised command mends it");

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
fn a_partial_id_map_is_reported_with_the_range_to_configure() {
    let _turn = turn();
    if !is_root() {
        // Only root may map several ids.
        return;
    }
    let within = "import ctypes,os,sys
ready,told=os.pipe();go,tell=os.pipe()
child=os.fork()
if not child:
  ctypes.CDLL(None).unshare(0x10000000);os.write(told,b\"x\");os.read(go,1)
  os.setresgid(0,0,0);os.setresuid(0,0,0);os.execv(sys.argv[1],sys.argv[1:])
os.read(ready,1)
for it in \"uid_map\",\"gid_map\": open(f\"/proc/{child}/{it}\",\"w\").write(\"0 1800000000 65536\")
os.write(tell,b\"x\");sys.exit(os.waitstatus_to_exitcode(os.waitpid(child,0)[1]))";
    let script = format!(r#"exec /usr/bin/python3 -Sc '{within}' "$@""#);
    assert_missing(
        &script,
        "ids",
        "map user and group ids",
        "maps the ids 0 to 65535",
        "ContainerBuilder::id_range(1..65536)",
    );
    assert_mended("with a range", &script);
}

/// Asserts that a builder with the advice applied builds a container where the default cannot.
#[track_caller]
fn assert_mended(role: &str, script: &str) {
    let output = host(role, script);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("the mended container ran"), "{said}");
}

/// The part of the other process.
pub fn play(role: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let code = runtime.block_on(async {
        match role {
            "diagnose" => {
                let diagnosis = cellblock::doctor::diagnose(&builder()).await;
                println!("{}", serde_json::to_string(&diagnosis).unwrap());
                i32::from(!diagnosis.can_build())
            }
            "run" => {
                let built = builder().build().await;
                eprintln!("{}", built.expect_err("the default builder builds nothing here"));
                125
            }
            "with a range" => run_mended(builder().id_range(1..65536)).await,
            "without a proc" => {
                let mounts = Mount::defaults(Default::default());
                let mounts = mounts.into_iter().filter(|mount| mount.target() != Path::new("/proc"));
                run_mended(builder().mounts(mounts)).await
            }
            other => panic!("no such role: {other}"),
        }
    });
    std::process::exit(code);
}

/// Asserts that the default builder fails and that this one succeeds.
async fn run_mended(mended: ContainerBuilder) -> i32 {
    assert!(builder().build().await.is_err());
    let container = mended.build().await.unwrap();
    assert!(container.run(&sh(":")).await.unwrap().status.success());
    container.destroy().await;
    // The doctor judges the builder that it gets, not the default.
    assert!(cellblock::doctor::diagnose(&mended).await.can_build());
    println!("the mended container ran");
    0
}

#[test]
fn a_mistake_of_the_builder_is_not_blamed_on_the_machine() {
    alone(async |_| {
        let mistaken = builder().mount(Mount::bind("/no/such/source", "/x"));
        let error: Error = mistaken.build().await.unwrap_err();
        assert_eq!((error.step(), error.hint()), (Some("open_bind_source"), None));
        let diagnosis = cellblock::doctor::diagnose(&mistaken).await;
        assert!(!diagnosis.can_build());
        let missing = diagnosis.findings.iter().filter(|it| matches!(it.grant, cellblock::doctor::Grant::Missing(_)));
        assert_eq!(missing.map(|it| it.subject).collect::<Vec<_>>(), [Subject::Container], "{diagnosis}");
        assert!(diagnosis.findings[0].seen.contains("open bind source /no/such/source"), "{diagnosis}");
    });
}
