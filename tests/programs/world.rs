//! Ordinary programs of many languages, with what they usually need, in a container with the
//! default settings.

use std::fs::File;
use std::path::Path;

use cellblock::{Command, Container, Limits, Mount, mount::Machine};

use crate::common::{SECOND, builder, container, has_own_ids, lacks, python, says, sh, skip};

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Whether these programs are on this machine, where containers find them.
fn has(tools: &[&str]) -> bool {
    let is_there = |tool: &&str| PATH.split(':').any(|dir| Path::new(dir).join(tool).exists());
    let missing: Vec<_> = tools.iter().copied().filter(|tool| !is_there(tool)).collect();
    if !missing.is_empty() {
        lacks(&missing.join(", "));
    }
    missing.is_empty()
}

/// A program by its name, with time for a loaded machine.
fn tool(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command
        .args(args)
        .env("PATH", PATH)
        .limits(Limits::new().wall_time(120 * SECOND).cpu_time(60 * SECOND).allow_weaker(true));
    command
}

async fn container_with(files: &[(&str, &str)]) -> Container {
    let container = container().await;
    for (name, content) in files {
        container.write(*name, content.as_bytes()).await.unwrap();
    }
    container
}

/// Runs programs one after the other. Each is a line of words and what it says.
async fn all_say(container: &Container, programs: &[(&[&str], &str)]) {
    for (words, expected) in programs {
        assert_eq!(says(container, &tool(words[0], &words[1..])).await, *expected, "{words:?}");
    }
}

/// The name of the program's user inside.
fn user() -> &'static str {
    if has_own_ids() { "program" } else { "root" }
}

#[tokio::test]
async fn users_and_hosts_have_names() {
    let container = container().await;
    let (user, id) = (user(), if has_own_ids() { 1000 } else { 0 });
    for (script, expected) in [
        ("whoami; id -un; id -gn; id -u", format!("{user}\n{user}\n{user}\n{id}")),
        ("cd ~ && pwd; echo $HOME; touch ~/f; stat -c '%U %G' ~/f", format!("/w\n/w\n{user} {user}")),
        ("getent passwd $(id -u)", format!("{user}:x:{id}:{id}:{user}:/w:/bin/sh")),
        // Files of the host belong to an id that the container does not have.
        ("stat -c '%U %G' /usr", "nobody nogroup".to_owned()),
        ("getent hosts 127.0.0.1", "127.0.0.1       localhost cellblock".to_owned()),
        ("getent ahosts nonesuch.example; echo $?", "2".to_owned()),
    ] {
        assert_eq!(says(&container, &sh(script)).await, expected, "{script}");
    }
    let ask = "import getpass, os, pwd, socket
print(getpass.getuser(), os.path.expanduser('~'), pwd.getpwuid(os.getuid()).pw_dir)
print(socket.gethostbyname('localhost'), socket.gethostbyname(socket.gethostname()))";
    assert_eq!(says(&container, &python(ask)).await, format!("{user} /w /w\n127.0.0.1 127.0.0.1"));
    let other = builder().work_dir("/tmp/home").hostname("judge").build().await.unwrap();
    assert_eq!(says(&other, &python(ask)).await, format!("{user} /tmp/home /tmp/home\n127.0.0.1 127.0.0.1"));
}

