//! The source's structure: imports go down only, no two files import each other in a circle, tokio
//! stays out of the init, and `unsafe` stays in `sys`.
//!
//! The floors are those of ARCHITECTURE.md: this suite reads them there.
#![allow(missing_docs)]

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use imports::{Crate, Import};

#[test]
fn imports_go_down_only() {
    let floors = Floors::read();
    let library = library();
    let climbing: Vec<_> = library.imports().into_iter().filter(|import| !floors.allow(import)).collect();
    assert!(climbing.is_empty(), "{}", shown(&library, &climbing));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for krate in [library(), command()] {
        let circles = circles(&krate.imports());
        assert!(circles.is_empty(), "{}", shown(&krate, &circles));
    }
}

#[test]
fn the_init_reaches_no_tokio() {
    let library = library();
    let imports = library.imports();
    let mut reached: BTreeSet<_> = library.modules().map(|(module, _)| module.clone()).collect();
    reached.retain(|module| module.first().is_some_and(|room| room == "init"));
    assert!(!reached.is_empty());
    loop {
        let known = reached.len();
        reached
            .extend(imports.iter().filter(|it| reached.contains(&it.from)).map(|it| it.to.clone()).collect::<Vec<_>>());
        if reached.len() == known {
            break;
        }
    }
    let is_async = |(module, source): &(&Vec<String>, &imports::Source)| {
        reached.contains(*module) && source.words().contains("tokio")
    };
    let wrong: Vec<_> = library.modules().filter(is_async).map(|(_, source)| &source.path).collect();
    assert!(wrong.is_empty(), "the init reaches tokio in {wrong:?}");
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    let library = library();
    let outside = library.modules().filter(|(module, _)| module.first().is_none_or(|room| room != "sys"));
    let wrong: Vec<_> = outside.filter(|(_, it)| it.words().contains("unsafe")).map(|(_, it)| &it.path).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The init's standard error is a pipe to the host, which makes an error of it.
#[test]
fn only_the_init_prints() {
    let library = library();
    let prints = ["print", "println", "eprint", "eprintln", "dbg"];
    let outside = library.modules().filter(|(module, _)| module.first().is_none_or(|room| room != "init"));
    let wrong: Vec<_> = outside.filter(|(_, it)| prints.iter().any(|word| it.words().contains(*word))).collect();
    assert!(wrong.is_empty(), "{:?}", wrong.iter().map(|(_, it)| &it.path).collect::<Vec<_>>());
}

#[test]
fn every_kind_of_import_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod a; mod b; mod c; pub use a::A;");
    write("a.rs", "mod inner; use inner::Inner; use super::c::{self, C}; struct A { it: crate::b::B }");
    write("a/inner.rs", "use super::A; // crate::c\nfn f() -> &'static str { \"crate::b\" }");
    write("b.rs", "mod inline { use super::super::c; } fn f() { assert!(crate::c::is() && self::f()); }");
    write("c.rs", "use std::{fs, io}; fn f(x: X) { x.a.b() }");
    let krate = Crate::read(dir.path());
    let edge = |from: &[&str], to: &[&str]| (text(from), text(to));
    let expected = BTreeSet::from([
        edge(&[], &["a"]),
        edge(&["a"], &["a", "inner"]),
        edge(&["a"], &["b"]),
        edge(&["a"], &["c"]),
        edge(&["a", "inner"], &["a"]),
        edge(&["b"], &["c"]),
    ]);
    let imports = krate.imports();
    assert_eq!(imports.iter().map(|it| (it.from.clone(), it.to.clone())).collect::<BTreeSet<_>>(), expected);
    let circle: BTreeSet<_> = circles(&imports).into_iter().map(|it| it.from).collect();
    assert_eq!(circle, BTreeSet::from([text(&["a"]), text(&["a", "inner"])]));
}

#[test]
fn an_import_that_climbs_is_seen() {
    let floors = Floors::read();
    let import = |from: &[&str], to: &[&str]| Import { from: text(from), to: text(to), line: 1 };
    assert!(floors.allow(&import(&["pool", "handle"], &["container"])));
    assert!(floors.allow(&import(&["wire"], &["sys", "socket"])));
    assert!(floors.allow(&import(&["init", "exec"], &["init", "meter"])), "files of one room import each other");
    assert!(!floors.allow(&import(&["container", "actor"], &["pool"])));
    assert!(!floors.allow(&import(&["init"], &["container"])));
    assert!(!floors.allow(&import(&["cgroup"], &["init"])), "rooms of one floor do not import each other");
}

/// The floor of each room, by the longest path that names it: `doctor/hints` may stand below
/// `doctor`.
struct Floors(BTreeMap<Vec<String>, usize>);

impl Floors {
    /// From the table in ARCHITECTURE.md, whose rows begin with a floor and the rooms on it.
    fn read() -> Self {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
        let mut floors = BTreeMap::new();
        for line in text.lines() {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let Some(floor) = cells.next().and_then(|cell| cell.parse().ok()) else { continue };
            for room in cells.next().unwrap_or_default().split('`').skip(1).step_by(2) {
                let room = room.trim_end_matches(".rs").trim_end_matches('/').split('/').map(str::to_owned).collect();
                let known = floors.insert(room, floor);
                assert_eq!(known, None, "a room stands on two floors: {line}");
            }
        }
        assert!(floors.len() > 10, "ARCHITECTURE.md has the floors");
        Self(floors)
    }

    /// Whether a file may import another: one of a floor below, or of its own folder on the same
    /// floor.
    fn allow(&self, Import { from, to, .. }: &Import) -> bool {
        // A parent re-exports its children. The root does so with every room, and no file imports
        // the root.
        if to.starts_with(from) {
            return true;
        }
        let (Some(floor), Some(below)) = (self.floor_of(from), self.floor_of(to)) else { return false };
        below < floor || below == floor && from[0] == to[0]
    }

    fn floor_of(&self, module: &[String]) -> Option<usize> {
        let rooms = self.0.iter().filter(|(room, _)| module.starts_with(room));
        rooms.max_by_key(|(room, _)| room.len()).map(|(_, floor)| *floor)
    }
}

/// The imports that are part of a circle: whose target leads back to them.
fn circles(imports: &BTreeSet<Import>) -> Vec<Import> {
    let leads_to = |from: &Vec<String>, to: &Vec<String>| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            if module == to {
                return true;
            }
            if seen.insert(module) {
                next.extend(imports.iter().filter(|it| it.from == *module).map(|it| &it.to));
            }
        }
        false
    };
    imports.iter().filter(|it| leads_to(&it.to, &it.from)).cloned().collect()
}

fn library() -> Crate {
    Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

fn command() -> Crate {
    Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cli/src"))
}

fn shown(krate: &Crate, imports: &[Import]) -> String {
    let line = |it: &Import| format!("{}:{}: imports {}\n", krate.path(&it.from).display(), it.line, it.to.join("::"));
    imports.iter().map(line).collect()
}

fn text(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
