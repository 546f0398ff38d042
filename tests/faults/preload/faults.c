/* A library for LD_PRELOAD that stands between a program and the kernel's durable and process calls.
 *
 * In the process that it is armed in, and in none of that process's children, it counts the calls below, and
 * can end the process at the k-th, let calls fail, or record what is written so that the disk of a machine
 * that lost its power can be built afterwards. What counts: writes to files, syncs, truncations, renames,
 * unlinks, creations, directories; forks and spawns; signals; messages of more than one byte (a byte alone
 * is how an event loop wakes itself).
 *
 * Environment, read when the library is armed (LEPTOND_FAULTS_...):
 *   TARGET   armed by itself in a process whose command line contains this text; else leptond_faults_arm()
 *   FORKED   armed also in each child that a process whose command line contains this text forks
 *   COUNTER  a file of 64 bytes, shared: [0] calls so far, [1] faults so far, [2] not 0: no fault any more
 *   MODE     count | kill | error
 *   K        the call that the fault comes at, from 1
 *   ERROR    in mode error: ENOSPC EIO EINTR EDQUOT (writes, creations, syncs of the kinds of CALLS) or
 *            SHORT (half of a write is done)
 *   CALLS    which calls count (all, when empty): write,sync,create,rename,truncate,unlink,mkdir,spawn,
 *            signal,send; read (opening a file to read it) only when it is named
 *   ONLY     calls on paths that contain this text count
 *   STICKY   in mode error: 1: every counted call from the k-th on fails, until [2] is set
 *   DIR      only files below this directory count (others pass)
 *   RUNS     1: of the writes to a database or its log between two syncs of it, the first two count (the rest
 *            only makes an unfinished transaction longer)
 *   PARENT   in mode kill: 1: the parent is killed together with the process
 *   TRACE    a file that gets a line "number pid call path" for every counted call
 *   RECORD   a file that gets a record of every change below DIR, see record() and images.py
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, CREATE = 4, RENAME = 8, TRUNCATE = 16, UNLINK = 32, MKDIR = 64, SPAWN = 128,
       SIGNAL = 256, SEND = 512, READ = 1024 };
static const struct { const char *name; int kind; } KINDS[] = {
    {"write", WRITE}, {"sync", SYNC}, {"create", CREATE}, {"rename", RENAME}, {"truncate", TRUNCATE},
    {"unlink", UNLINK}, {"mkdir", MKDIR}, {"spawn", SPAWN}, {"signal", SIGNAL}, {"send", SEND}, {"read", READ}};

static pid_t owner;                    /* the armed process; 0: not armed */
static _Atomic uint64_t *counter;      /* shared, see COUNTER */
static uint64_t fault_at;
static int runs, kill_parent;
static pid_t above;                    /* of an armed child of a FORKED process: that one's parent */
static _Atomic int run_of_log, run_of_database;
static int mode_kill, mode_error, error_number, short_write, sticky, error_kinds;
static int trace_fd = -1, record_fd = -1;
static char dir[PATH_MAX], only[256];
static size_t dir_length;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

static long raw_write(int fd, const void *data, size_t length) {
    return syscall(SYS_write, fd, data, length);
}

static const char *setting(const char *name) {
    char full[64];
    snprintf(full, sizeof full, "LEPTOND_FAULTS_%s", name);
    const char *value = getenv(full);
    return value ? value : "";
}

static int high_fd(const char *path, int flags) {
    long fd = syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0644);
    if (fd < 0) abort();
    int high = fcntl((int)fd, F_DUPFD_CLOEXEC, 900); /* out of the way of the program's own numbers */
    syscall(SYS_close, fd);
    return high;
}