#[tokio::test]
async fn a_server_on_localhost_can_be_reached_where_the_loopback_is_up() {
    let container = builder().loopback(true).build().await.unwrap();
    let serve = "import http.server, threading, urllib.request
server = http.server.ThreadingHTTPServer(('localhost', 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
open('f', 'w').write('served')
server.RequestHandlerClass.log_message = lambda *_: None
print(urllib.request.urlopen(f'http://localhost:{server.server_port}/f').read().decode())";
    assert_eq!(says(&container, &python(serve)).await, "served");
}

#[tokio::test]
async fn proc_describes_a_machine() {
    let container = container().await;
    let cpus = std::thread::available_parallelism().unwrap();
    for (script, expected) in [
        ("nproc", format!("{cpus}")),
        ("grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat", format!("{cpus}\n{cpus}")),
        (
            "grep -E '^Mem(Total|Available)' /proc/meminfo | tr -s ' '",
            "MemTotal: 4194304 kB\nMemAvailable: 4194304 kB".into(),
        ),
        (
            "uname -r | cmp - /proc/sys/kernel/osrelease && grep -c \"^Linux version $(uname -r) \" /proc/version",
            "1".into(),
        ),
        ("sort -u /proc/sys/kernel/random/uuid /proc/sys/kernel/random/uuid | wc -l", "2".into()),
        ("grep -c ' /w ' /proc/mounts; grep -c lo: /proc/net/dev", "1\n1".into()),
        ("cat /proc/$$/comm /proc/self/comm", "sh\ncat".into()),
    ] {
        assert_eq!(says(&container, &sh(script)).await, expected, "{script}");
    }
    let other = builder().mount(Mount::proc_with("/proc", Machine::new().memory(16 << 30))).build().await.unwrap();
    assert_eq!(says(&other, &sh("head -1 /proc/meminfo | tr -s ' '")).await, "MemTotal: 16777216 kB");
    let bare = builder().mount(Mount::proc("/proc")).build().await.unwrap();
    assert_eq!(says(&bare, &sh("cat /proc/meminfo 2>/dev/null || echo none")).await, "none");
    // As a mount of the container's own, which a reset renews.
    let inner = builder().mount(Mount::proc_with("/w/proc", Machine::new())).build().await.unwrap();
    for _ in 0..2 {
        assert_eq!(
            says(&inner, &sh("head -1 proc/meminfo | tr -s ' '; cat proc/self/comm")).await,
            "MemTotal: 4194304 kB\ncat"
        );
        says(&inner, &sh("touch f")).await;
        inner.reset().await.unwrap();
    }
}

#[tokio::test]
async fn processes_and_memory_can_be_listed() {
    if !has(&["ps", "free", "uptime", "pgrep"]) {
        return;
    }
    let container = container().await;
    for (script, expected) in [
        ("free -m | grep Mem | tr -s ' '", "Mem: 4096 0 4096 0 0 4096"),
        ("uptime | grep -o 'load average.*'", "load average: 0.00, 0.00, 0.00"),
        ("sleep 60 & ps -o comm= -p $!; pgrep -c sleep; kill $!", "sleep\n1"),
        ("ps -eo comm= | sort | uniq | tr '\\n' ' '; ps aux | wc -l", "ps sh sort tr uniq 4"),
    ] {
        let said = says(&container, &sh(script)).await;
        // A pipe's other programs may not have started.
        let is_listing = script.starts_with("ps");
        assert!(said == expected || is_listing && said.starts_with("ps sh "), "{script}: {said}");
    }
}

#[tokio::test]
async fn files_can_be_added_to_the_world() {
    let container = builder()
        .mount(Mount::file("/etc/machine-id", "cells\n"))
        .mount(Mount::file("/w/a/config", b"mine".to_vec()))
        .mount(Mount::file("/etc/passwd", "other:x:0:0::/:\n"))
        .build()
        .await
        .unwrap();
    let look = sh("cat /etc/machine-id a/config /etc/passwd; ls -n a/config | cut -d' ' -f1,3");
    let id = if has_own_ids() { 1000 } else { 0 };
    let expected = format!("cells\nmineother:x:0:0::/:\n-rw-r--r-- {id}");
    assert_eq!(says(&container, &look).await, expected);
    assert!(!container.run(&sh("echo x >/etc/machine-id")).await.unwrap().status.success());
    says(&container, &sh("echo x > a/config; rm -r a; mkdir a; ln -s / a/config")).await;
    container.reset().await.unwrap();
    assert_eq!(says(&container, &look).await, expected);

    let error = builder().mount(Mount::file("/usr/new", "x")).build().await.unwrap_err();
    assert_eq!((error.step(), error.raw_os_error()), (Some("write"), Some(libc::EROFS)), "{error}");
    let host = crate::common::open_dir();
    let bind = Mount::bind_writable(host.path(), "/data");
    let error = builder().mount(bind).mount(Mount::file("/data/f", "x")).build().await.unwrap_err();
    assert_eq!(error.kind(), cellblock::ErrorKind::InvalidInput, "{error}");
    assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 0);
    let error = builder().mount(Mount::file("/big", vec![0; 2 << 20])).build().await.unwrap_err();
    assert_eq!((error.step(), error.raw_os_error()), (Some("write"), Some(libc::ENOSPC)), "{error}");
}

#[tokio::test]
async fn shared_memory_is_limited_and_reset() {
    let container = container().await;
    let make = python(
        "from multiprocessing import shared_memory as s, resource_tracker as r
m = s.SharedMemory('left', True, 100); r.unregister(m._name, 'shared_memory')",
    );
    says(&container, &make).await;
    assert_eq!(says(&container, &sh("ls /dev/shm; stat -c %a /dev/shm")).await, "left\n1777");
    container.reset().await.unwrap();
    assert_eq!(says(&container, &sh("ls /dev/shm; stat -c %a /dev/shm")).await, "1777");
    let mut fill = sh("head -c 100000000 /dev/zero > /dev/shm/f 2>/dev/null; stat -c %s /dev/shm/f");
    fill.limits(Limits::new().memory(256 << 20).allow_weaker(true));
    assert_eq!(says(&container, &fill).await, (64 << 20).to_string());
    fill.limits(Limits::new().memory(16 << 20).allow_weaker(true));
    container.reset().await.unwrap();
    let report = container.run(&fill).await.unwrap();
    if report.sources.memory_peak == cellblock::report::Source::Wait4 {
        return skip("without control groups the memory of a tmpfs is not charged");
    }
    assert_eq!(report.verdict(), cellblock::Verdict::Memory, "{report:?}");
}

#[tokio::test]
async fn shell_and_common_tools() {
    if !has(&["bash", "git", "make", "tar", "openssl", "awk", "xargs"]) {
        return;
    }
    let container = container_with(&[
        ("Makefile", "all: a b\n\t@cat a b\na b:\n\t@echo $@ > $@\n"),
        ("script", "set -euo pipefail\ndeclare -A map=([x]=1)\ndiff <(echo a) <(echo a)\nread -r it <<<here; echo \"$it ${map[x]}\"\n"),
    ])
    .await;
    all_say(
        &container,
        &[
            (&["bash", "script"], "here 1"),
            (&["make", "-j2", "-s"], "a\nb"),
            (&["bash", "-c", "f=$(mktemp) d=$(mktemp -d); echo x > $f; mv $f $d/f; cat $d/f"], "x"),
            (
                &[
                    "bash",
                    "-c",
                    "git config --global user.name me; git config --global user.email me@cell; git init -q r
            cd r; echo x > f; git add f; git commit -qm first; git log --format='%an %s'",
                ],
                "me first",
            ),
            (&["bash", "-c", "mkdir t; seq 9 > t/n; tar czf t.tgz t; rm -r t; tar xzf t.tgz; cat t/n | wc -l"], "9"),
            (&["bash", "-c", "seq 300000 | shuf | sort -n -S 1M -T /tmp --parallel=2 | tail -1"], "300000"),
            (&["bash", "-c", "seq 8 | xargs -P 4 -n 1 sh -c 'echo $0' | sort | tr -d '\\n'"], "12345678"),
            (&["bash", "-c", "locale -a | grep -ci '^c.utf'; LC_ALL=C.UTF-8 locale charmap"], "1\nUTF-8"),
            (&["bash", "-c", "TZ=Asia/Tokyo date -d @0 +%H; date -ud @0 +%Y"], "09\n1970"),
            (&["bash", "-c", "tty; test $? = 1; timeout 1 sleep 9; echo $?"], "not a tty\n124"),
            (&["awk", "BEGIN { \"whoami\" | getline u; print(6 * 7, u) > \"said\" }"], ""),
            (
                &[
                    "bash",
                    "-c",
                    "openssl req -x509 -newkey rsa:2048 -nodes -keyout k -out c -subj /CN=cell 2>/dev/null
            openssl verify -CAfile c c; grep -c BEGIN /etc/ssl/certs/ca-certificates.crt | grep -c ..",
                ],
                "c: OK\n1",
            ),
        ],
    )
    .await;
    assert_eq!(says(&container, &sh("cat said")).await, format!("42 {}", user()));
}

#[tokio::test]
async fn c() {
    if !has(&["gcc"]) {
        return;
    }
    let container = container_with(&[("c.c", include_str!("world/c.c"))]).await;
    all_say(
        &container,
        &[
            (&["gcc", "-O1", "-pthread", "-o", "c", "c.c"], ""),
            (&["./c"], "semaphore\nshared memory\nthreads\nhome /w\naddress 127.0.0.1\ntemporary file\nchild"),
        ],
    )
    .await;
}

#[tokio::test]
async fn cpp() {
    if !has(&["g++"]) {
        return;
    }
    let container = container_with(&[("c.cpp", include_str!("world/cpp.cpp"))]).await;
    all_say(
        &container,
        &[
            (&["g++", "-std=c++17", "-O1", "-pthread", "-o", "c", "c.cpp"], ""),
            (&["./c"], "async 42\ntemporary directory /tmp\nlocale C.UTF-8\nrandom\nsorted"),
        ],
    )
    .await;
}

/// A program of Rust's standard library: the part of this executable that is
/// [`the_program_of_rust`].
#[tokio::test]
async fn rust() {
    let own = File::open(std::env::current_exe().unwrap()).unwrap();
    let mut command = Command::from_fd("rust", own);
    command.args(["--exact", "world::the_program_of_rust", "--nocapture"]).env("CELLBLOCK_TEST_ROLE", "rust");
    let said = says(&container().await, &command).await;
    assert!(said.contains("rust: 2 threads, /w, 127.0.0.1, /tmp, whoami"), "{said}");
}

/// Not a test: see [`rust`].
#[test]
fn the_program_of_rust() {
    if std::env::var("CELLBLOCK_TEST_ROLE").as_deref() != Ok("rust") {
        return;
    }
    let threads: Vec<_> = (0..2).map(|number| std::thread::spawn(move || number)).collect();
    let threads = threads.into_iter().map(|thread| thread.join().unwrap()).collect::<std::collections::HashSet<_>>();
    assert!(std::thread::available_parallelism().unwrap().get() > 0);
    let address =
        std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 80)).unwrap().find(|it| it.is_ipv4()).unwrap();
    let home = std::env::var("HOME").unwrap();
    std::fs::write(std::env::temp_dir().join("f"), "x").unwrap();
    let child = std::process::Command::new("/usr/bin/whoami").output().unwrap();
    assert!(child.status.success());
    println!("rust: {} threads, {home}, {}, {}, whoami", threads.len(), address.ip(), std::env::temp_dir().display());
}

