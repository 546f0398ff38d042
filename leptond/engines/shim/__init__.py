"""The shim: one small process per attempt, parent of the user's command, alive whatever becomes of the
daemon. Standard library only, apart from modules of ours that import no more than that.

It runs as ``python -I -S -X utf8 .../shim/__main__.py``, or is forked from a zygote, with the gate (a socket)
on fd 3 and the launch description (JSON in a memory file) on fd 4, and goes through these steps:

1. become subreaper, take the lock of the attempt's directory, write ``identity.json`` durably, open the log,
   fork the process that will become the command where that is needed, say READY. The directory is a standby
   directory, which no attempt is known by;
2. wait at the gate, for as long as it takes. GO comes with the GPUs: the directory moves to its place, with a
   claim in ``identity.json``, and the command starts. End of file: the daemon is gone or has changed its
   mind, and the command never starts;
3. copy output into the log within its budget, keep the wall-clock limit and the escalation of a stop by boot
   time, reap every descendant;
4. when the last process is gone, say ENDED, so that the daemon need not wait for the disk; then leave
   ``exit.json``: written aside, synced, renamed, directory synced;
5. where nothing of the attempt is left in the process and the launch says ``again``, say RESTING and wait for
   the next LAUNCH. End of file: end. A zygote's shim whose first description is empty begins here.

A stop comes as ``stop.json`` in the attempt's directory plus SIGUSR1, so that it survives a crash between the
two. All other signals to the shim are ignored: its job is to outlive.
"""
