// Attacks on the surroundings of a program: attack WHAT [TARGET]. Each attempt prints a line with
// its name and "works" or the name of the errno. A target is a pid, or "child": a new child that
// waits, for a control.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static void tell(const char *what, long result) {
    printf("%s %s\n", what, result >= 0 ? "works" : strerrorname_np(errno));
    fflush(stdout);
}

static pid_t waiting_child(void) {
    pid_t child = fork();
    if (child == 0)
        for (;;) pause();
    return child;
}

static pid_t control;

static void end_control(void) {
    kill(control, SIGKILL);
}

static pid_t target(const char *name) {
    if (strcmp(name, "child") != 0) return atoi(name);
    control = waiting_child();
    atexit(end_control);
    return control;
}

// What the kernel shows of a process only to processes that may trace it.
static void look(pid_t pid) {
    static const char *const files[] = {"mem", "environ", "auxv", "maps", "fd", "ns/user", "map_files", "io", "stack"};
    char path[64];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, files[i]);
        char byte;
        int fd = open(path, O_RDONLY);
        int is_directory = fd >= 0 && read(fd, &byte, 1) < 0 && errno == EISDIR;
        // Address 0 is never mapped, so a read of an open file fails with EIO.
        tell(files[i], fd >= 0 && (is_directory || pread(fd, &byte, 1, 0) >= 0 || errno == EIO || errno == EINVAL) ? 0 : -1);
    }
    static const char *const links[] = {"exe", "root", "cwd"};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, links[i]);
        tell(links[i], open(path, O_PATH));
    }
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    tell("mem to write", open(path, O_RDWR));
    tell("ptrace", ptrace(PTRACE_SEIZE, pid, 0, 0));
    char byte;
    struct iovec here = {&byte, 1}, there = {&byte, 1};
    tell("process_vm_readv", syscall(SYS_process_vm_readv, pid, &here, 1, &there, 1, 0));
    int pidfd = syscall(SYS_pidfd_open, pid, 0);
    tell("pidfd_getfd", syscall(SYS_pidfd_getfd, pidfd, 0, 0));
    tell("setns", setns(pidfd, CLONE_NEWUTS));
}

// What a process of the same user may change about a process.
static void slow(pid_t pid) {
    struct rlimit few = {8, 8};
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    struct sched_param none = {0};
    struct { unsigned size, policy; unsigned long long flags; int nice; unsigned priority; unsigned long long times[3]; }
        batch = {48, SCHED_BATCH, 0, 5, 0, {0}};
    const int idle_io = 3 << 13;
    tell("nice", setpriority(PRIO_PROCESS, pid, 5));
    tell("nice of its group", setpriority(PRIO_PGRP, pid == 1 ? 1 : 0, 6));
    tell("sched_setattr", syscall(SYS_sched_setattr, pid, &batch, 0));
    tell("scheduler", sched_setscheduler(pid, SCHED_IDLE, &none));
    tell("affinity", sched_setaffinity(pid, sizeof first, &first));
    tell("ioprio", syscall(SYS_ioprio_set, 1, pid, idle_io));
    tell("ioprio of its group", syscall(SYS_ioprio_set, 2, pid == 1 ? 1 : 0, idle_io));
    tell("open files", prlimit(pid, RLIMIT_NOFILE, &few, NULL));
    tell("processes", prlimit(pid, RLIMIT_NPROC, &few, NULL));
    tell("processor time", prlimit(pid, RLIMIT_CPU, &few, NULL));
    tell("address space", prlimit(pid, RLIMIT_AS, &few, NULL));
    static const char *const files[] = {"oom_score_adj", "coredump_filter", "timerslack_ns", "autogroup", "comm"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/%s", pid, files[i]);
        int fd = open(path, O_WRONLY);
        tell(files[i], fd < 0 ? -1 : write(fd, "7", 1));
    }
}

static void signals(pid_t pid) {
    siginfo_t info = {.si_code = SI_QUEUE};
    int pidfd = syscall(SYS_pidfd_open, pid, 0), owned[2];
    if (pipe(owned) < 0) exit(9);
    for (int number = 1; number <= SIGRTMAX; number++) {
        kill(pid, number);
        syscall(SYS_tgkill, pid, pid, number);
        syscall(SYS_tkill, pid, number);
        info.si_signo = number;
        syscall(SYS_rt_sigqueueinfo, pid, number, &info);
        syscall(SYS_rt_tgsigqueueinfo, pid, pid, number, &info);
        syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0);
        fcntl(owned[0], F_SETOWN, pid);
        fcntl(owned[0], F_SETSIG, number);
        fcntl(owned[0], F_SETFL, O_ASYNC);
        if (write(owned[1], "", 1) < 0) exit(9);
    }
    siginfo_t end;
    tell("signals", waitid(P_PID, pid, &end, WEXITED));
}