void leptond_faults_arm(void) {
    const char *mode = setting("MODE"), *error = setting("ERROR"), *calls = setting("CALLS");
    mode_kill = !strcmp(mode, "kill");
    mode_error = !strcmp(mode, "error");
    fault_at = strtoull(setting("K"), NULL, 10);
    runs = atoi(setting("RUNS"));
    kill_parent = atoi(setting("PARENT"));
    sticky = atoi(setting("STICKY"));
    short_write = !strcmp(error, "SHORT");
    error_number = !strcmp(error, "ENOSPC") ? ENOSPC : !strcmp(error, "EINTR") ? EINTR
                 : !strcmp(error, "EDQUOT") ? EDQUOT : EIO;
    error_kinds = 0;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (strstr(calls, KINDS[i].name)) error_kinds |= KINDS[i].kind;
    snprintf(dir, sizeof dir, "%s", setting("DIR"));
    dir_length = strlen(dir);
    snprintf(only, sizeof only, "%s", setting("ONLY"));
    if (*setting("COUNTER")) {
        int fd = high_fd(setting("COUNTER"), O_RDWR);
        counter = mmap(NULL, 64, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        syscall(SYS_close, fd);
        if (counter == MAP_FAILED) abort();
    }
    if (*setting("TRACE")) trace_fd = high_fd(setting("TRACE"), O_WRONLY | O_APPEND | O_CREAT);
    if (*setting("RECORD")) record_fd = high_fd(setting("RECORD"), O_WRONLY | O_APPEND | O_CREAT);
    owner = getpid();
}

static void arm_child(void) {
    if (!owner) leptond_faults_arm(); /* and not in what the child forks in its turn */
}

__attribute__((constructor)) static void begin(void) {
    const char *target = setting("TARGET"), *forked = setting("FORKED");
    if (!*target) return;
    char line[4096];
    long fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    long length = syscall(SYS_read, fd, line, sizeof line - 1);
    syscall(SYS_close, fd);
    for (long i = 0; i < length; i++)
        if (!line[i]) line[i] = ' ';
    line[length > 0 ? length : 0] = 0;
    if (strstr(line, target)) leptond_faults_arm();
    if (*forked && strstr(line, forked)) {
        above = getppid();
        pthread_atfork(NULL, NULL, arm_child);
    }
}

static int armed(void) { return owner && owner == getpid(); }

static int below(const char *path) { return !dir_length || !strncmp(path, dir, dir_length); }

static void path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlink, link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
}

static void absolute(int at, const char *name, char *path) {
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    char base[PATH_MAX] = "";
    if (at == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) base[0] = 0;
    } else path_of(at, base);
    snprintf(path, PATH_MAX, "%.2000s/%.2000s", base, name);
}

static _Atomic int *run_of(const char *path) {
    size_t length = strlen(path);
    if (length > 4 && !strcmp(path + length - 4, "-wal")) return &run_of_log;
    if (length > 3 && !strcmp(path + length - 3, ".db")) return &run_of_database;
    return NULL;
}

/* Whether a counted call fails (then errno is set, unless it is a write that is only cut short). */
static int fault(int kind, const char *call, const char *path) {
    if (!counter) return 0;
    if (error_kinds && !(error_kinds & kind)) return 0;
    if (*only && !strstr(path, only)) return 0;
    /* once a fault that stays has begun, every call meets it */
    if (runs && (kind == WRITE || kind == SYNC) && !(sticky && counter[1])) {
        _Atomic int *run = run_of(path);
        if (run && kind == SYNC) atomic_store(run, 0);
        if (run && kind == WRITE && atomic_fetch_add(run, 1) >= 2) return 0;
    }
    uint64_t number = atomic_fetch_add(&counter[0], 1) + 1;
    if (trace_fd >= 0) {
        char line[PATH_MAX + 128];
        int length = snprintf(line, sizeof line, "%llu %d %s %s\n", (unsigned long long)number, (int)owner,
                              call, path);
        raw_write(trace_fd, line, (size_t)length);
    }
    if (!fault_at || counter[2]) return 0;
    if (mode_kill && number == fault_at) {
        atomic_fetch_add(&counter[1], 1);
        if (kill_parent) syscall(SYS_kill, above ? above : getppid(), SIGKILL);
        syscall(SYS_kill, owner, SIGKILL);
        for (;;) pause();
    }
    if (mode_error && (number == fault_at || (sticky && number > fault_at))) {
        atomic_fetch_add(&counter[1], 1);
        errno = error_number;
        return 1;
    }
    return 0;
}

/* -- what is written, for images of the disk ------------------------------------------------------------ */

/* One record: a header line "KIND number length path[\tpath]\n", then `length` bytes of data. The file is
 * open for append and each record is one write, so that their order is that of all processes. */
