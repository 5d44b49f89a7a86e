//! `cellblock grade`: problem packages in; a table, JSON, a page and an exit code out.
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::processes::{alive, eventually, running, wait};
use crate::support::{cellblock, is_root, open_dir, stderr, stdout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

pub fn grade(args: &[&str]) -> Output {
    cellblock("grade").args(args).stdin(Stdio::null()).output().unwrap()
}

/// Writes a problem package into a new folder, from the paths and contents of its files.
pub fn problem(files: &[(&str, &str)]) -> TempDir {
    let dir = open_dir();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

/// A problem whose answer is twice the input.
pub const DOUBLE: [(&str, &str); 5] = [
    ("problem.yaml", "limits: {time_limit: 1, memory: 64, output: 1}\n"),
    ("data/secret/1.in", "1\n"),
    ("data/secret/1.ans", "2\n"),
    ("data/secret/group/2.in", "21\n"),
    ("data/secret/group/2.ans", "42\n"),
];

pub fn path(dir: &TempDir) -> &str {
    dir.path().to_str().unwrap()
}

pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The verdicts of each submission, in the order of its cases.
pub fn verdicts(json: &Value) -> Vec<(&str, Vec<&str>)> {
    let submissions = json["submissions"].as_array().unwrap().iter();
    let verdicts = submissions.map(|it| {
        let cases = it["got"]["judged"].as_array().into_iter().flatten();
        (it["submission"].as_str().unwrap(), cases.map(|case| case["verdict"].as_str().unwrap()).collect())
    });
    verdicts.collect()
}

#[test]
fn the_problems_of_this_repository_are_as_expected() {
    let dir = open_dir();
    let (json, page) = (dir.path().join("all.json"), dir.path().join("all.html"));
    let problems = concat!(env!("CARGO_MANIFEST_DIR"), "/problems");
    let output = grade(&[problems, "--json", json.to_str().unwrap(), "--report", page.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));

    let table = stdout(&output);
    for words in ["farapart", "accepted/table", "WA on sample/1", "OLE on sample/4", " 0 not"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let json = read_json(&json);
    assert_eq!(json["as_expected"], true);
    let submissions = verdicts(&json);
    assert_eq!(submissions.len(), 39);
    let found: BTreeSet<_> = submissions.iter().flat_map(|(_, verdicts)| verdicts).copied().collect();
    let memory = is_root().then_some("memory_limit_exceeded");
    let usual = ["accepted", "wrong_answer", "time_limit_exceeded", "run_time_error", "output_limit_exceeded"];
    assert!(usual.iter().chain(&memory).all(|verdict| found.contains(verdict)), "{found:?}");
    assert!(!found.contains("judge_error"));
    let one = json["submissions"].as_array().unwrap().iter().find(|it| it["submission"] == "accepted/set.py").unwrap();
    assert_eq!(
        (&one["problem"], &one["expected"], &one["as_expected"]),
        (&json!("sumpairs"), &json!("AC"), &json!(true))
    );
    assert!(one["got"]["judged"][0]["cpu_us"].as_u64().unwrap() > 0);

    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("class=\"validate\"") && page.ends_with("</html>\n"));
    assert!(["http:", "https:", "src=", "url("].iter().all(|word| !page.contains(word)), "it needs no network");
}

#[test]
fn an_unexpected_result_is_reported_with_its_reason() {
    let dir = problem(&DOUBLE);
    for (name, content) in [
        ("accepted/adds.py", "print(int(input()) + 1)"),
        ("accepted/broken.c", "int main(void) { return nothing; }"),
        ("accepted/typo.py", "print(("),
        ("wrong_answer/right.py", "print(2 * int(input()))"),
        ("wrong_answer/crashes.py", "raise SystemExit(3)"),
        ("compile_error/broken.cpp", "int main() { return }"),
        ("accepted/strange.xyz", "What language is this?"),
    ] {
        fs::create_dir_all(dir.path().join("submissions").join(name).parent().unwrap()).unwrap();
        fs::write(dir.path().join("submissions").join(name), content).unwrap();
    }
    let json = dir.path().join("out.json");
    let output = grade(&[path(&dir), "-j", "1", "--json", json.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = stdout(&output);
    for words in [
        r#"line 1: "22", and not "42""#,
        "error: 'nothing' undeclared",
        "SyntaxError",
        "exited with 3",
        "1 as expected, 5 not, 1 skipped",
        "no language has this extension",
    ] {
        assert!(said.replace(['‘', '’'], "'").contains(words), "{words}: {said}");
    }
    let json = read_json(&json);
    let verdicts = verdicts(&json);
    assert!(verdicts.contains(&("accepted/adds.py", vec!["accepted", "wrong_answer"])));
    assert!(verdicts.contains(&("wrong_answer/crashes.py", vec!["run_time_error"; 2])));
    let broken =
        json["submissions"].as_array().unwrap().iter().find(|it| it["submission"] == "compile_error/broken.cpp");
    assert_eq!(broken.unwrap()["as_expected"], true);
}

#[test]
fn submissions_yaml_sets_what_is_expected() {
    let dir = problem(&DOUBLE);
    let submissions = dir.path().join("submissions");
    fs::create_dir_all(submissions.join("mixed/folder")).unwrap();
    fs::write(submissions.join("mixed/half.py"), "n = int(input())\nprint(2 * n if n < 9 else 0)").unwrap();
    fs::write(submissions.join("mixed/folder/start.py"), "from other import double\nprint(double(input()))").unwrap();
    fs::write(submissions.join("mixed/folder/other.py"), "def double(text): return 2 * int(text)").unwrap();
    let yaml = "mixed/half.*:\n  authors: {name: A. Author}\n  permitted: [AC, WA]\n  secret/group: {required: [WA]}\n\
                mixed/fol{d,t}er: {entrypoint: start.py, permitted: [AC]}\n";
    fs::write(submissions.join("submissions.yaml"), yaml).unwrap();
    let output = grade(&[path(&dir)]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    fs::write(submissions.join("submissions.yaml"), yaml.replace("secret/group", "secret/1")).unwrap();
    let output = grade(&[path(&dir)]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
}

#[test]
fn a_case_may_have_arguments_and_files_and_a_package_a_library() {
    let dir = problem(&[
        ("problem.yaml", "problem_format_version: 2023-07-draft\nlimits: {time_limit: 1}\n"),
        ("data/secret/1.in", "7\n"),
        ("data/secret/1.ans", "7 red 1.5\n"),
        ("data/secret/1.yaml", "args: [red]\n"),
        ("data/secret/1.files/more/number.txt", "1.4\n"),
        ("data/secret/2.in", "8\n"),
        ("data/secret/2.ans", "8 blue 1.4\n"),
        ("data/secret/2.files/more/number.txt", "1.4\n"),
        ("data/secret/test_group.yaml", "args: [blue]\noutput_validator_args: [float_tolerance, 0.2]\n"),
        ("include/python3/library.py", "def number(): return open('more/number.txt').read()\n"),
        ("submissions/accepted/all.py", "import sys, library\nprint(input(), sys.argv[1], library.number())"),
        ("submissions/wrong_answer/far.py", "import sys\nprint(input(), sys.argv[1], 1.8)"),
        ("submissions/run_time_error/writes.py", "open('/usr/x', 'w')"),
    ]);
    let output = grade(&[path(&dir)]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}

#[test]
fn a_validator_that_does_not_work_is_a_judge_error() {
    let dir = problem(&DOUBLE);
    for (name, content) in [
        ("problem.yaml", "validation: custom\nlimits: {time_limit: 1}\n"),
        ("output_validators/check/build", "#!/bin/sh\ncp check.py run\nchmod +x run\n"),
        ("output_validators/check/check.py", "#!/usr/bin/python3\nimport sys\nsys.exit('out of paper')\n"),
        ("submissions/accepted/right.py", "print(2 * int(input()))"),
    ] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = grade(&[path(&dir)]);
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    assert!(said.contains("JE on secret/1") && said.contains("out of paper"), "{said}");

    fs::write(dir.path().join("output_validators/check/build"), "#!/bin/sh\necho no ink; exit 1\n").unwrap();
    let output = grade(&[path(&dir)]);
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    assert!(said.contains("not judged") && said.contains("does not compile: no ink"), "{said}");
}

#[test]
fn a_wrong_call_says_what_to_do() {
    let empty = open_dir();
    let missing = empty.path().join("missing");
    let (missing, empty) = (missing.to_str().unwrap(), path(&empty));
    let cases: [(&[&str], &str); 7] = [
        (&[], "required"),
        (&["--no-such-option", "x"], "--no-such-option"),
        (&[empty, "-j", "0"], "1..=512"),
        (&[empty, "--samples", "x"], "cannot be used with"),
        (&[missing], "missing: No such file or directory"),
        (&[empty], "no problem package below it; one has a problem.yaml"),
        (&["--humaneval", missing], "missing: No such file or directory"),
    ];
    for (args, says) in cases {
        let output = grade(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(says) && output.stdout.is_empty(), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn a_package_that_cannot_be_read_is_a_line_of_the_table() {
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("problem.yaml", "limits: {time_limit: fast}")], "problem.yaml: limits"),
        (&[("problem.yaml", "type: multi-pass")], "a multi-pass problem"),
        (&[("problem.yaml", "")], "no test case: put an .in and an .ans file into data/secret"),
        (&[("problem.yaml", ""), ("data/secret/1.in", "")], "data/secret/1.ans is missing"),
    ];
    for (files, says) in cases {
        let dir = problem(files);
        let output = grade(&[path(&dir)]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stdout(&output).contains("not judged") && stdout(&output).contains(says), "{}", stdout(&output));
    }
}

#[test]
fn a_killed_grading_resumes_from_its_journal() {
    let dir = problem(&DOUBLE);
    fs::create_dir_all(dir.path().join("submissions/accepted")).unwrap();
    for number in 0..4 {
        let slow = "import time\ntime.sleep(0.3)\nprint(2 * int(input()))";
        fs::write(dir.path().join(format!("submissions/accepted/{number}.py")), slow).unwrap();
    }
    let journal = dir.path().join("journal");
    let args = [path(&dir), "-j", "1", "--resume", journal.to_str().unwrap()];
    let lines = || fs::read_to_string(&journal).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    let mut child = cellblock("grade").args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("two finished cases", || lines().len() >= 2);
    child.kill().unwrap();
    child.wait().unwrap();
    // A line that the kill has cut off.
    fs::OpenOptions::new().append(true).open(&journal).unwrap().write_all(br#"{"case":"half a li"#).unwrap();
    let before = lines();

    let output = grade(&args);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let after = lines();
    assert_eq!(after[..before.len()], before, "what was there stays");
    let cases: Vec<_> = after.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect();
    let names: BTreeSet<_> = cases.iter().map(|case| case["case"].as_str().unwrap()).collect();
    assert_eq!((cases.len(), names.len()), (8, 8), "each once: {names:?}");

    let output = grade(&args);
    assert_eq!((output.status.code(), lines()), (Some(0), after), "nothing was left to do");
    fs::write(dir.path().join("submissions/accepted/0.py"), "print(0)").unwrap();
    assert_eq!(grade(&args).status.code(), Some(1), "a changed submission is judged anew");
}

#[test]
fn a_signal_ends_it_at_once_and_leaves_nothing() {
    let dir = problem(&DOUBLE);
    fs::write(dir.path().join("problem.yaml"), "limits: {time_limit: 1000}").unwrap();
    fs::create_dir_all(dir.path().join("submissions/accepted")).unwrap();
    fs::write(dir.path().join("submissions/accepted/waits.sh"), "trap '' INT TERM\nsetsid sleep 4000 &\nsleep 4000")
        .unwrap();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut child = cellblock("grade").args([path(&dir), "-j", "1"]).stdout(Stdio::null()).spawn().unwrap();
        let processes = running(child.id(), 2, "sleep");
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(wait(&mut child).code(), Some(128 + signal as i32));
        assert_eq!(alive(&processes), []);
    }
}

/// Two tasks in the format of the data set.
fn tasks() -> String {
    let task = |id: &str, name: &str, body: &str, answer: &str| {
        let prompt = format!("def {name}(n):\n    \"\"\"ContainerInfo for this test.\"\"\"\n");
        let test = format!("def check(candidate):\n    assert candidate(3) == {answer}\n");
        json!({"task_id": id, "prompt": prompt, "entry_point": name, "canonical_solution": body, "test": test})
            .to_string()
    };
    let (double, square) = ("    return 2 * n\n", "    return n * n\n");
    task("ProcCgroup/0", "double", double, "6") + "\n" + &task("ProcCgroup/1", "square", square, "9") + "\n"
}

#[test]
fn the_tasks_of_humaneval_run_and_are_counted() {
    let dir = open_dir();
    let (plain, compressed) = (dir.path().join("tasks.jsonl"), dir.path().join("tasks.jsonl.gz"));
    fs::write(&plain, tasks()).unwrap();
    let mut encoder =
        flate2::write::GzEncoder::new(fs::File::create(&compressed).unwrap(), flate2::Compression::fast());
    encoder.write_all(tasks().as_bytes()).unwrap();
    encoder.finish().unwrap();
    for file in [&plain, &compressed] {
        let output = grade(&["--humaneval", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
        assert_eq!(stdout(&output).lines().last(), Some("pass@1: 2 of 2"));
    }

    let samples = dir.path().join("samples.jsonl");
    let sample = |id: &str, completion: &str| json!({"task_id": id, "completion": completion}).to_string();
    let lines = [
        sample("ProcCgroup/0", "    return n + n\n"),
        sample("ProcCgroup/1", "    pass\n"),
        sample("ProcCgroup/1", "    import os\n    os._exit(0)\n"),
        sample("ProcCgroup/1", "    return n ** 2\n"),
    ];
    fs::write(&samples, lines.join("\n")).unwrap();
    let json = dir.path().join("out.json");
    let mut args = vec!["--humaneval", plain.to_str().unwrap(), "--samples", samples.to_str().unwrap()];
    args.extend(["--json", json.to_str().unwrap()]);
    let output = grade(&args);
    assert_eq!(output.status.code(), Some(0), "samples are measured, not expected: {}", stderr(&output));
    assert_eq!(stdout(&output).lines().last(), Some("pass@1: 2 of 4"));
    assert_eq!(read_json(&json)["pass_at_1"], json!({"passed": 2, "of": 4}));

    fs::write(&samples, sample("ProcCgroup/7", "")).unwrap();
    let output = grade(&args);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("ProcCgroup/7 is not a task of the data set"), "{}", stderr(&output));
}
