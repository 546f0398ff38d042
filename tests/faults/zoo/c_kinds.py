"""Kinds that only C can write, or that must be fast."""

from tests.faults.zoo import Kind

_SOURCES = {
    "fork-storm": """
static void job(void) {
    deaf();
    for (int i = 0; i < 500; i++) if (fork() == 0) rest();
    up(); rest();
}
""",
    # each forks the next and exits, faster than anybody can list /proc
    "fork-chain": """
static void job(void) {
    deaf();
    if (fork() == 0) { up(); for (;;) { if (fork() != 0) _exit(0); } }
    rest();
}
""",
    "fork-chain-of-sessions": """
static void job(void) {
    deaf();
    if (fork() == 0) { up(); for (;;) { if (fork() != 0) _exit(0); setsid(); } }
    rest();
}
""",
    "fork-exec-chain": """
static void job(void) {
    deaf(); up(); setsid();
    if (fork() != 0) { if (args[2] == 0) rest(); _exit(0); }
    setsid();
    char *again[] = {args[0], args[1], "again", 0};
    execv("/proc/self/exe", again);
}
""",
    "kills-its-shim-and-chains": """
static void job(void) {
    deaf();
    pid_t shim = getppid();
    if (fork() == 0) {
        setsid(); kill(shim, SIGKILL);
        for (;;) { if (fork() != 0) _exit(0); setsid(); }
    }
    rest();
}
""",
    "ptraced-child": """
static void job(void) {
    deaf();
    pid_t child = fork();
    if (child == 0) { ptrace(PTRACE_TRACEME, 0, 0, 0); raise(SIGSTOP); rest(); }
    waitpid(child, 0, __WALL);
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEFORK);
    up(); rest();
}
""",
    "ptraces-its-shim": """
static void job(void) {
    deaf();
    if (ptrace(PTRACE_ATTACH, getppid(), 0, 0) == 0) waitpid(getppid(), 0, __WALL);
    up(); rest();
}
""",
    "vfork-hangs": """
static void job(void) {
    deaf(); up();
    if (vfork() == 0) { for (;;) pause(); }
}
""",
    "deathsig-game": """
static void again(int n) { if (fork() == 0) { setsid(); } }
static void job(void) {
    deaf();
    if (fork() == 0) {
        setsid(); signal(SIGUSR1, again); prctl(PR_SET_PDEATHSIG, SIGUSR1);
        if (fork() == 0) { prctl(PR_SET_PDEATHSIG, SIGUSR1); rest(); }
        up(); rest();
    }
    rest();
}
""",
    "locks-its-memory": """
static void job(void) {
    deaf(); mlockall(MCL_CURRENT | MCL_FUTURE);
    memset(mmap(0, 1 << 24, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1, 1 << 24);
    up(); rest();
}
""",
    # the process looks like a zombie, and is not
    "main-thread-ends": """
static void *go_on(void *x) {
    sigset_t all; sigfillset(&all); pthread_sigmask(SIG_BLOCK, &all, 0);
    up(); rest();
}
static void job(void) {
    deaf(); pthread_t thread; pthread_create(&thread, 0, go_on, 0); pthread_exit(0);
}
""",
    "child-whose-main-thread-ends": """
static void *go_on(void *x) { deaf(); up(); rest(); }
static void job(void) {
    deaf();
    if (fork() == 0) { setsid(); pthread_t thread; pthread_create(&thread, 0, go_on, 0); pthread_exit(0); }
    rest();
}
""",
    "child-without-a-signal": """
static int go_on(void *x) { deaf(); setsid(); up(); rest(); }
static char stack[65536];
static void job(void) { deaf(); clone(go_on, stack + 65536, 0, 0); rest(); }
""",
    "brother-of-itself": """
static void job(void) {
    deaf();
    if (syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0) { setsid(); up(); rest(); }
    rest();
}
""",
    "vfork-chain": """
static void job(void) {
    deaf();
    for (int i = 0; i < 20; i++) if (vfork() != 0) rest();
    up(); rest();
}
""",
    "hundred-threads": """
static void *go_on(void *x) { rest(); }
static void job(void) {
    deaf(); pthread_t thread;
    for (int i = 0; i < 100; i++) pthread_create(&thread, 0, go_on, 0);
    up(); rest();
}
""",
}

_ENDS = {"kills-its-shim-and-chains": "lost"}
"""Kinds that end by themselves, and as what."""

KINDS = [
    Kind(name=name, source=source, language="c", ends=name in _ENDS, state=_ENDS.get(name, "succeeded"))
    for name, source in _SOURCES.items()
]
