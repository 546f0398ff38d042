/* Stands between a process and its clocks: adds to what they say the seconds that a shared file holds, two
 * doubles: for the wall clock and for CLOCK_BOOTTIME. LEPTOND_FAULTS_CLOCK names the file. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile double *ahead(void) {
    static volatile double *found;
    if (found == 0) {
        const char *path = getenv("LEPTOND_FAULTS_CLOCK");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *map = fd >= 0 ? mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
        if (fd >= 0) close(fd);
        static double nothing[2];
        found = map == MAP_FAILED ? nothing : map;
    }
    return found;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    int which = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? 0 : clock == CLOCK_BOOTTIME ? 1 : -1;
    if (result == 0 && which >= 0) {
        double whole = floor(ahead()[which]);
        now->tv_sec += (time_t)whole;
        now->tv_nsec += (long)((ahead()[which] - whole) * 1e9);
        if (now->tv_nsec >= 1000000000) { now->tv_sec++; now->tv_nsec -= 1000000000; }
    }
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec fine;
    int result = clock_gettime(CLOCK_REALTIME, &fine);
    now->tv_sec = fine.tv_sec;
    now->tv_usec = fine.tv_nsec / 1000;
    return result;
}

time_t time(time_t *now) {
    struct timespec fine;
    clock_gettime(CLOCK_REALTIME, &fine);
    if (now) *now = fine.tv_sec;
    return fine.tv_sec;
}
