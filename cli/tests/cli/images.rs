//! `cellblock images`, and `run`, `console` and `grade` with an image.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::make::{Compression, Image, Layer};
use crate::processes::{DEADLINE, eventually};
use crate::support::{cellblock, open_dir, stderr, stdout};

/// A directory with a store, and a layout of busybox.
struct Place {
    dir: TempDir,
    layout: PathBuf,
}

impl Place {
    /// `None` on a machine without busybox.
    fn new() -> Option<Self> {
        let Ok(busybox) = fs::read("/bin/busybox") else {
            let machine = std::env::var("CELLBLOCK_TEST_MACHINE");
            assert_ne!(machine.as_deref(), Ok("whole"), "this machine lacks busybox");
            eprintln!("skipped: this machine lacks busybox (Debian's busybox-static)");
            return None;
        };
        let layer = Layer::new().dir("bin", 0o755).file("bin/busybox", 0o755, busybox).dir("etc", 0o755);
        let layer = ["sh", "cat", "ls", "env", "echo"]
            .iter()
            .fold(layer, |layer, applet| layer.symlink(&format!("bin/{applet}"), "busybox"));
        let config =
            json!({"Env": ["PATH=/bin", "FROM=image"], "WorkingDir": "/etc", "Cmd": ["sh", "-c", "echo $FROM; pwd"]});
        let dir = open_dir();
        let layout = dir.path().join("layout");
        fs::create_dir(&layout).unwrap();
        Image::new([layer.compression(Compression::Zstd)]).config(config).layout(&layout, "1.0");
        Some(Self { dir, layout })
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn images(&self, args: &[&str]) -> Output {
        cellblock("images").args(args).arg("--store").arg(self.store()).output().unwrap()
    }

    fn run(&self, image: &Path, args: &[&str]) -> Output {
        let mut run = cellblock("run");
        run.arg("--store").arg(self.store()).arg("--image").arg(image).args(args).stdin(Stdio::null());
        run.output().unwrap()
    }

    fn layout(&self) -> &str {
        self.layout.to_str().unwrap()
    }

    fn parts(&self, kind: &str) -> usize {
        fs::read_dir(self.store().join(kind)).map_or(0, |parts| parts.count())
    }
}

#[track_caller]
fn succeeds(output: &Output) -> &str {
    assert_eq!((output.status.code(), stderr(output)), (Some(0), ""));
    stdout(output)
}

#[test]
fn images_are_imported_listed_run_and_removed() {
    let Some(place) = Place::new() else { return };
    let digest = succeeds(&place.images(&["import", place.layout(), "--name", "box"])).trim().to_owned();
    let listed = place.images(&["ls"]);
    let lines: Vec<Vec<&str>> = succeeds(&listed).lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "DIGEST", "SIZE", "LAYERS", "CREATED"]);
    assert_eq!(lines[1][..2], ["box", &digest["sha256:".len()..][..12]]);
    assert_eq!((lines[1][4..].to_vec(), lines.len()), (vec!["1", "2024-02-03T04:05:06"], 2));
    let as_json: Value = serde_json::from_slice(&place.images(&["ls", "--json"]).stdout).unwrap();
    assert_eq!((&as_json["images"][0]["digest"], &as_json["images"][0]["names"]), (&json!(digest), &json!(["box"])));
    assert!(as_json["images"][0]["bytes"].as_u64().unwrap() > 500_000);

    let named = Path::new("box");
    assert_eq!(succeeds(&place.run(named, &[])), "image\n/etc\n");
    assert_eq!(succeeds(&place.run(named, &["--env", "FROM=option"])), "option\n/etc\n");
    assert_eq!(succeeds(&place.run(named, &["ls", "/bin/cat"])), "/bin/cat\n");
    assert_eq!(succeeds(&place.run(named, &["--", "cat", "/proc/self/comm"])), "cat\n");
    assert_eq!(place.run(named, &["python3"]).status.code(), Some(127));

    succeeds(&place.images(&["rm", "box"]));
    assert_eq!(succeeds(&place.images(&["ls"])).lines().count(), 1);
    assert_eq!((place.parts("trees"), place.parts("layers")), (0, 0));
    let gone = place.run(named, &[]);
    assert_eq!(gone.status.code(), Some(125));
    assert!(stderr(&gone).contains("the store has no image of that name"), "{}", stderr(&gone));
    let gone = place.images(&["rm", "box"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(stderr(&gone).contains("find the image box: the store has no such image"), "{}", stderr(&gone));
}

#[test]
fn run_takes_a_directory_a_layout_and_an_archive() {
    let Some(place) = Place::new() else { return };
    let archive = crate::make::archive(&place.layout, &place.dir.path().join("archive.tar"));
    let with_tag = PathBuf::from(format!("{}:1.0", archive.display()));
    for image in [&place.layout, &archive, &with_tag] {
        assert_eq!(succeeds(&place.run(image, &[])), "image\n/etc\n", "{}", image.display());
    }
    let tree = fs::read_dir(place.store().join("trees")).unwrap().next().unwrap().unwrap().path().join("root");
    assert_eq!(succeeds(&place.run(&tree, &["ls", "/bin/cat"])), "/bin/cat\n");
    let no_command = place.run(&tree, &[]);
    assert_eq!(no_command.status.code(), Some(125));
    assert!(stderr(&no_command).contains("the image has no command"), "{}", stderr(&no_command));
    // An image that was never imported has no name, and a prune removes it.
    assert_eq!(succeeds(&place.images(&["prune"])), "");
    assert_eq!(place.parts("trees"), 0);
}

#[test]
fn the_console_and_grade_take_an_image() {
    let Some(place) = Place::new() else { return };
    let mut console = cellblock("console");
    console.arg("--store").arg(place.store()).arg("--image").arg(&place.layout);
    let mut console = console.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = console.stdin.take().unwrap();
    writeln!(input, r#"{{"id":1,"op":"run","args":["sh","-c","echo $FROM; ls /"]}}"#).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(console.stdout.take().unwrap()), &mut line).unwrap();
    drop(input);
    assert!(console.wait().unwrap().success());
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer["ok"]["stdout"], "image\nbin\ndev\netc\nproc\ntmp\nw\n", "{answer}");

    // Busybox has none of the languages' tools, so every submission is skipped.
    let problems = Path::new(env!("CARGO_MANIFEST_DIR")).join("problems/sumpairs");
    let mut grade = cellblock("grade");
    grade.arg(problems).args(["-j", "1", "--store"]).arg(place.store()).arg("--image").arg(&place.layout);
    let output = grade.output().unwrap();
    assert!(stdout(&output).contains("there is no python3 that a container can see"), "{output:?}");
    assert!(stdout(&output).contains("; 0 runs in"), "{}", stdout(&output));
}

/// A layout whose layer takes a while to unpack.
fn big_layout(place: &Place, mebibytes: usize) -> PathBuf {
    let layout = place.dir.path().join("big");
    fs::create_dir(&layout).unwrap();
    let file = vec![b'x'; 1 << 20];
    let layer = (0..mebibytes).fold(Layer::new(), |layer, n| layer.file(&n.to_string(), 0o644, &file));
    Image::new([layer.compression(Compression::None)]).layout(&layout, "big");
    layout
}

fn import(place: &Place, layout: &Path) -> Command {
    let mut import = cellblock("images");
    import.arg("import").arg(layout).arg("--store").arg(place.store()).stdout(Stdio::null());
    import
}

#[test]
fn processes_that_import_at_once_make_one_whole_image() {
    let Some(place) = Place::new() else { return };
    let layout = big_layout(&place, 100);
    let mut imports: Vec<_> = (0..4).map(|_| import(&place, &layout).spawn().unwrap()).collect();
    // Meanwhile others remove what nothing needs.
    while imports.iter_mut().any(|import| import.try_wait().unwrap().is_none()) {
        succeeds(&place.images(&["prune"]));
    }
    assert!(imports.iter_mut().all(|import| import.wait().unwrap().success()));
    assert_eq!((place.parts("trees"), place.parts("layers"), place.parts("staging")), (1, 1, 0));
    let tree = fs::read_dir(place.store().join("trees")).unwrap().next().unwrap().unwrap().path().join("root");
    let files: Vec<_> = fs::read_dir(tree).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
    assert_eq!(files, vec![1 << 20; 100]);
}

#[test]
fn an_import_that_is_killed_leaves_nothing_that_counts() {
    let Some(place) = Place::new() else { return };
    let layout = big_layout(&place, 200);
    for pause in [0, 5, 20, 60, 120, 200] {
        let mut killed = import(&place, &layout).spawn().unwrap();
        eventually("the import begins", || place.parts("staging") > 0 || killed.try_wait().unwrap().is_some());
        std::thread::sleep(Duration::from_millis(pause));
        killed.kill().unwrap();
        killed.wait().unwrap();
        // No reader sees a part of a layer or of a tree.
        let trees = fs::read_dir(place.store().join("trees")).unwrap().map(|tree| tree.unwrap().path().join("root"));
        let layers = fs::read_dir(place.store().join("layers")).unwrap().map(|it| it.unwrap().path().join("files"));
        for complete in trees.chain(layers) {
            assert_eq!(fs::read_dir(&complete).unwrap().count(), 200, "{}", complete.display());
        }
    }
    assert!(import(&place, &layout).status().unwrap().success());
    assert_eq!((place.parts("trees"), place.parts("layers"), place.parts("staging")), (1, 1, 0));
    succeeds(&place.images(&["rm", "big"]));
    assert_eq!((place.parts("trees"), place.parts("layers"), place.parts("staging")), (0, 0, 0));
}

#[test]
fn an_import_in_the_place_of_a_stopped_one_waits_and_a_signal_ends_it() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let Some(place) = Place::new() else { return };
    let layout = big_layout(&place, 200);
    let mut stopped = import(&place, &layout).spawn().unwrap();
    let pid = Pid::from_raw(stopped.id() as i32);
    eventually("the import begins", || place.parts("staging") > 0);
    kill(pid, Signal::SIGSTOP).unwrap();
    let mut waiting = import(&place, &layout).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(waiting.try_wait().unwrap().is_none() && place.parts("trees") == 0);
    kill(Pid::from_raw(waiting.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
    let mut waiting = import(&place, &layout).spawn().unwrap();
    kill(pid, Signal::SIGKILL).unwrap();
    stopped.wait().unwrap();
    let start = std::time::Instant::now();
    assert!(waiting.wait().unwrap().success());
    assert!(start.elapsed() < DEADLINE);
    assert_eq!((place.parts("trees"), place.parts("staging")), (1, 0));
}