static int heard;

static void hear(int signal) {
    heard++;
}

// Wakes a process again and again with what looks like news of its children.
static void wake(const char *how, pid_t pid) {
    siginfo_t info = {.si_signo = SIGCHLD, .si_code = SI_QUEUE};
    int pidfd = syscall(SYS_pidfd_open, pid, 0), owned[2];
    if (pipe(owned) < 0) exit(9);
    fcntl(owned[0], F_SETOWN, pid);
    fcntl(owned[0], F_SETSIG, SIGCHLD);
    fcntl(owned[0], F_SETFL, O_ASYNC);
    pid_t sibling = 0;
#define IS(name) (strcmp(how, name) == 0)
    // A child of the init, and for the control a child of this process.
    if (IS("stop") && (sibling = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0)) == 0)
        for (;;) pause();
    if (IS("stop of a child")) signal(SIGCHLD, hear), sibling = control = waiting_child();
    for (int times = 0; times < 20000; times++) {
        if (IS("kill")) kill(pid, SIGCHLD);
        if (IS("tkill")) syscall(SYS_tkill, pid, SIGCHLD);
        if (IS("tgkill")) syscall(SYS_tgkill, pid, pid, SIGCHLD);
        if (IS("rt_sigqueueinfo")) syscall(SYS_rt_sigqueueinfo, pid, SIGCHLD, &info);
        if (IS("rt_tgsigqueueinfo")) syscall(SYS_rt_tgsigqueueinfo, pid, pid, SIGCHLD, &info);
        if (IS("pidfd_send_signal")) syscall(SYS_pidfd_send_signal, pidfd, SIGCHLD, NULL, 0);
        if (IS("F_SETSIG")) if (write(owned[1], "", 1) < 0 || read(owned[0], &info, 1) < 0) exit(9);
        if (sibling) kill(sibling, SIGSTOP), kill(sibling, SIGCONT);
        // Gives the target time to run.
        if (times % 100 == 0) usleep(200);
    }
    if (control) kill(control, SIGKILL), printf("%d\n", heard);
#undef IS
    exit(0);
}

static void *spin(void *unused) {
    for (;;);
}

static void *execute(void *unused) {
    execl("/bin/echo", "echo", "from a thread", NULL);
    exit(9);
}

// A process that shares its memory with its child, and that exits once it has one.
enum { CHAINS = 200, STACKS = 16, STACK = 8192 };
static _Alignas(16) char stacks[CHAINS * STACKS][STACK];

static int orphan(void *number) {
    long own = (long)number, next = own - own % STACKS + (own + 1) % STACKS;
    while (clone(orphan, stacks[next] + STACK, CLONE_VM | SIGCHLD, (void *)next) < 0);
    return 0;
}

