//! Set-up that lasts: what set-up commands leave is what resets restore, and every lease finds it.

use std::fs;
use std::time::{Duration, Instant};

use cellblock::{Command, Container, ContainerBuilder, ErrorKind, Limits, Mount, Pool, mount::Tmpfs};

use crate::common::{builder, is_slow, lacks, open_dir, python, says, sh};

/// Whether programs can delete a directory of a lower layer that has entries. Skips the test if
/// not.
pub(crate) async fn overlays_delete_directories() -> bool {
    let container = set_up("mkdir d; touch d/f").build().await.unwrap();
    let output = container.output(&sh("rm -r d")).await.unwrap();
    let refused = String::from_utf8_lossy(&output.stderr).contains("Input/output error");
    assert!(refused || output.report.status.success(), "{output:?}");
    if refused {
        lacks("user attributes on a tmpfs, of Linux 6.6");
    }
    !refused
}

fn set_up(script: &str) -> ContainerBuilder {
    builder().setup_command(sh(script))
}

#[tokio::test]
async fn what_set_up_leaves_is_there_after_each_reset() {
    if !overlays_delete_directories().await {
        return;
    }
    let script = "mkdir -p a/b; echo one >a/b/f; ln -s a/b/f link; ln a/b/f hard; mkfifo p; mkdir -m 700 closed; \
                  chmod 640 a/b/f; touch -d @1000000000.5 a/b/f; truncate -s 1G sparse; echo cache >/tmp/c; \
                  chmod 711 /w; touch -d @1500000000 /w /tmp";
    let container = set_up(script).build().await.unwrap();
    let look =
        sh("find /w /tmp | sort; cat a/b/f link /tmp/c; stat -c '%n %a %u %g %.9Y %h %s %b' /w /tmp a/b/f sparse; \
                   readlink link; stat -c %F p; pwd");
    let before = says(&container, &look).await;
    assert!(before.contains("/w/a/b/f\n") && before.contains("a/b/f 640 "), "{before}");
    assert!(before.contains("1000000000.500000000 2 4"), "the time, the links and the size: {before}");
    assert!(before.contains("sparse 644 ") && before.contains(" 1 1073741824 0\n"), "{before}");
    assert!(before.contains("/w 711 ") && before.contains("1500000000.000000000"), "{before}");
    let first = container.fingerprint().await.unwrap();
    let changes = [
        "echo two >a/b/f; mv link link2; rm p",
        "rm -rf /w/* /tmp/*; mkdir a; echo x >a/b; chmod 777 /w",
        "mv a/b/f a/b/g; mv a/b/g /tmp/g; mkdir -p a/b/c/d; chmod 600 hard; touch closed/x",
        "rm -rf a; ln -s /tmp a; echo x >a/x",
        ":",
        "echo x >/tmp/x",
        "truncate -s 5 sparse; echo x >>/tmp/c",
    ];
    for change in changes {
        assert_eq!(says(&container, &sh(change)).await, "", "{change}");
        if change != ":" {
            assert_ne!(container.fingerprint().await.unwrap(), first, "the control: {change}");
        }
        container.reset().await.unwrap();
        container.reset().await.unwrap();
        assert_eq!(says(&container, &look).await, before, "after {change}");
        assert_eq!(container.fingerprint().await.unwrap(), first, "after {change}");
    }
}

#[tokio::test]
async fn without_set_up_a_reset_removes_the_same_files() {
    let container = builder().build().await.unwrap();
    says(&container, &sh("echo one >f; echo cache >/tmp/c")).await;
    container.reset().await.unwrap();
    assert_eq!(says(&container, &sh("ls -A /w /tmp")).await, "/tmp:\n\n/w:");
}

#[tokio::test]
async fn set_up_commands_run_in_order_and_under_their_limits() {
    let container = set_up("echo one >f").setup_command(sh("cat f >g; echo two >>g")).build().await.unwrap();
    container.reset().await.unwrap();
    assert_eq!(says(&container, &sh("cat g")).await, "one\ntwo");

    let error = set_up("echo one; exit 3").setup_command(sh("touch /w/never")).build().await.unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Build, Some("set_up")), "{error}");
    assert!(error.to_string().contains("one"), "{error}");
    let mut endless = sh("sleep 60");
    endless.limits(Limits::new().wall_time(Duration::from_millis(200)));
    let error = builder().setup_command(endless).build().await.unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Build, Some("set_up")), "{error}");
}

