//! The house keeps its floors: imports go down only, and tokio stays out of the init.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from the bottom to the top. `lib.rs` alone may touch every one.
const FLOORS: &[&[&str]] = &[
    &["sys"],
    &["error"],
    &["wire"],
    &["fingerprint", "report", "limits", "mount", "seccomp", "observe"],
    &["init", "command", "cgroup"],
    &["process", "pty", "container", "doctor"],
    &["pool"],
];

/// Who may import tokio.
const ASYNC: &[&str] = &["process", "pty", "container", "pool"];

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let Some(room) = room_of(&file) else { continue };
        for line in fs::read_to_string(&file).unwrap().lines() {
            for other in imports(line) {
                if other != room && !may_import(&room, &other) {
                    wrong.push(format!("{}: {line}", file.display()));
                }
            }
            let is_reactor = file.ends_with("sys/reactor.rs");
            if line.trim_start().starts_with("use tokio") && !ASYNC.contains(&room.as_str()) && !is_reactor {
                wrong.push(format!("{}: {line}", file.display()));
            }
            if room == "init" && (line.contains("tokio") || line.contains("reactor")) {
                wrong.push(format!("{}: {line}", file.display()));
            }
            if room != "sys" && (line.contains("unsafe {") || line.contains("unsafe fn")) {
                wrong.push(format!("{}: {line}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_import_that_climbs_is_seen() {
    assert_eq!(imports("use crate::container::Container;"), ["container"]);
    assert_eq!(imports("    let x = crate::init::enter();"), ["init"]);
    assert!(!may_import("wire", "container"));
    assert!(!may_import("init", "container"));
    assert!(!may_import("command", "init"), "rooms of one floor do not see each other");
    assert!(may_import("container", "process") && may_import("process", "container"), "one floor that is one house");
    assert!(may_import("wire", "sys"));
}

fn may_import(room: &str, other: &str) -> bool {
    let floor = |room| FLOORS.iter().position(|rooms| rooms.contains(&room));
    let (Some(own), Some(others)) = (floor(room), floor(other)) else { return false };
    others < own || (others == own && [3, 5].contains(&own) && !(room == "init" || other == "init"))
}

/// The rooms of the crate that a line names. The crate's root has the one function that the builder asks for.
fn imports(line: &str) -> Vec<String> {
    let names = line.split("crate::").skip(1);
    let room = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    names
        .map(room)
        .filter(|name| name != "init_is_asked_for")
        .filter(|name| {
            // A link in a doc comment is no import.
            !line.trim_start().starts_with("//") && !name.is_empty()
        })
        .collect()
}

/// The room that a file is in; none for `lib.rs` and the binaries.
fn room_of(file: &Path) -> Option<String> {
    let below = file.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let room = below.components().next()?.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
    (room != "lib" && room != "bin").then_some(room)
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}