// Ways to resist an end. Each prints "ready" first.
static void hang(const char *how) {
    pthread_t thread;
#define IS(name) (strcmp(how, name) == 0)
    setvbuf(stdout, NULL, _IONBF, 0);
    if (IS("leader")) { // exits, and another thread goes on
        pthread_create(&thread, NULL, spin, NULL);
        puts("ready");
        syscall(SYS_exit, 0);
    }
    if (IS("stop")) puts("ready"), raise(SIGSTOP);
    if (IS("stopped children")) {
        for (int i = 0; i < 20; i++) kill(waiting_child(), SIGSTOP);
        puts("ready");
        for (;;) pause();
    }
    if (IS("deaf")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        puts("ready");
        for (;;) sleep(1);
    }
    if (IS("traced")) { // by its own child, which then stops
        pid_t own = getpid();
        int told[2];
        if (pipe(told) < 0) exit(9);
        if (fork() == 0) {
            ptrace(PTRACE_SEIZE, own, 0, PTRACE_O_TRACEEXIT);
            puts("ready");
            if (write(told[1], "", 1) < 0) exit(9);
            raise(SIGSTOP);
        }
        char byte;
        if (read(told[0], &byte, 1) < 0) exit(9);
        _exit(0);
    }
    if (IS("zombies")) { // whose tracer is stopped
        for (int i = 0; i < 20; i++) {
            pid_t child = waiting_child();
            ptrace(PTRACE_SEIZE, child, 0, 0);
            kill(child, SIGKILL);
        }
        puts("ready");
        raise(SIGSTOP);
    }
    if (IS("vfork")) { // whose child never executes, so the parent is blocked
        puts("ready");
        if (vfork() == 0)
            for (;;) pause();
    }
    if (IS("traced by the init")) { // its parent, which does not want that and hears of the stop
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        puts("ready");
        raise(SIGUSR1);
    }
    if (IS("debt")) { // of CPU time: one process uses it in the kernel, and its siblings are throttled for it
        cpu_set_t first;
        CPU_ZERO(&first);
        CPU_SET(0, &first);
        sched_setaffinity(0, sizeof first, &first);
        for (int i = 0; i < 2; i++)
            if (fork() == 0) spin(NULL);
        size_t size = 64UL << 30;
        char *zeroes = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        madvise(zeroes, size, MADV_NOHUGEPAGE);
        puts("ready");
        madvise(zeroes, size, MADV_POPULATE_READ);
        spin(NULL);
    }
    if (IS("sessions")) { // of many busy processes
        for (int i = 0; i < 60; i++)
            if (fork() == 0) setsid(), spin(NULL);
        puts("ready");
        spin(NULL);
    }
    if (IS("subreaper")) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        for (int i = 0; i < 20; i++)
            if (fork() == 0) {
                if (fork() == 0)
                    for (;;) pause();
                _exit(0);
            }
        puts("ready");
        for (;;) pause();
    }
    if (IS("siblings")) { // of this process, and so children of the init
        for (int i = 0; i < 20; i++)
            if (syscall(SYS_clone, CLONE_PARENT, 0, 0, 0, 0) == 0)
                for (;;) pause();
        puts("ready");
        for (;;) pause();
    }
    if (strncmp(how, "orphans", 7) == 0) { // each makes the next one and exits
        for (long chain = 0; chain < CHAINS; chain++) orphan((void *)(chain * STACKS));
        if (IS("orphans left")) exit(0);
        puts("ready");
        for (;;) pause();
    }
    if (IS("storm")) { // of exits, and of signals that announce them
        puts("ready");
        for (;;) {
            if (fork() == 0) {
                if (fork() == 0) _exit(0);
                _exit(0);
            }
            kill(1, SIGCHLD);
            waitpid(-1, NULL, WNOHANG);
        }
    }
#undef IS
    exit(9);
}

// Takes as much of a quota as there is, prints how much, and holds it.
static void take(const char *what) {
    long count = 0;
    const long most = 1 << 20;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
#define IS(name) (strcmp(what, name) == 0)
    if (IS("inotify"))
        while (count < most && syscall(SYS_inotify_init1, 0) >= 0) count++;
    if (IS("aio contexts")) {
        unsigned long context = 0;
        for (; count < most && syscall(SYS_io_setup, 1, &context) >= 0; context = 0) count++;
    }
    if (IS("signals")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        siginfo_t info = {.si_signo = SIGRTMIN, .si_code = SI_QUEUE};
        while (count < most && syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN, &info) >= 0) count++;
    }
    if (IS("timers")) {
        struct sigevent none = {.sigev_notify = SIGEV_NONE};
        timer_t timer;
        while (count < most && timer_create(CLOCK_MONOTONIC, &none, &timer) >= 0) count++;
    }
    if (IS("queues")) {
        struct { long flags, messages, size, current, reserved[4]; } kind = {0, 10, 8192};
        char name[32];
        for (; count < most; count++) {
            snprintf(name, sizeof name, "q%d.%ld", getpid(), count);
            if (syscall(SYS_mq_open, name, O_CREAT | O_RDWR, 0600, &kind) < 0) break;
            syscall(SYS_mq_unlink, name);
        }
    }
    if (IS("pipes")) { // counted in pages
        int ends[2];
        while (count < most && pipe(ends) >= 0) {
            long size = fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
            count += (size < 0 ? fcntl(ends[0], F_GETPIPE_SZ) : size) / 4096;
        }
    }
#undef IS
    printf("%s %ld\n", what, count);
    fflush(stdout);
    for (;;) pause();
}

