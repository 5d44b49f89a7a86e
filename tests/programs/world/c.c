// What C programs usually need of their surroundings. Prints a line for each part that works.
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <arpa/inet.h>

static void *count(void *sum) {
    for (int i = 0; i < 1000; i++)
        __atomic_add_fetch((int *)sum, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

int main(void) {
    sem_t *semaphore = sem_open("/semaphore", O_CREAT | O_EXCL, 0600, 0);
    if (semaphore != SEM_FAILED && fork() == 0) {
        sem_post(semaphore);
        _exit(0);
    }
    if (semaphore != SEM_FAILED && sem_wait(semaphore) == 0 && wait(NULL) > 0)
        puts("semaphore");

    int fd = shm_open("/memory", O_CREAT | O_EXCL | O_RDWR, 0600);
    if (fd >= 0 && ftruncate(fd, 4096) == 0 && mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED)
        puts("shared memory");

    pthread_t threads[8];
    int sum = 0;
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, count, &sum);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    if (sum == 8000 && sysconf(_SC_NPROCESSORS_ONLN) > 0)
        puts("threads");

    struct passwd *user = getpwuid(getuid());
    if (user && !strcmp(user->pw_dir, getenv("HOME")))
        printf("home %s\n", user->pw_dir);

    struct hostent *host = gethostbyname("localhost");
    if (host)
        printf("address %s\n", inet_ntoa(*(struct in_addr *)host->h_addr_list[0]));

    char name[] = "/tmp/fileXXXXXX";
    if (tmpfile() && mkstemp(name) >= 0)
        puts("temporary file");
    fflush(stdout);
    return system("echo child");
}