static void record(char kind, long long number, const void *data, size_t length, const char *path,
                   const char *second) {
    if (record_fd < 0) return;
    char head[2 * PATH_MAX + 64];
    int size = snprintf(head, sizeof head, "%c %lld %zu %s%s%s\n", kind, number, length, path,
                        second ? "\t" : "", second ? second : "");
    struct iovec parts[2] = {{head, (size_t)size}, {(void *)data, length}};
    syscall(SYS_writev, record_fd, parts, length ? 2 : 1);
}

/* -- the calls ------------------------------------------------------------------------------------------ */

static int regular(int fd, char *path) {
    struct stat seen;
    if (fd <= 2 || fstat(fd, &seen) != 0 || !S_ISREG(seen.st_mode)) return 0;
    path_of(fd, path);
    return below(path) && strncmp(path, "/memfd:", 7) != 0 && strncmp(path, "/proc/", 6) != 0;
}

static ssize_t written(ssize_t (*go)(int, const void *, size_t, off_t, int), int fd, const void *data,
                       size_t length, off_t at, const char *call) {
    int saved = errno;
    char path[PATH_MAX];
    if (armed() && regular(fd, path)) {
        if (fault(WRITE, call, path)) {
            if (!short_write || length < 2) return -1;
            errno = saved;
            length /= 2;
        }
        off_t where = at;
        if (at < 0 && record_fd >= 0) {
            struct stat seen;
            int flags = fcntl(fd, F_GETFL);
            where = lseek(fd, 0, SEEK_CUR);
            if ((flags & O_APPEND) && fstat(fd, &seen) == 0) where = seen.st_size;
        }
        record('W', where, data, length, path, NULL);
    } else if (armed() && at < 0 && fd > 2 && length > 1) {
        struct stat seen;
        if (fstat(fd, &seen) == 0 && S_ISSOCK(seen.st_mode)) fault(SEND, call, "socket");
    }
    errno = saved;
    return go(fd, data, length, at, 0);
}

static ssize_t go_write(int fd, const void *data, size_t length, off_t at, int flags) {
    (void)at, (void)flags;
    return REAL(write)(fd, data, length);
}
static ssize_t go_pwrite(int fd, const void *data, size_t length, off_t at, int flags) {
    (void)flags;
    return REAL(pwrite64)(fd, data, length, at);
}

ssize_t write(int fd, const void *data, size_t length) {
    return written(go_write, fd, data, length, -1, "write");
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) {
    return written(go_pwrite, fd, data, length, at, "pwrite");
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    return written(go_pwrite, fd, data, length, at, "pwrite");
}

static int synced(int (*go)(int), int fd, const char *call) {
    char path[PATH_MAX];
    if (armed()) {
        path_of(fd, path);
        if (below(path)) {
            if (fault(SYNC, call, path)) {
                record('X', 0, NULL, 0, path, NULL);
                return -1;
            }
            record('s', 0, NULL, 0, path, NULL);
            int result = go(fd);
            if (result == 0) record('S', 0, NULL, 0, path, NULL);
            return result;
        }
    }
    return go(fd);
}
int fsync(int fd) { return synced(REAL(fsync), fd, "fsync"); }
int fdatasync(int fd) { return synced(REAL(fdatasync), fd, "fdatasync"); }

static int truncated(int (*go)(int, off64_t), int fd, off64_t length) {
    char path[PATH_MAX];
    if (armed() && regular(fd, path)) {
        if (fault(TRUNCATE, "ftruncate", path)) return -1;
        record('T', length, NULL, 0, path, NULL);
    }
    return go(fd, length);
}
int ftruncate64(int fd, off64_t length) { return truncated(REAL(ftruncate64), fd, length); }
int ftruncate(int fd, off_t length) { return truncated(REAL(ftruncate64), fd, length); }

int posix_fallocate64(int fd, off64_t at, off64_t length) {
    char path[PATH_MAX];
    if (armed() && regular(fd, path)) {
        if (fault(WRITE, "fallocate", path)) return errno;
        record('F', at + length, NULL, 0, path, NULL);
    }
    return REAL(posix_fallocate64)(fd, at, length);
}
int posix_fallocate(int fd, off_t at, off_t length) { return posix_fallocate64(fd, at, length); }