#[tokio::test]
async fn python_and_its_library() {
    let container = container_with(&[("p.py", include_str!("world/python.py"))]).await;
    let said = says(&container, &tool("/usr/bin/python3", &["p.py"])).await;
    assert_eq!(
        said,
        "pool [0, 1, 4, 9]\nexecutor 6\nmanager [1]\nshared b'x'\nasyncio 7\nsqlite 3\ncertificates True\n\
        subprocess 5\nthreads 10\ntime zone 9:00:00\ntemporary /tmp\nnumpy ok\nvenv ok"
    );
}

#[tokio::test]
async fn java() {
    if !has(&["java", "javac"]) {
        return;
    }
    let container = container_with(&[("Main.java", include_str!("world/Main.java"))]).await;
    let said =
        format!("threads 45\nuser {} /w\naddress 127.0.0.1\ntemporary /tmp\ntls true\nzone +09:00\nchild 5", user());
    all_say(&container, &[(&["javac", "-J-Xmx256m", "Main.java"], ""), (&["java", "-Xmx256m", "Main"], &said)]).await;
}

#[tokio::test]
async fn javascript() {
    if !has(&["node"]) {
        return;
    }
    let container = container_with(&[("n.js", include_str!("world/node.js"))]).await;
    let said = format!(
        "cpus true\nmemory 4294967296 4294967296\nuser {} /w\nload 0,0,0\naddress 127.0.0.1\nfile x\nchild 5\nworker 42",
        user()
    );
    all_say(&container, &[(&["node", "n.js"], &said)]).await;
}

