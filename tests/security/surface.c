// System calls that no ordinary program makes: surface all|namespaces|foreign. Prints lines as
// attack.c does.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *what, long result) {
    printf("%s %s\n", what, result >= 0 ? "works" : strerrorname_np(errno));
    fflush(stdout);
}

#define CALL(name, ...) tell(#name, syscall(SYS_##name, __VA_ARGS__))

static void unshared(const char *what, int flags) {
    pid_t child = fork();
    if (child == 0) _exit(unshare(flags) == 0 ? 0 : errno);
    int status;
    waitpid(child, &status, 0);
    errno = WEXITSTATUS(status);
    tell(what, errno == 0 ? 0 : -1);
}

static void ask_for_namespaces(void) {
    unshared("user namespace", CLONE_NEWUSER);
    unshared("mount namespace", CLONE_NEWNS);
    unshared("network namespace", CLONE_NEWNET);
    unshared("time namespace", CLONE_NEWTIME);
    struct { unsigned long long flags, unused[10]; } process = {CLONE_NEWUSER};
    process.unused[3] = SIGCHLD;
    long made = syscall(SYS_clone3, &process, sizeof process);
    if (made == 0) _exit(0);
    tell("clone3", made);
}

static void ask(void) {
    CALL(add_key, "user", "cellblock", "x", 1, KEY_SPEC_PROCESS_KEYRING);
    CALL(request_key, "user", "cellblock", NULL, KEY_SPEC_PROCESS_KEYRING);
    CALL(keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1);
    char parameters[120] = {0};
    CALL(io_uring_setup, 1, parameters);
    CALL(io_uring_register, -1, 0, NULL, 0);
    CALL(bpf, 0, parameters, sizeof parameters);
    struct perf_event_attr event = {.type = PERF_TYPE_SOFTWARE, .size = sizeof event, .exclude_kernel = 1};
    CALL(perf_event_open, &event, 0, -1, -1, 0);
    CALL(userfaultfd, 1);
    CALL(fanotify_init, 0x200, 0);
    CALL(kcmp, getpid(), getpid(), 0, 0, 0);
    char byte, copy;
    struct iovec from = {&byte, 1}, to = {&copy, 1};
    CALL(process_vm_readv, getpid(), &to, 1, &from, 1, 0);
    CALL(process_vm_writev, getpid(), &to, 1, &from, 1, 0);
    CALL(open_by_handle_at, AT_FDCWD, parameters, 0);
    CALL(personality, 0x0400000); // READ_IMPLIES_EXEC
    CALL(syslog, 10, NULL, 0);
    CALL(quotactl, 0, NULL, 0, NULL);
    CALL(acct, NULL);
    CALL(swapoff, "/none");
    CALL(reboot, 0, 0, 0, NULL);
    CALL(kexec_load, 0, 0, NULL, 0);
    CALL(delete_module, "none", O_NONBLOCK);
    tell("huge pages", syscall(SYS_mmap, NULL, 2 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0));
    tell("huge pages of a file", memfd_create("huge", MFD_HUGETLB));
    tell("huge pages of a segment", syscall(SYS_shmget, 0, 2 << 20, 04600));
    tell("dropping a file from memory", syscall(SYS_fadvise64, open("/bin/sh", O_RDONLY), 0, 0, POSIX_FADV_DONTNEED));
    tell("core scheduling", prctl(62, 1, 0, 0, 0));
    CALL(sync, 0);
    CALL(syncfs, open("/usr", O_RDONLY));
    CALL(mount, "none", "/tmp", "tmpfs", 0, NULL);
    CALL(umount2, "/tmp", MNT_DETACH);
    CALL(chroot, "/tmp");
    CALL(pivot_root, ".", ".");
    CALL(fsopen, "tmpfs", 0);
    CALL(open_tree, AT_FDCWD, "/tmp", 1);
    CALL(move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "/w", 0);
    CALL(mount_setattr, AT_FDCWD, "/tmp", 0, parameters, 32);
    CALL(sethostname, "attacked", 8);
    CALL(setdomainname, "attacked", 8);
    CALL(settimeofday, NULL, NULL);
    CALL(mknodat, AT_FDCWD, "device", S_IFCHR | 0666, 0x103);
    int file = open("leased", O_CREAT | O_RDONLY, 0600);
    tell("lease", fcntl(file, F_SETLEASE, F_RDLCK));

    static const struct { const char *name; int family, type, protocol; } sockets[] = {
        {"AF_ALG", 38, SOCK_SEQPACKET, 0}, {"AF_VSOCK", 40, SOCK_STREAM, 0}, {"AF_PACKET", 17, SOCK_DGRAM, 0},
        {"AF_RXRPC", 33, SOCK_DGRAM, 2},   {"AF_TIPC", 30, SOCK_DGRAM, 0},   {"AF_KEY", 15, SOCK_RAW, 2},
        {"AF_BLUETOOTH", 31, SOCK_RAW, 1}, {"AF_XDP", 44, SOCK_RAW, 0},      {"AF_CAN", 29, SOCK_RAW, 1},
        {"netfilter", 16, SOCK_RAW, 12},   {"audit", 16, SOCK_RAW, 9},       {"SOCK_PACKET", 2, 10, 3},
        {"SCTP", 2, SOCK_STREAM, 132},     {"raw", 2, SOCK_RAW, 1},          {"sock_diag", 16, SOCK_RAW, 4},
        {"routes", 16, SOCK_RAW, 0},
    };
    for (size_t i = 0; i < sizeof sockets / sizeof *sockets; i++)
        tell(sockets[i].name, socket(sockets[i].family, sockets[i].type, sockets[i].protocol));

    // The kernel uses only the low half of a request.
    tell("TIOCSTI", syscall(SYS_ioctl, 0, 0x5412UL, "x"));
    tell("TIOCSTI with high bits", syscall(SYS_ioctl, 0, 0x100005412UL, "x"));
    tell("TIOCLINUX with high bits", syscall(SYS_ioctl, 0, 0xffffffff0000541cUL, "x"));
    tell("a call that is newer than the filter", syscall(1000, 0));

    static const char *const files[] = {"/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern",
                                        "/sys/kernel/uevent_helper", "/sys/fs/cgroup/cgroup.procs", "/dev/mem"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) tell(files[i], open(files[i], O_RDONLY));
}

// Asks for its own pid by x32 numbers and by 32-bit numbers.
static void ask_otherwise(void) {
#ifdef __x86_64__
    tell("x32", syscall(0x40000000 | SYS_getpid));
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
    errno = -result;
    tell("int 0x80", result < 0 ? -1 : 0);
#endif
}

int main(int count, char **arguments) {
    if (strcmp(arguments[1], "foreign") == 0) return ask_otherwise(), 0;
    ask_for_namespaces();
    if (strcmp(arguments[1], "namespaces") != 0) ask();
    return 0;
}
