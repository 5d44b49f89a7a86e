//! The doctor of a builder that is not the default's, and the hints of errors.
#![allow(missing_docs)]

mod common;

use std::path::Path;
use std::process::Command;

use cellblock::{Error, Mount, doctor::Subject};
use common::{builder, is_root, sh};

/// A user namespace that maps the caller's own id to 0, with mounts and processes of its own.
const NAMESPACES: &str = "exec unshare --user --map-root-user --mount --pid --fork --mount-proc";
/// Under the one id that is mapped there, as an ordinary user does.
const UNDER_ONE_ID: &str = "setpriv --bounding-set=-setuid,-setgid";

#[test]
fn a_container_without_proc_can_be_built_under_a_covered_proc() {
    let cover = "mount --bind /dev/null /proc/version";
    play("without a proc", &format!(r#"{NAMESPACES} sh -ec '{cover}; exec {UNDER_ONE_ID} "$@"' sh "$@""#));
}

#[test]
fn a_container_with_a_range_of_ids_can_be_built_where_a_part_is_mapped() {
    if !is_root() {
        // Several ids are only root's to map.
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
    play("with a range", &script);
}

/// Has [`another_host`] do its part in a process that a script starts.
#[track_caller]
fn play(role: &str, script: &str) {
    let own = std::env::current_exe().unwrap();
    let mut host = Command::new("sh");
    host.args(["-ec", script, "sh"]).arg(own).args(["--exact", "another_host", "--nocapture"]);
    let output = host.env("CELLBLOCK_TEST_ROLE", role).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("the mended container ran"), "{said}");
}

/// No test of its own: what [`play`] runs in another process, where a builder of the defaults builds nothing.
#[tokio::test]
async fn another_host() {
    let Ok(role) = std::env::var("CELLBLOCK_TEST_ROLE") else { return };
    assert!(builder().build().await.is_err());
    let mended = match role.as_str() {
        "with a range" => builder().id_range(1..65536),
        _ => {
            let mounts = Mount::defaults(Default::default());
            builder().mounts(mounts.into_iter().filter(|mount| mount.target() != Path::new("/proc")))
        }
    };
    let container = mended.build().await.unwrap();
    assert!(container.run(&sh(":")).await.unwrap().status.success());
    container.destroy().await;
    // The doctor looks at the builder that it is given.
    assert!(cellblock::doctor::diagnose(&mended).await.can_build());
    println!("the mended container ran");
}

#[tokio::test]
async fn what_is_no_fault_of_the_machine_is_not_blamed_on_it() {
    let missing = builder().mount(Mount::bind("/no/such/source", "/x"));
    let error: Error = missing.build().await.unwrap_err();
    assert_eq!((error.step(), error.hint()), (Some("open_bind_source"), None));
    let diagnosis = cellblock::doctor::diagnose(&missing).await;
    assert!(!diagnosis.can_build());
    let lacks = diagnosis.findings.iter().filter(|it| matches!(it.grant, cellblock::doctor::Grant::Missing(_)));
    assert_eq!(lacks.map(|it| it.subject).collect::<Vec<_>>(), [Subject::Container], "{diagnosis}");
    assert!(diagnosis.to_string().contains("open bind source /no/such/source"), "{diagnosis}");
}