#[tokio::test]
async fn perl() {
    if !has(&["perl"]) {
        return;
    }
    let script = "use File::Temp qw(tempfile); use Sys::Hostname; use Socket; use POSIX;
        my ($f, $n) = tempfile(); print $f 'x'; close $f; print -s $n, ' ', hostname, ' ', (getpwuid($<))[7], ' ',
        inet_ntoa(inet_aton('localhost')), ' ', `echo child`";
    all_say(&container().await, &[(&["perl", "-e", script], "1 cellblock /w 127.0.0.1 child")]).await;
}

#[tokio::test]
async fn ruby() {
    if !has(&["ruby"]) {
        return;
    }
    let script = "require 'etc'; require 'tempfile'; require 'socket'; require 'openssl'; require 'json'
        t = 3.times.map { |i| Thread.new { i } }.map(&:value).sum
        r, w = IO.pipe; fork { w.write 'child' }; Process.wait; w.close
        store = OpenSSL::X509::Store.new; store.set_default_paths
        puts [t, Etc.getpwuid.dir, Dir.home, Etc.nprocessors > 0, Tempfile.create.path.start_with?('/tmp/'),
          Addrinfo.getaddrinfo('localhost', nil, :INET)[0].ip_address, r.read].to_json";
    let said = r#"[3,"/w","/w",true,true,"127.0.0.1","child"]"#;
    all_say(&container().await, &[(&["ruby", "-e", script], said)]).await;
}

