"""Kinds that are written in Python."""

from tests.faults.zoo import Kind

KINDS = [
    Kind(name="ignores-term", source="deaf(); up(); rest()"),
    Kind(
        name="ignores-every-signal",
        source="""
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
up(); rest()
""",
    ),
    Kind(
        name="blocks-every-signal",
        source="signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); up(); rest()",
    ),
    Kind(
        name="forks-twice",
        source="""
deaf()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        up(); rest()
    os._exit(0)
rest()
""",
    ),
    Kind(
        name="daemonises",
        ends=True,
        source="""
if os.fork() == 0:
    deaf()
    os.setsid()
    if os.fork() == 0:
        os.chdir("/"); os.umask(0); os.closerange(0, 1024)
        up(); rest()
    os._exit(0)
os.wait()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
os._exit(0)
""",
    ),
    Kind(
        name="clears-its-environment",
        source="""
code = "import signal, time; signal.signal(15, signal.SIG_IGN); open(%r, 'w').close(); time.sleep(600)"
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execve(sys.executable, ["kworker/0:1", "-I", "-S", "-c", code % sys.argv[1]], {})
    os._exit(0)
deaf(); rest()
""",
    ),
    Kind(
        name="changes-its-name",
        source="""
import ctypes
deaf()
ctypes.CDLL(None).prctl(15, b") S 1 1 1 (", 0, 0, 0)
if os.fork() == 0:
    ctypes.CDLL(None).prctl(15, b"init", 0, 0, 0)
    os.setsid(); up(); rest()
rest()
""",
    ),
    Kind(
        name="env-i",
        source="""
script = "trap '' TERM; : > %s; sleep 600" % sys.argv[1]
os.execvp("env", ["env", "-i", "/usr/bin/setsid", "-f", "-w", "/bin/sh", "-c", script])
""",
    ),
    Kind(name="stops-itself", source="up(); os.kill(os.getpid(), signal.SIGSTOP); rest()"),
    Kind(
        name="stops-its-children",
        source="""
deaf()
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        os.setsid(); rest()
    children.append(pid)
for pid in children:
    os.kill(pid, signal.SIGSTOP)
up(); rest()
""",
    ),
    Kind(
        name="torchrun",
        source="""
import subprocess
worker = "import signal, time; signal.signal(15, signal.SIG_IGN); print('w', flush=True); time.sleep(600)"
workers = [
    subprocess.Popen([sys.executable, "-I", "-S", "-c", worker], start_new_session=True,
                     stdout=subprocess.PIPE)
    for _ in range(4)
]
for one in workers:
    one.stdout.readline()
up(); rest()
""",
    ),
    Kind(name="drops-its-streams", source="deaf(); os.close(0); os.close(1); os.close(2); up(); rest()"),
    Kind(name="closes-every-descriptor", source="deaf(); up(); os.closerange(0, 65536); rest()"),
    Kind(
        name="nohup",
        source="""
script = "trap '' TERM; : > %s; sleep 600 & wait; sleep 600" % sys.argv[1]
os.execvp("nohup", ["nohup", "/bin/sh", "-c", script])
""",
    ),
    Kind(
        name="changes-groups",
        source="""
deaf()
for _ in range(5):
    if os.fork() == 0:
        os.setpgid(0, 0)
        rest()
up(); rest()
""",
    ),
    Kind(
        name="holds-the-log-open",
        ends=True,
        source="""
read, write = os.pipe()
if os.fork() == 0:
    deaf(); os.write(write, b"x"); up(); rest()
os.read(read, 1)
os._exit(0)
""",
    ),
    Kind(
        name="leaves-a-crowd",
        ends=True,
        source="""
read, write = os.pipe()
for _ in range(8):
    if os.fork() == 0:
        os.setsid(); deaf(); os.write(write, b"x"); rest()
left = 8
while left:
    left -= len(os.read(read, left))
up()
os._exit(0)
""",
    ),
    Kind(
        name="leaves-zombies",
        source="""
deaf()
for _ in range(50):
    if os.fork() == 0:
        os._exit(0)
up(); rest()
""",
    ),
    Kind(
        name="is-a-subreaper",
        source="""
import ctypes
deaf()
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            rest()
        os._exit(0)
up(); rest()
""",
    ),
    Kind(
        name="answers-term-with-children",
        source="""
def more(*_):
    for _ in range(3):
        if os.fork() == 0:
            os.setsid(); deaf(); rest()
signal.signal(15, more)
up(); rest()
""",
    ),
    Kind(
        name="guards-itself",
        source="""
import select
def guard(other):
    fd = os.pidfd_open(other)
    select.select([fd], [], [])
    os.close(fd)
deaf()
def one(partner):
    os.setsid()
    while True:
        if partner:
            guard(partner)
        me, partner = os.getpid(), os.fork()
        if partner == 0:
            os.setsid()
            partner = me
if os.fork() == 0:
    up(); one(0)
rest()
""",
    ),
    Kind(
        name="kills-its-own-group",
        ends=True,
        state="failed",
        source="""
if os.fork() == 0:
    os.setsid(); deaf(); up(); rest()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
os.kill(0, signal.SIGKILL)
""",
    ),
    Kind(
        name="kills-its-shim",
        ends=True,
        state="lost",
        source="deaf(); os.kill(os.getppid(), signal.SIGKILL); up(); rest()",
    ),
    Kind(
        name="kills-its-shims-group",
        ends=True,
        state="lost",
        source="deaf(); os.killpg(os.getpgid(os.getppid()), signal.SIGKILL); up(); rest()",
    ),
    Kind(
        name="kills-its-shim-and-hides",
        ends=True,
        state="lost",
        source="""
shim = os.getppid()
code = "import signal, time; signal.signal(15, signal.SIG_IGN); open(%r, 'w').close(); time.sleep(600)"
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.kill(shim, signal.SIGKILL)
        os.execve(sys.executable, ["kworker/0:2", "-I", "-S", "-c", code % sys.argv[1]], {})
    os._exit(0)
deaf(); rest()
""",
    ),
    Kind(
        name="stops-its-shim",
        source="deaf(); os.kill(os.getppid(), signal.SIGSTOP); up(); rest()",
    ),
    Kind(
        name="removes-its-directory",
        ends=True,
        source="""
import shutil
up()
shutil.rmtree(os.path.dirname(os.environ["TORCHELASTIC_ERROR_FILE"]))
os._exit(0)
""",
    ),
    Kind(
        name="floods-its-log",
        source="deaf(); up()\nwhile True: os.write(1, b'y\\n' * 4096)",
    ),
    Kind(name="one-endless-line", source="deaf(); up()\nwhile True: os.write(1, b'x' * 65536)"),
    Kind(
        name="binary-output",
        source="deaf(); up(); data = os.urandom(65536)\nwhile True: os.write(2, data); time.sleep(0.001)",
    ),
    Kind(
        name="deep-tree",
        source="""
deaf()
for depth in range(60):
    if os.fork():
        rest()
up(); rest()
""",
    ),
    Kind(
        name="becomes-nobody",
        root=True,
        source="up(); deaf(); os.setgid(65534); os.setuid(65534); rest()",
    ),
    Kind(
        name="leaves-its-cgroup",
        root=True,
        source="""
deaf()
points = [line.split()[1] for line in open("/proc/mounts") if line.split()[2] == "cgroup2"]
if points:
    with open(points[0] + "/cgroup.procs", "w") as file:
        file.write("0")
if os.fork() == 0:
    os.setsid(); rest()
up(); rest()
""",
    ),
    Kind(
        name="pid-namespace",
        root=True,
        source="""
script = "trap '' TERM; : > %s; sleep 600 & wait; sleep 600" % sys.argv[1]
os.execvp("unshare", ["unshare", "--pid", "--fork", "/bin/sh", "-c", script])
""",
    ),
]