// Fills kernel memory through descriptors until it is killed or there is no more. Prints MiB.
static void fill(const char *what) {
    static char block[4096];
    size_t bytes = 0;
#define IS(name) (strcmp(what, name) == 0)
    for (int processes = 0; processes < 2; processes++) {
        for (int i = 0; i < 450; i++) {
            int ends[2];
            if (IS("pipes")) {
                if (pipe2(ends, O_NONBLOCK) < 0) break;
                fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
            } else if (IS("sockets")) {
                if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) < 0) break;
            } else if (IS("netlink")) {
                ends[1] = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, 0);
                if (ends[1] < 0) break;
                // The kernel refuses this request, and returns all of it in the answer.
                unsigned header[4] = {sizeof block, 0x00050000 | 0xfff0, 1, 0};
                memcpy(block, header, sizeof header);
            } else exit(9);
            ssize_t sent;
            for (int tries = 0; tries < 300 && (sent = send(ends[1], block, sizeof block, 0)) != 0; tries++) {
                if (sent < 0 && errno == ENOTSOCK) sent = write(ends[1], block, sizeof block);
                if (sent < 0) break;
                // An answer without room is lost, and SO_ERROR says so.
                int lost = 0;
                getsockopt(ends[1], SOL_SOCKET, SO_ERROR, &lost, &(socklen_t){sizeof lost});
                if (lost) break;
                bytes += sent;
            }
        }
        // A second process opens the next ones.
        if (processes < 1 && fork() != 0) {
            wait(NULL);
            exit(0);
        }
    }
#undef IS
    printf("%s %zu\n", what, bytes >> 20);
    exit(0);
}

// Sets long access control lists, each of a file of its own, until there is no more memory. Prints
// MiB.
static void list(void) {
    enum { ENTRIES = 8000 };
    static struct { unsigned version; struct { unsigned short tag, rights; unsigned id; } entries[ENTRIES]; } list;
    list.version = 2;
    for (int i = 0; i < ENTRIES; i++) {
        int others = ENTRIES - 1 - i;
        unsigned short tag = i == 0 ? 1 : others == 2 ? 4 : others == 1 ? 16 : others == 0 ? 32 : 2;
        list.entries[i].tag = tag, list.entries[i].rights = 7, list.entries[i].id = tag == 2 ? geteuid() : -1;
    }
    long files = 0;
    for (; files < 1500; files++) {
        char name[32];
        snprintf(name, sizeof name, "l%ld", files);
        int file = open(name, O_CREAT | O_RDWR, 0600);
        if (file < 0 || fsetxattr(file, "system.posix_acl_access", &list, sizeof list, 0) < 0) break;
        close(file);
    }
    printf("lists %zu\n", files * sizeof list >> 20);
}

// Crashes under a name, first in children with each possible limit of core dumps, then itself.
static void crash(const char *name) {
    struct rlimit own;
    getrlimit(RLIMIT_CORE, &own);
    const struct rlimit limits[] = {{own.rlim_max, own.rlim_max}, {RLIM_INFINITY, RLIM_INFINITY}, {2, 2}, {0, 0}};
    prctl(PR_SET_NAME, name);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        pid_t child = fork();
        if (child == 0) {
            setrlimit(RLIMIT_CORE, &limits[i]);
            prctl(PR_SET_DUMPABLE, 1);
            abort();
        }
        waitpid(child, NULL, 0);
    }
    abort();
}

static void ids(void) {
    printf("uid %d %d gid %d %d groups %d\n", getuid(), geteuid(), getgid(), getegid(), getgroups(0, NULL));
    struct { unsigned version; int pid; } header = {0x20080522, 0};
    unsigned sets[6];
    syscall(SYS_capget, &header, sets);
    // A change of id would clear the capabilities, so they come first.
    printf("capabilities %x %x %x\n", sets[0] | sets[3], sets[1] | sets[4], sets[2] | sets[5]);
    tell("setuid", setuid(0) == 0 && getuid() != geteuid() ? 0 : (errno = EPERM, -1));
    tell("setresuid to another", setresuid(7, 7, 7));
    tell("setresgid to another", setresgid(7, 7, 7));
    tell("setgroups", syscall(SYS_setgroups, 0, NULL));
}

int main(int count, char **arguments) {
    const char *what = arguments[1], *which = count > 2 ? arguments[2] : "";
#define IS(name) (strcmp(what, name) == 0)
    if (IS("spoil")) { // the program for those who execute it next
        int self = open("/proc/self/exe", O_RDONLY);
        tell("fchmod", fchmod(self, 0));
        exit(0);
    }
    if (IS("look")) look(target(which));
    if (IS("slow")) slow(target(which));
    if (IS("signals")) signals(target(which));
    if (IS("wake")) wake(which, 1);
    if (IS("hang")) hang(which);
    if (IS("take")) take(which);
    if (IS("fill")) fill(which);
    if (IS("crash")) crash(which);
    if (IS("list")) list();
    if (IS("ids")) ids();
    if (IS("execute")) {
        pthread_t thread;
        pthread_create(&thread, NULL, execute, NULL);
        for (;;) pause();
    }
    return 0;
}