static int opened(int at, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    int made = 0, cut = 0;
    if (armed() && (flags & (O_CREAT | O_TRUNC)) && !(flags & O_DIRECTORY)) {
        absolute(at, name, path);
        if (below(path) && strncmp(path, "/dev/", 5) != 0 && strncmp(path, "/proc/", 6) != 0) {
            struct stat seen;
            int there = stat(path, &seen) == 0;
            made = (flags & O_CREAT) && !there;
            cut = (flags & O_TRUNC) && there;
            if ((made || cut) && fault(CREATE, "open", path)) return -1;
        }
    }
    if (armed() && (error_kinds & READ) && !(flags & (O_CREAT | O_DIRECTORY))) {
        absolute(at, name, path);
        if (below(path) && fault(READ, "open", path)) return -1;
    }
    int fd = (int)syscall(SYS_openat, at, name, flags | O_LARGEFILE, mode);
    if (fd >= 0 && made) record('C', 0, NULL, 0, path, NULL);
    if (fd >= 0 && cut) record('T', 0, NULL, 0, path, NULL);
    return fd;
}
#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }
int open(const char *name, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE_OF(flags) return opened(AT_FDCWD, name, flags, mode); }
int openat(int at, const char *name, int flags, ...) { MODE_OF(flags) return opened(at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { MODE_OF(flags) return opened(at, name, flags, mode); }

static int renamed(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char old[PATH_MAX], new[PATH_MAX];
    int counted = 0;
    if (armed()) {
        absolute(from_at, from, old);
        absolute(to_at, to, new);
        counted = below(new);
        if (counted && fault(RENAME, "rename", new)) return -1;
    }
    int result = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    if (counted && result == 0) record('R', 0, NULL, 0, old, new);
    return result;
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renamed(a, from, b, to, 0); }

static int unlinked(int at, const char *name, int flags) {
    char path[PATH_MAX];
    int counted = 0;
    if (armed()) {
        struct stat seen;
        absolute(at, name, path);
        counted = below(path) && lstat(path, &seen) == 0;
        if (counted && fault(UNLINK, "unlink", path)) return -1;
    }
    int result = (int)syscall(SYS_unlinkat, at, name, flags);
    if (counted && result == 0) record('U', 0, NULL, 0, path, NULL);
    return result;
}
int unlink(const char *name) { return unlinked(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinked(AT_FDCWD, name, AT_REMOVEDIR); }
int unlinkat(int at, const char *name, int flags) { return unlinked(at, name, flags); }

static int directory(int at, const char *name, mode_t mode) {
    char path[PATH_MAX];
    int counted = 0;
    if (armed()) {
        struct stat seen;
        absolute(at, name, path);
        counted = below(path) && stat(path, &seen) != 0;
        if (counted && fault(MKDIR, "mkdir", path)) return -1;
    }
    int result = (int)syscall(SYS_mkdirat, at, name, mode);
    if (counted && result == 0) record('D', 0, NULL, 0, path, NULL);
    return result;
}
int mkdir(const char *name, mode_t mode) { return directory(AT_FDCWD, name, mode); }
int mkdirat(int at, const char *name, mode_t mode) { return directory(at, name, mode); }

pid_t fork(void) {
    if (armed() && fault(SPAWN, "fork", "-")) return -1;
    return REAL(fork)();
}
int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const argv[], char *const env[]) {
    if (armed() && fault(SPAWN, "posix_spawn", path)) return errno;
    return REAL(posix_spawn)(pid, path, actions, attributes, argv, env);
}
int kill(pid_t pid, int number) {
    if (armed() && fault(SIGNAL, "kill", "-")) return -1;
    return (int)syscall(SYS_kill, pid, number);
}
ssize_t send(int fd, const void *data, size_t length, int flags) {
    if (armed() && length > 1) fault(SEND, "send", "socket");
    return syscall(SYS_sendto, fd, data, length, flags, NULL, 0);
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    if (armed()) fault(SEND, "sendmsg", "socket");
    return syscall(SYS_sendmsg, fd, message, flags);
}

#undef syscall
long syscall(long number, ...) {
    va_list more;
    long a[6];
    va_start(more, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(more, long);
    va_end(more);
    if (number == SYS_pidfd_send_signal && armed() && fault(SIGNAL, "pidfd_send_signal", "-")) return -1;
    static long (*libc)(long, ...);
    if (!libc) libc = (long (*)(long, ...))real("syscall");
    return libc(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
