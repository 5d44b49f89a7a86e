// System calls that no ordinary program makes: surface all|namespaces|foreign. Prints lines as
// attack.c does.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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
#include <sys/xattr.h>
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

// What a program could leave at a file, or read around the page cache.
static void ask_about_files(void) {
    const struct { unsigned version; struct { unsigned short tag, rights; unsigned id; } entries[3]; } list =
        {2, {{1, 6, -1}, {4, 4, -1}, {32, 4, -1}}};
    int file = open("attributed", O_CREAT | O_RDWR, 0600);
    tell("access control list", fsetxattr(file, "system.posix_acl_access", &list, sizeof list, 0));
    tell("attribute", setxattr("attributed", "user.left", "x", 1, 0));
    tell("attribute by a link", lsetxattr("attributed", "user.left", "x", 1, 0));
    tell("attribute by a descriptor", fsetxattr(file, "user.left", "x", 1, 0));
    struct { void *value; unsigned size, flags; } value = {"x", 1, 0};
    tell("attribute by a directory", syscall(463, AT_FDCWD, "attributed", 0, "user.left", &value, sizeof value));
    tell("removal of an attribute", removexattr("attributed", "user.left"));
    int flags = FS_NODUMP_FL;
    tell("flags of a file", ioctl(file, FS_IOC_SETFLAGS, &flags));
    unsigned long hint = 2;
    tell("hint at a file's lifetime", fcntl(file, F_SET_RW_HINT, &hint));
    tell("notes of a directory", fcntl(open("/usr", O_RDONLY), F_NOTIFY, DN_ACCESS));
    tell("O_DIRECT", open("attributed", O_RDONLY | O_DIRECT));
    tell("O_DIRECT later", fcntl(file, F_SETFL, O_DIRECT));
    int ends[2];
    tell("packets", pipe2(ends, O_DIRECT));
    tell("packets later", pipe(ends) < 0 ? -1 : fcntl(ends[1], F_SETFL, O_DIRECT));
    char byte;
    struct iovec to = {&byte, 1};
    if (write(file, "x", 1) < 0) exit(9);
    tell("read around the cache", syscall(SYS_preadv2, file, &to, 1, 0, 0, 0x80));
    unsigned long contexts = 0;
    CALL(io_setup, 1, &contexts);
    CALL(io_destroy, contexts);
    // Without a filter these have no file.
    CALL(fsync, -1);
    CALL(fdatasync, -1);
    CALL(sync_file_range, -1, 0, 1, 0);
    tell("msync", syscall(SYS_msync, 0, 4096, MS_SYNC));
    tell("merging of pages", prctl(67, 1, 0, 0, 0));
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    tell("merging of a page", madvise(page, 4096, MADV_MERGEABLE));
    tell("paging out", madvise(page, 4096, 21));
    tell("cold pages", madvise(page, 4096, 20));
    struct { unsigned long start, length; unsigned flags, mapped, count, reserved; } extents = {0, -1, 1, 0, 0, 0};
    tell("extents of a file", ioctl(open("/bin/sh", O_RDONLY), 0xc020660b, &extents)); // FIEMAP_FLAG_SYNC
}

static void set(const char *what, int family, int type, int level, int option, const void *value, size_t size) {
    int unset = socket(family, type, 0);
    tell(what, setsockopt(unset, level, option, value, size));
    close(unset);
}

// Options that take memory, load modules, or concern the whole machine.
static void ask_about_sockets(void) {
    const int one = 1;
    struct sock_filter all = {BPF_RET | BPF_K, 0, 0, -1};
    struct sock_fprog filter = {1, &all};
    set("SO_ATTACH_FILTER", AF_UNIX, SOCK_STREAM, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
    set("SO_TIMESTAMP", AF_INET, SOCK_DGRAM, SOL_SOCKET, SO_TIMESTAMP, &one, sizeof one);
    set("SO_ZEROCOPY", AF_INET, SOCK_STREAM, SOL_SOCKET, 60, &one, sizeof one);
    struct tcp_md5sig key = {.tcpm_keylen = 1, .tcpm_key = "x"};
    ((struct sockaddr_in *)&key.tcpm_addr)->sin_family = AF_INET;
    set("TCP_MD5SIG", AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_MD5SIG, &key, sizeof key);
    set("TCP_CONGESTION", AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    set("TCP_ULP", AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_ULP, "mptcp", 5);
    set("UDP_GRO", AF_INET, SOCK_DGRAM, IPPROTO_UDP, 104, &one, sizeof one);
    struct ip_mreqn group = {{htonl(0xe0000105)}, {htonl(INADDR_ANY)}, 1};
    set("a multicast group", AF_INET, SOCK_DGRAM, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group);
    int stamped = socket(AF_INET, SOCK_DGRAM, 0);
    struct timeval time;
    // Without a filter there is no packet.
    tell("SIOCGSTAMP", ioctl(stamped, 0x8906, &time));
}

static void ask(void) {
    ask_about_files();
    ask_about_sockets();
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
