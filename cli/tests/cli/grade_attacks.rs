//! Submissions that attack `cellblock grade`. Each attack has a control, which shows that it works
//! where nothing prevents it.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Output};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::grade::{DOUBLE, grade, path, problem, read_json, verdicts};
use crate::support::{open_dir, stderr, stdout};

const RIGHT: &str = "print(2 * int(input()))";

/// Adds files to a package, scripts with the right to execute them.
fn add(dir: &TempDir, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Grades a package with more options. Returns its output and its JSON.
fn graded(dir: &TempDir, options: &[&str]) -> (Output, Value) {
    let out = open_dir();
    let json = out.path().join("out.json");
    let output = grade(&[&[path(dir), "--json", json.to_str().unwrap()], options].concat());
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", stderr(&output));
    (output, read_json(&json))
}

/// The result of a submission.
fn result<'a>(json: &'a Value, submission: &str) -> &'a Value {
    json["submissions"].as_array().unwrap().iter().find(|it| it["submission"] == submission).unwrap()
}

#[test]
fn a_link_in_a_submission_is_an_error_for_that_submission_alone() {
    let dir = problem(&DOUBLE);
    add(
        &dir,
        &[
            ("submissions/accepted/right.py", RIGHT),
            ("submissions/accepted/looks/main.py", RIGHT),
            ("submissions/accepted/loops/main.py", RIGHT),
        ],
    );
    let accepted = dir.path().join("submissions/accepted");
    for (target, link) in [
        ("../../data/secret/1.ans", "answer.py"),
        ("/etc/passwd", "passwd.py"),
        ("/dev/zero", "zero.py"),
        ("nowhere", "dangling.py"),
        ("itself.py", "itself.py"),
        ("../../../data/secret", "looks/given"),
        (".", "loops/again"),
        ("/etc", "../folder"),
    ] {
        symlink(target, accepted.join(link)).unwrap();
    }
    mkfifo(&accepted.join("fifo.py"), Mode::S_IRWXU).unwrap();
    // A size of 1 TiB, and one file too many.
    File::create(accepted.join("large.py")).unwrap().set_len(1 << 40).unwrap();
    fs::create_dir(accepted.join("many")).unwrap();
    for number in 0..1001 {
        File::create(accepted.join(format!("many/{number}.py"))).unwrap();
    }
    // The control: who follows the links reads the secret.
    assert_eq!(fs::read(accepted.join("answer.py")).unwrap(), b"2\n");
    assert_eq!(fs::read(accepted.join("looks/given/1.ans")).unwrap(), b"2\n");

    let (output, json) = graded(&dir, &[]);
    assert_eq!(output.status.code(), Some(1));
    let not_judged = [
        ("accepted/answer.py", "symbolic link"),
        ("accepted/passwd.py", "symbolic link"),
        ("accepted/zero.py", "symbolic link"),
        ("accepted/dangling.py", "symbolic link"),
        ("accepted/itself.py", "symbolic link"),
        ("accepted/looks", "looks/given: a symbolic link"),
        ("accepted/loops", "loops/again: a symbolic link"),
        ("folder", "symbolic link"),
        ("accepted/fifo.py", "neither a regular file nor a folder"),
        ("accepted/large.py", "more than 16 MiB"),
        ("accepted/many", "more than 1000 files"),
    ];
    for (submission, why) in not_judged {
        let got = &result(&json, submission)["got"]["not_judged"];
        assert!(got.as_str().is_some_and(|got| got.contains(why)), "{submission}: {got}");
    }
    assert_eq!(result(&json, "accepted/right.py")["as_expected"], true);
    assert_eq!(json["submissions"].as_array().unwrap().len(), 1 + not_judged.len());
    assert!(!stdout(&output).contains("root:"), "{}", stdout(&output));
}

/// Marks its standard input in every way it can, and tells what it found there.
const MARKS: &str = "
import os, sys
def attempt(what):
    try: return what()
    except OSError as error: return error.strerror
