// Programs that use a resource: hog WHAT [AMOUNT]. Further arguments mark the process for tests.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile unsigned long sink;

static void *spin(void *unused) {
    for (;;) sink++;
}

static void *wait_for_ever(void *unused) {
    for (;;) pause();
}

static void touch(char *bytes, size_t size) {
    if (bytes == MAP_FAILED || bytes == NULL) exit(9);
    for (size_t at = 0; at < size; at += 4096) bytes[at] = 1;
}

static void fill(int fd, size_t size) {
    static char block[65536];
    memset(block, 'x', sizeof block);
    while (size > 0) {
        ssize_t written = write(fd, block, size < sizeof block ? size : sizeof block);
        if (written < 0) exit(8);
        size -= written;
    }
}

static char *anonymous(size_t size, int kind, int protection) {
    return mmap(NULL, size, protection, kind | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static int recurse(int depth) {
    volatile char frame[4096];
    frame[0] = depth;
    return recurse(depth + 1) + frame[0];
}

static double cpu(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int count, char **arguments) {
    const char *what = arguments[1];
    size_t amount = count > 2 ? strtoull(arguments[2], NULL, 10) : 0; // 0 if it is a mark
#define IS(name) (strcmp(what, name) == 0)
    if (IS("spin")) spin(NULL);
    if (IS("burn")) { // for AMOUNT milliseconds of CPU time
        while (cpu() * 1000 < amount) sink++;
        return 0;
    }
    if (IS("threads")) {
        pthread_t thread;
        for (size_t i = 1; i < amount; i++) pthread_create(&thread, NULL, spin, NULL);
        spin(NULL);
    }
    if (IS("sleepers")) {
        pthread_t thread;
        for (size_t i = 1; i < amount; i++) pthread_create(&thread, NULL, wait_for_ever, NULL);
        return 0;
    }
    if (IS("grandchild")) { // that spins after its parent has exited
        if (fork() == 0) {
            if (fork() == 0) spin(NULL);
            _exit(0);
        }
        wait(NULL);
        sleep(60);
    }
    if (IS("children")) { // that use CPU time, one after the other, each reaped
        for (;;) {
            if (fork() == 0) {
                while (cpu() < 0.02) sink++;
                _exit(0);
            }
            wait(NULL);
        }
    }
    if (IS("sleep")) sleep(60);
    if (IS("stop")) raise(SIGSTOP);
    if (IS("stubborn")) {
        for (int number = 1; number < 65; number++) signal(number, SIG_IGN);
        for (;;) pause();
    }
    if (IS("forks")) for (;;) fork();
    if (IS("orphans")) { // one after the other, each alive for a moment
        for (size_t i = 0; i < amount; i++) {
            pid_t child = fork();
            if (child < 0) return 7;
            if (child == 0) {
                if (fork() == 0) usleep(500);
                _exit(0);
            }
            waitpid(child, NULL, 0);
            usleep(300);
        }
        return 0;
    }
    if (IS("heap")) return touch(anonymous(amount, MAP_PRIVATE, PROT_READ | PROT_WRITE), amount), 0;
    if (IS("hold")) {
        touch(anonymous(amount, MAP_PRIVATE, PROT_READ | PROT_WRITE), amount);
        fill(1, 5);
        pause();
    }
    if (IS("shared")) return touch(anonymous(amount, MAP_SHARED, PROT_READ | PROT_WRITE), amount), 0;
    if (IS("memfd")) return fill(memfd_create("hog", 0), amount), 0;
    if (IS("file")) return fill(open("hog", O_CREAT | O_WRONLY, 0600), amount), 0;
    if (IS("replace")) { // the file by as much memory of its own
        if (unlink("hog") != 0) return 7;
        return touch(anonymous(amount, MAP_PRIVATE, PROT_READ | PROT_WRITE), amount), 0;
    }
    if (IS("miss")) { // files that do not exist, each of which the kernel remembers
        char path[64];
        struct timespec now; // for names that no earlier run has looked for
        clock_gettime(CLOCK_MONOTONIC, &now);
        for (size_t i = 0; i < amount; i++) {
            snprintf(path, sizeof path, "/usr/cellblock-%lx-%lx-%zu", (long)now.tv_sec, now.tv_nsec, i);
            access(path, F_OK);
        }
        return 0;
    }
    if (IS("occupy")) { // a file, by long operations on it
        int fd = open("busy", O_CREAT | O_RDWR, 0600);
        fill(1, 5);
        for (;;) if (fallocate(fd, 0, 0, amount) != 0 || ftruncate(fd, 0) != 0) return 6;
    }
    if (IS("reserve")) return anonymous(amount, MAP_PRIVATE, PROT_READ | PROT_WRITE) == MAP_FAILED;
    if (IS("child")) { // that touches the memory; the parent exits with 0 in any case
        if (fork() == 0) return touch(anonymous(amount, MAP_PRIVATE, PROT_READ | PROT_WRITE), amount), 0;
        wait(NULL);
        return 0;
    }
    if (IS("flood")) fill(1, amount / 2), fill(2, amount / 2);
    if (IS("recurse")) return recurse(0);
    if (IS("raise")) raise(amount);
    if (IS("exit")) return amount;
    if (IS("syscall")) return syscall(amount, 0, 0, 0) < 0 ? errno : 0;
    return 0;
}
