/* The witness of witness.py in C, because a campaign starts it ten thousand times:
 * witness FILE HOLD_S EXIT_CODE [trap]. Appends a start and an end to FILE, synced. While it lives it holds
 * a lock for its job and one for each of its GPUs, which the kernel gives up only when it is gone: whoever
 * finds one taken says so ("clash"). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/file.h>
#include <unistd.h>

static volatile sig_atomic_t terms;
static void on_term(int number) { (void)number; terms++; }

static double clock_s(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void testify(const char *path, const char *what, const char *more) {
    char gpus[4096] = "", line[8192];
    char *list = strdup(getenv("CUDA_VISIBLE_DEVICES"));
    for (char *one = strtok(list, ","); one; one = strtok(NULL, ","))
        snprintf(gpus + strlen(gpus), sizeof gpus - strlen(gpus), "%s\"%s\"", *gpus ? ", " : "", one);
    free(list);
    int length = snprintf(line, sizeof line,
        "{\"what\": \"%s\", \"attempt_id\": \"%s\", \"job_id\": %s, \"attempt\": %s, \"gpus\": [%s], \"pid\": %d, "
        "\"at\": %.6f, \"wall\": %.6f%s}\n", what, getenv("LEPTOND_ATTEMPT_ID"), getenv("LEPTOND_JOB_ID"),
        getenv("LEPTOND_ATTEMPT"), gpus, (int)getpid(), clock_s(CLOCK_BOOTTIME), clock_s(CLOCK_REALTIME), more);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0644);
    if (fd < 0 || write(fd, line, (size_t)length) != length || fsync(fd) != 0) _exit(99);
    close(fd);
}

static void take(const char *path, const char *kind, const char *name) {
    char file[4096], more[256];
    snprintf(file, sizeof file, "%s.%s-%s", path, kind, name);
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) _exit(97);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        snprintf(more, sizeof more, ", \"on\": \"%s %s\"", kind, name);
        testify(path, "clash", more);
    }
}

int main(int argc, char **argv) {
    if (argc < 4) return 98;
    int trap = argc > 4 && !strcmp(argv[4], "trap");
    char more[64];
    struct sigaction action = {.sa_handler = on_term};
    sigaction(SIGTERM, &action, NULL);
    take(argv[1], "job", getenv("LEPTOND_JOB_ID"));
    char *list = strdup(getenv("CUDA_VISIBLE_DEVICES"));
    for (char *one = strtok(list, ","); one; one = strtok(NULL, ",")) take(argv[1], "gpu", one);
    testify(argv[1], "start", "");
    double until = clock_s(CLOCK_MONOTONIC) + atof(argv[2]);
    while (clock_s(CLOCK_MONOTONIC) < until && !(terms && !trap)) {
        struct timespec nap = {0, 5000000};
        nanosleep(&nap, NULL);
    }
    snprintf(more, sizeof more, ", \"code\": %d, \"signals\": %d", atoi(argv[3]), (int)terms);
    testify(argv[1], "end", more);
    _exit(atoi(argv[3]));
}