found = os.readlink('/proc/self/fd/0'), oct(os.fstat(0).st_mode & 0o7777), attempt(lambda: os.listxattr(0)), \
    int(os.fstat(0).st_mtime) == 1
print(*found, sep='|', file=sys.stderr)
attempt(lambda: os.setxattr(0, 'user.mark', b'left'))
attempt(lambda: os.pwrite(os.open('/proc/self/fd/0', os.O_RDWR), b'9', 0))
attempt(lambda: os.ftruncate(0, 0))
attempt(lambda: os.utime(0, (1, 1)))
attempt(lambda: os.fchmod(0, 0))
";

#[test]
fn an_input_is_a_sealed_copy_for_one_run() {
    let dir = problem(&DOUBLE);
    let input = dir.path().join("data/secret/1.in");
    // The control: with a descriptor of the file, each of these can be seen by the next program.
    let control = dir.path().join("control");
    fs::write(&control, "1\n").unwrap();
    let run = || {
        let stdin = File::open(&control).unwrap();
        let output = Command::new("/usr/bin/python3").args(["-c", MARKS]).stdin(stdin).output().unwrap();
        stderr(&output).to_owned()
    };
    let first = run();
    assert!(first.starts_with(control.to_str().unwrap()), "{first}");
    assert_eq!(fs::metadata(&control).unwrap().permissions().mode() & 0o777, 0, "{first}");
    fs::set_permissions(&control, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(run().trim_end().ends_with("|True"), "the time is left");

    let program = format!("{MARKS}\nprint(2 * int(input()))\nsys.exit(9)");
    add(
        &dir,
        &[
            ("submissions/run_time_error/1.py", &program),
            ("submissions/run_time_error/2.py", &program.replace("os.fchmod(0, 0)", "0")),
            ("submissions/run_time_error/3.py", &format!("{MARKS}\nsys.exit(9)")),
            ("submissions/accepted/right.py", RIGHT),
            // It still has its answer after all attempts to spoil its input.
            ("submissions/accepted/spoils.py", &format!("{MARKS}\n{RIGHT}")),
        ],
    );
    let (output, json) = graded(&dir, &["-j", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    for submission in ["1", "2", "3"].map(|number| format!("run_time_error/{number}.py")) {
        for case in result(&json, &submission)["got"]["judged"].as_array().unwrap() {
            let message = case["message"].as_str().unwrap();
            assert!(message.contains("/memfd:") && !message.contains("secret"), "{message}");
            assert!(message.contains("|[]|False") || message.contains("not supported|False"), "{message}");
        }
    }
    let mode = fs::metadata(&input).unwrap().permissions().mode();
    assert_eq!((mode & 0o400, fs::read(&input).unwrap()), (0o400, b"1\n".into()));
}

#[test]
fn a_build_s_output_and_names_reach_the_terminal_without_control_characters() {
    let dir = problem(&DOUBLE);
    let escapes =
        "#!/bin/sh\nprintf 'title \\033]0;owned\\007 \\033[2J \\342\\200\\256 \\302\\233 end\\r\\n'; exit 1\n";
    add(
        &dir,
        &[
            ("submissions/accepted/scripted/build", escapes),
            ("submissions/accepted/scripted/run", "#!/bin/sh\n"),
            ("submissions/accepted/\u{1b}[31mred\n.py", "raise SystemExit('\\33[31m bad')"),
        ],
    );
    // The control: the build does print them.
    let printed = Command::new("sh").arg(dir.path().join("submissions/accepted/scripted/build")).output().unwrap();
    assert!(printed.stdout.contains(&0x1b));

    let page = dir.path().join("page.html");
    let (output, _) = graded(&dir, &["--report", page.to_str().unwrap()]);
    let said = stdout(&output);
    assert!(said.contains("title ") && said.contains(" end") && said.contains("red") && said.contains("bad"), "{said}");
    let page = fs::read_to_string(page).unwrap();
    for text in [said, stderr(&output), &page] {
        let is_bad = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
        assert!(!text.contains(is_bad), "{text:?}");
    }
}

#[test]
fn a_program_of_300_mib_does_not_compile() {
    let dir = problem(&DOUBLE);
    add(
        &dir,
        &[
            ("submissions/compile_error/large.c", "char a[300 << 20] = {1};\nint main(void) { return a[0]; }\n"),
            ("submissions/compile_error/tool/build", "#!/bin/sh\nmkfifo waits\nhead -c 300M /dev/zero > data\n"),
            ("submissions/compile_error/tool/run", "#!/bin/sh\n"),
            // Its array is in no file.
            (
                "submissions/rejected/empty.c",
                "char a[300 << 20];\nint main(void) { for (int i = 0; i < 300 << 20; i++) a[i] = 1; }\n",
            ),
        ],
    );
    let (output, json) = graded(&dir, &["-j", "1"]);
    let said = stdout(&output);
    assert!(said.contains("the build made no program of at most 256 MiB") || said.contains("No space left"), "{said}");
    for submission in ["compile_error/large.c", "compile_error/tool"] {
        assert_eq!(result(&json, submission)["as_expected"], true, "{said}");
    }
    let empty = &result(&json, "rejected/empty.c")["got"]["judged"];
    assert!(empty.as_array().is_some_and(|cases| cases.iter().all(|case| case["verdict"] != "judge_error")), "{said}");
}

/// Leaves a mark where it can, and names the marks that it found.
const LEAVES: &str = "#!/bin/sh
marks=$(ls /tmp/*mark* /w/*mark* 2>/dev/null)
ps=$(ls -d /proc/[0-9]* 2>/dev/null | wc -l)
";

#[test]
fn builds_submissions_and_validators_share_nothing() {
    let leaves = |name: &str, rest: &str| {
        format!("{LEAVES}touch /tmp/mark-{name} /w/mark-{name}\nsetsid sleep 1000 >/dev/null 2>&1 &\n{rest}")
    };
    // The control: the steps of one build share a container. A program finds the mark in its own
    // directory, because that is part of what the build made.
    let build = leaves("build", "ls /tmp/mark-build && cp runs run\n");
    let runs = leaves("run", "[ \"$marks\" = /w/mark-build ] && [ $ps -lt 6 ] && read n && echo $((2 * n))\n");
    let check = leaves(
        "check",
        "[ \"$marks\" = '' ] && [ $ps -lt 6 ] && [ ! -w \"$1\" -o $(id -u) = 0 ] && exit 42; echo \"$marks $ps\" > $3/judgemessage.txt; exit 43\n",
    );
    let dir = problem(&DOUBLE);
    add(
        &dir,
        &[
            ("problem.yaml", "validation: custom\nlimits: {time_limit: 5}\n"),
            ("submissions/accepted/one/build", &build),
            ("submissions/accepted/one/runs", &runs),
            ("submissions/accepted/two/build", &build),
            ("submissions/accepted/two/runs", &runs),
            ("output_validators/check/run", &check),
        ],
    );
    let (output, json) = graded(&dir, &["-j", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert_eq!(verdicts(&json).len(), 2);

    // An interactor has a container of its own while the submission runs.
    let talks = leaves(
        "check",
        "[ \"$marks\" = '' ] && echo 21 && read n && ls /tmp/mark-run 2>/dev/null && exit 43; [ \"$n\" = 42 ] && exit 42; exit 43\n",
    );
    add(
        &dir,
        &[
            ("problem.yaml", "validation: custom interactive\nlimits: {time_limit: 5}\n"),
            ("output_validators/check/run", &talks),
        ],
    );
    let (output, _) = graded(&dir, &["-j", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}

/// A task whose test calls a solution with each of some values, and gets them back.
fn identity_task() -> String {
    let test = "
def check(candidate):
    for value in (None, True, 0, -1, 10 ** 5000, 1.5, float('inf'), 2j, '', 'ä\\ud800\\n', b'\\0', [], [1, [2]], (1,), \
            {1, 2}, frozenset('a'), {'a': [1], (2, 3): None}):
        got = candidate(value)
        assert type(got) is type(value) and got == value, value
    assert candidate(float('nan')) != 0
    assert list(candidate(n for n in (1, 2))) == [1, 2]
    assert candidate(x=7) == 7
    try:
        candidate('raise')
        assert False, 'no error'
    except ValueError as error:
        assert str(error) == 'why'
";
    json!({"task_id": "T/0", "prompt": "def same(x):\n    'Returns x.'\n", "entry_point": "same", "test": test,
           "canonical_solution": "    print('x')\n    if x == 'raise': raise ValueError('why')\n    return x\n"})
    .to_string()
}

/// Runs samples of a task. Returns the verdict of each with its message.
fn run_samples(task: &str, samples: &[&str]) -> Vec<(String, String)> {
    let dir = open_dir();
    let [tasks, file, json] = ["tasks.jsonl", "samples.jsonl", "out.json"].map(|name| dir.path().join(name));
    fs::write(&tasks, task).unwrap();
    let id = serde_json::from_str::<Value>(task).unwrap()["task_id"].clone();
    let lines: Vec<_> = samples.iter().map(|it| json!({"task_id": id, "completion": it}).to_string()).collect();
    fs::write(&file, lines.join("\n")).unwrap();
    let [tasks, file, out] = [&tasks, &file, &json].map(|path| path.to_str().unwrap());
    let output = grade(&["--humaneval", tasks, "--samples", file, "--json", out]);
    let json = read_json(&json);
    let submissions = json["submissions"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let cases = submissions.map(|it| &it["got"]["judged"][0]);
    let found: Vec<_> = cases.map(|case| (text(&case["verdict"]), text(&case["message"]))).collect();
    assert_eq!(found.len(), samples.len(), "{}", stderr(&output));
    found
}

#[test]
fn plain_values_pass_between_a_solution_and_its_checker() {
    let task = identity_task();
    let solution = serde_json::from_str::<Value>(&task).unwrap()["canonical_solution"].as_str().unwrap().to_owned();
    let found = run_samples(&task, &[&solution, "    return x\n", "    raise KeyError(x)\n", "    pass\n"]);
    let verdicts: Vec<_> = found.iter().map(|(verdict, _)| verdict.as_str()).collect();
    assert_eq!(verdicts, ["accepted", "wrong_answer", "run_time_error", "wrong_answer"], "{found:?}");
    assert!(found[1].1.contains("no error") && found[2].1.contains("KeyError"), "{found:?}");
}

/// Prints the last line of its own program, and ends.
const PRINTS_ITS_END: &str = "    import os, sys\n    print(open(sys.argv[0]).read().splitlines()[-1].split(chr(39))[1])\n    \
                              sys.stdout.flush()\n    os._exit(0)\n";

#[test]
fn a_solution_of_humaneval_passes_only_by_its_answers() {
    let prompt = "def double(n):\n    'Doubles.'\n";
    let test = "def check(candidate):\n    assert candidate(3) == 6\n    assert candidate(4) == 8\n";
    let task = json!({"task_id": "T/1", "prompt": prompt, "entry_point": "double", "test": test}).to_string();

    // The control: a word at the end of the same program can be printed without a solution.
    let dir = open_dir();
    let program = dir.path().join("task.py");
    fs::write(&program, format!("{prompt}{PRINTS_ITS_END}\n{test}\ncheck(double)\nprint('word')")).unwrap();
    let output = Command::new("/usr/bin/python3").arg(&program).output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).trim()), (Some(0), "word"));

    let attacks = [
        ("prints its end", PRINTS_ITS_END),
        ("exits with 0", "    import os\n    os._exit(0)\n"),
        ("exits with the checker's code", "    import os\n    os._exit(42)\n"),
        ("ends by an exception", "    raise SystemExit(42)\n"),
        ("equals everything", "    class Any(int):\n        def __eq__(self, other): return True\n    return Any()\n"),
        ("is no plain value", "    return object()\n"),
        ("changes the comparison", "    import builtins\n    builtins.int.__eq__ = lambda *_: True\n"),
        (
            "writes to every descriptor",
            "    import os\n    for fd in range(64):\n        try: os.write(fd, b'Ri6\\nRi8\\n' + b'N' * 99)\n        except OSError: pass\n    os._exit(42)\n",
        ),
        ("kills everything", "    import os, signal\n    os.kill(-1, signal.SIGKILL)\n    return 1\n"),
        ("nests deeply", "    x = []\n    for _ in range(100000): x = [x]\n    return x\n"),
        (
            "sends deep nesting",
            "    import os\n    for fd in range(3, 64):\n        try: os.write(fd, b'R' + b'l1\\n' * 9999)\n        except OSError: pass\n    os._exit(42)\n",
        ),
        (
            "sends a huge count",
            "    import os\n    for fd in range(3, 64):\n        try: os.write(fd, b'Rl99999999999\\n' + b'N' * 9999)\n        except OSError: pass\n    os._exit(42)\n",
        ),
        (
            "sends an exit",
            "    import os\n    for fd in range(3, 64):\n        try: os.write(fd, b'El2\\ns10\\nSystemExits2\\n42')\n        except OSError: pass\n    os._exit(42)\n",
        ),
        ("answers at length", "    return 'x' * (9 << 20)\n"),
        (
            "looks for the test",
            "    import gc\n    return next((f() for f in gc.get_objects() if getattr(f, '__name__', '') == 'check'), 1)\n",
        ),
    ];
    let found = run_samples(&task, &attacks.map(|(_, body)| body));
    for ((name, _), (verdict, message)) in attacks.iter().zip(&found) {
        assert!(!["accepted", "judge_error"].contains(&verdict.as_str()), "{name}: {verdict} {message}");
    }
    assert_eq!(run_samples(&task, &["    return n * 2\n"])[0].0, "accepted");
}

#[test]
fn a_solution_cannot_find_what_its_test_expects() {
    // It searches its container for a file or a process with the answer.
    let body = "    import glob, os
    texts = []
    for path in glob.glob('/w/*') + glob.glob('/tmp/*') + glob.glob('/proc/[0-9]*/cmdline') + glob.glob('/proc/self/fd/*'):
        try: texts.append(open(path, 'rb').read(1 << 20) if '/fd/' not in path else os.readlink(path).encode())
        except OSError: pass
    raise KeyError(sum(b'needle' + b'-17' in text for text in texts), len(texts) > 2)\n";
    let test = "def check(candidate):\n    assert candidate(3) == 'needle-17'\n";
    let task =
        json!({"task_id": "T/2", "prompt": "def f(n):\n    'f'\n", "entry_point": "f", "test": test}).to_string();
    let found = run_samples(&task, &[body]);
    assert!(found[0].1.contains("KeyError: (0, True)"), "{found:?}");
}

#[test]
fn a_folder_that_links_to_itself_is_searched_once() {
    let dir = open_dir();
    let files = DOUBLE.map(|(name, content)| (format!("package/{name}"), content));
    add(&dir, &files.each_ref().map(|(name, content)| (name.as_str(), *content)));
    add(&dir, &[("package/submissions/accepted/right.py", RIGHT)]);
    symlink(".", dir.path().join("again")).unwrap();
    // The control: the package is below the link too.
    assert!(dir.path().join("again/again/package/problem.yaml").is_file());
    let (output, json) = graded(&dir, &[]);
    assert_eq!((output.status.code(), verdicts(&json).len()), (Some(0), 1), "{}", stdout(&output));
}