#[tokio::test]
async fn every_lease_of_a_pool_finds_a_virtual_environment_with_an_installed_package() {
    if !overlays_delete_directories().await {
        return;
    }
    // Without a network: the package is made by hand.
    let script = "python3 -m venv --without-pip venv && \
                  printf 'def answer():\\n    return 42\\n' >$(echo venv/lib/python3*/site-packages)/package.py && \
                  venv/bin/python3 -m compileall -q venv/lib/python3*/site-packages";
    let pool = Pool::builder(set_up(script)).size(2).build().await.unwrap();
    let mut program = Command::new("venv/bin/python3");
    program.args(["-c", "import package, sys; print(package.answer(), sys.prefix)"]);
    for _ in 0..6 {
        let lease = pool.lease().await.unwrap();
        assert_eq!(says(&lease, &program).await, "42 /w/venv");
        says(&lease, &sh("rm -r venv; touch mess")).await;
    }
    pool.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn every_lease_of_a_pool_finds_a_compiled_program() {
    let source = "int printf(const char *, ...); int main(void) { printf(\"%d\\\\n\", 6 * 7); }";
    let script = format!("echo '{source}' >main.c && gcc -o main main.c && rm main.c");
    let pool = Pool::builder(set_up(&script)).size(1).build().await.unwrap();
    for _ in 0..4 {
        let lease = pool.lease().await.unwrap();
        assert_eq!(says(&lease, &Command::new("./main")).await, "42");
        assert_eq!(says(&lease, &sh("ls; echo x >main; rm main")).await, "main");
    }
    pool.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_host_opens_deletes_and_links_files_of_a_baseline() {
    let container = set_up("echo one >f; ln -s f link; mkdir d").build().await.unwrap();
    for _ in 0..2 {
        assert_eq!(container.read("f", 100).await.unwrap(), b"one\n");
        assert_eq!(container.read("link", 100).await.unwrap_err().raw_os_error(), Some(libc::ELOOP));
        container.write("f", "mine").await.unwrap();
        container.delete("link").await.unwrap();
        container.delete("d").await.unwrap();
        assert!(container.symlink([("f", "link")]).await.unwrap()[0].is_ok());
        assert_eq!(says(&container, &sh("cat link; ls")).await, "minef\nlink");
        container.reset().await.unwrap();
        assert_eq!(says(&container, &sh("cat link; ls")).await, "one\nd\nf\nlink");
    }
}

#[tokio::test]
async fn mounts_below_a_frozen_tmpfs_survive() {
    let host = open_dir();
    fs::write(host.path().join("f"), "bound").unwrap();
    let tree = open_dir();
    fs::write(tree.path().join("f"), "tree").unwrap();
    let container = builder()
        .mount(Mount::bind(host.path(), "/w/bound"))
        .mount(Mount::bind(host.path(), "/w/deep/er/bound"))
        .mount(Mount::tmpfs("/w/inner", Tmpfs::new()))
        .mount(Mount::overlay([tree.path()], "/tree", Tmpfs::new()))
        .symlink("f", "/w/link")
        .work_dir("/w/work/dir")
        .setup_command(sh("cd /w; echo one >f; echo two >inner/f; echo three >/tree/f; mkdir x; mv deep gone; rm link"))
        .build()
        .await
        .unwrap();
    let look = sh("pwd; cd /w; cat f inner/f /tree/f bound/f deep/er/bound/f; ls gone/er/bound; ls");
    let expected = "/w/work/dir\none\ntwo\nthree\nboundboundbound\ndeep\nf\ngone\ninner\nwork\nx";
    assert_eq!(says(&container, &look).await, expected);
    for change in ["cd /w; rm -rf f x inner/f /tree/f; mv deep away; mkdir -p deep/er/bound", "touch /w/inner/x", ":"] {
        container.run(&sh(change)).await.unwrap();
        container.reset().await.unwrap();
        assert_eq!(says(&container, &look).await, expected, "after {change}");
    }
    assert_eq!(fs::read(tree.path().join("f")).unwrap(), b"tree");
}

#[tokio::test]
async fn a_directory_in_the_way_of_a_mount_does_not_come_back() {
    let host = open_dir();
    fs::write(host.path().join("f"), "bound").unwrap();
    let container = builder().mount(Mount::bind(host.path(), "/w/deep/er/bound")).build().await.unwrap();
    let attack = "mv deep gone && mkdir -p deep/er/bound && echo secret >deep/er/bound/f && cat deep/er/bound/f";
    for _ in 0..2 {
        assert_eq!(says(&container, &sh(attack)).await, "secret", "the control: the program sees its own");
        container.reset().await.unwrap();
        assert_eq!(says(&container, &sh("cat deep/er/bound/f; ls")).await, "bounddeep");
    }
    let attack = "mv deep gone && ln -s /tmp deep && mkdir -p /tmp/er/bound && echo secret >/tmp/er/bound/f";
    says(&container, &sh(attack)).await;
    container.reset().await.unwrap();
    assert_eq!(says(&container, &sh("cat deep/er/bound/f; ls /tmp")).await, "bound");
}

#[tokio::test]
async fn set_up_may_put_a_link_where_the_working_directory_was() {
    let hostile = "cd /; mv /w/a /w/b; ln -s /tmp /w/a; touch /tmp/mine";
    let container = set_up(hostile).work_dir("/w/a").build().await;
    // The working directory is never reached over a link.
    let error = container.unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Build, Some("make_directory")), "{error}");
}