#[tokio::test]
async fn php() {
    if !has(&["php"]) {
        return;
    }
    let script = "file_put_contents($f = tempnam(sys_get_temp_dir(), 'x'), 'abc');
        echo json_encode([filesize($f), dirname($f), getenv('HOME'), gethostbyname('localhost'), gethostname(),
          posix_getpwuid(posix_getuid())['dir'], trim(shell_exec('echo child')), date_create('@0')->format('Y'),
          count(openssl_get_cert_locations()) > 0, strlen(random_bytes(4))]);";
    let said = r#"[3,"\/tmp","\/w","127.0.0.1","cellblock","\/w","child","1970",true,4]"#;
    all_say(&container().await, &[(&["php", "-r", script], said)]).await;
}

#[tokio::test]
async fn lua() {
    if !has(&["lua5.4"]) {
        return;
    }
    let script = "local f = io.tmpfile(); f:write('abc'); local n = os.tmpname(); local p = io.popen('echo child')
        print(f:seek(), n:match('^/tmp/') ~= nil, os.getenv('HOME'), p:read('l'), os.setlocale('C.UTF-8'), os.date('!%Y', 0))";
    all_say(&container().await, &[(&["lua5.4", "-e", script], "3\ttrue\t/w\tchild\tC.UTF-8\t1970")]).await;
}