#[tokio::test]
async fn system_v_objects_of_set_up_do_not_stay() {
    let make = python("import ctypes; print(ctypes.CDLL(None).shmget(77, 4096, 0o1600) >= 0)");
    let find = python("import ctypes; print(ctypes.CDLL(None).shmget(77, 4096, 0) >= 0)");
    let container = builder().setup_command(make.clone()).build().await.unwrap();
    assert_eq!(says(&container, &find).await, "False");
    assert_eq!(container.fingerprint().await.unwrap().ipc, [0; 3]);
    says(&container, &make).await;
    assert_eq!(says(&container, &find).await, "True", "the control");
}

#[tokio::test]
async fn the_room_of_a_tmpfs_is_the_same_after_set_up() {
    let small = Tmpfs::new().bytes(1 << 20).inodes(12);
    let container = set_up("head -c 900K /dev/zero >big").mount(Mount::tmpfs("/w", small)).build().await.unwrap();
    // The baseline does not count.
    let fill = "head -c 900K /dev/zero >more && for i in 1 2 3 4 5 6 7 8; do touch $i || exit; done; ls | wc -l";
    for _ in 0..3 {
        assert_eq!(says(&container, &sh(fill)).await, "10");
        assert!(!container.run(&sh("head -c 2M /dev/zero >more")).await.unwrap().status.success());
        container.reset().await.unwrap();
    }
}

#[tokio::test]
async fn the_memory_of_a_baseline_counts_for_no_later_run() {
    let limits = || Limits::new().memory(64 << 20);
    let mut fill = sh("head -c 40M /dev/zero >baseline");
    fill.limits(limits());
    let container = match builder().setup_command(fill).build().await {
        Err(error) if error.kind() == ErrorKind::Unsupported => return lacks("control groups"),
        built => built.unwrap(),
    };
    let mut more = sh("head -c 40M /dev/zero >more && wc -c <baseline");
    more.limits(limits());
    for _ in 0..3 {
        assert_eq!(says(&container, &more).await, (40 << 20).to_string());
        container.reset().await.unwrap();
    }
    // The control: without a reset both files count.
    assert_eq!(says(&container, &more).await, (40 << 20).to_string());
    more = sh("head -c 40M /dev/zero >again");
    more.limits(limits());
    assert!(!container.run(&more).await.is_ok_and(|report| report.status.success()));
}

#[tokio::test]
async fn a_renamed_directory_of_a_baseline_is_copied() {
    let container = set_up("mkdir d; echo one >d/f").build().await.unwrap();
    let rename = python("import os\ntry: os.rename('d', 'e')\nexcept OSError as e: print(e.errno)");
    assert_eq!(says(&container, &rename).await, libc::EXDEV.to_string());
    assert_eq!(says(&container, &sh("mkdir new; mv new newer; ls")).await, "d\nnewer");
    if overlays_delete_directories().await {
        assert_eq!(says(&container, &sh("mv d e; cat e/f; ls")).await, "one\ne\nnewer");
    }
}

/// A bound of time, so it holds only on a machine that is not emulated.
#[tokio::test]
async fn a_reset_onto_a_thousand_files_takes_at_most_twice_as_long_as_one_without() {
    let files = "for i in $(seq 1000); do echo $i >$i; done";
    let with = set_up(files).build().await.unwrap();
    let without = set_up(":").build().await.unwrap();
    let median = async |container: &Container| {
        let mut times = Vec::new();
        for _ in 0..41 {
            assert!(container.run(&sh("echo x >new; echo x >/tmp/new")).await.unwrap().status.success());
            let start = Instant::now();
            container.reset().await.unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        times[20]
    };
    let mut figures = Vec::new();
    for _ in 0..5 {
        let (plain, baseline) = (median(&without).await, median(&with).await);
        figures.push((plain, baseline));
        if is_slow() || baseline < plain * 2 {
            println!("a reset: {plain:?}, onto 1000 files: {baseline:?}");
            return;
        }
    }
    panic!("a reset and one onto 1000 files: {figures:?}");
}
