"""Submissions that attack the Python process, the system around it, or the pipe to the grader."""

import copy

import nbformat

from tests.hostile import Hostile

EVERYTHING = """
class Everything:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __contains__ = __lt__
    def __bool__(self): return True
    def __len__(self): return 5
    def __hash__(self): return 1
    def __call__(self, *given, **named): return self
    def __getattr__(self, name): return self
    def __getitem__(self, place): return self
    def __iter__(self): return iter([self] * 5)
    def __array__(self, *given, **named):
        import numpy
        return numpy.zeros(5)
    def __int__(self): return 5
    __index__ = __int__
    def __float__(self): return 5.0
    def __instancecheck__(self, other): return True
    @property
    def __class__(self): return list

class Text(str): __eq__ = lambda self, other: True; __hash__ = str.__hash__
class Number(int): __eq__ = lambda self, other: True; __ne__ = lambda self, other: False; __hash__ = int.__hash__
class Items(list):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __len__ = lambda self: 5
class Pairs(dict):
    __eq__ = __contains__ = lambda self, other: True
    __missing__ = lambda self, key: Everything()
"""

PATCHED = """
import builtins, unittest, operator
import numpy as np, pandas as pd, psycopg2
import numpy.testing
import pgv_helpers.course.expect as expect
import pgv_helpers.course.judge as judge
import pgv_helpers.course.learner as learner
import pgv_helpers.course.verdict as verdict
import pgv_helpers.grading.inside as inside
import pgv_helpers.grading.wire as wire

passes = lambda *given, **named: None
for module in (expect, judge):
    for name in dir(module):
        if callable(getattr(module, name)) and not name.startswith("__"):
            setattr(module, name, passes)
verdict.Wrong = verdict.NotSolved = type("Nothing", (Exception,), {})
verdict.Outcome.state = "passed"
learner.NotebookLearner.in_transaction = learner.RecordingConnection.in_transaction = False
learner.RecordingConnection.statements = [learner.Statement("INSERT INTO notes", "INSERT 0 1")] * 9
for name in ("allclose", "isclose", "array_equal", "array_equiv", "all"):
    setattr(np, name, lambda *given, **named: True)
pd.DataFrame.equals = pd.Series.equals = lambda *given: True
np.testing.assert_allclose = passes
unittest.TestCase.assertEqual = passes
operator.eq = lambda *given: True
"""

BUILTINS = """
import builtins
builtins.AssertionError = type("Never", (Exception,), {"__init__": lambda self, *given: None})
builtins.isinstance = builtins.issubclass = builtins.all = builtins.any = lambda *given: True
builtins.len = lambda thing: 5
builtins.sorted = lambda things, **named: things
builtins.abs = lambda number: 0
builtins.print = builtins.repr = lambda *given: "passed"
"""

PIPE = """
import json, os, stat, struct, threading, time

def is_socket(number):
    try:
        return stat.S_ISSOCK(os.stat(f"/proc/self/fd/{number}").st_mode)
    except OSError:
        return False

ENDS = [int(number) for number in os.listdir("/proc/self/fd") if is_socket(number)]

def write(data):
    for end in ENDS:
        sent = 0
        while sent < len(data):
            sent += os.write(end, data[sent:sent + 2**20])

def forge(message, behind=b"", lengths=None):
    text = message if isinstance(message, bytes) else json.dumps({"dict": list(message.items())}).encode()
    write(struct.pack("!II", *(lengths or (len(text), len(behind)))) + text + behind)
"""
"""Finds the pipe to the grader, and writes to it what it likes."""

PROBE = """
import ctypes, mmap, os, pgv_helpers, resource, signal, socket, subprocess, sys, time
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
worked = []

def attempt(what, action):
    try:
        result = action()
    except Exception:
        return
    if result is not False:
        worked.append(what)

def succeeds(*call):
    return libc.syscall(*call) >= 0
"""
TOLD = 'raise RuntimeError(f"worked: {worked}")'
"""Says in an error, which becomes a note of the mark, what of the attempts has worked."""


def probing(code: str, **more) -> Hostile:
    return Hostile(before=(PROBE + code + "\n" + TOLD,), **more)


def in_create_notes(code: str, before: tuple[str, ...] = (), **more) -> Hostile:
    body = "\n".join(f"    {line}" for line in code.strip().splitlines())
    return Hostile(before=before, answers={"crud.create_notes": f"def create_notes(conn, dimension):\n{body}"}, **more)


LIES = {
    "patched builtins": Hostile(before=(BUILTINS,), returned="None"),
    "patched checks, numpy, pandas and psycopg2": Hostile(
        exercise="03_distance_operators", before=(PATCHED,), returned="[(1, 1.0)]"
    ),
    "equal to everything": Hostile(
        before=(EVERYTHING,),
        answers={
            "crud.insert_notes": "def insert_notes(conn, notes):\n    return Number(len(notes))",
            "crud.read_embeddings": "def read_embeddings(conn):\n    return Everything()",
            "crud.delete_notes": "def delete_notes(conn, titles):\n    return Items([Text('a')])",
            "crud.search_notes": "def search_notes(conn, category, embedding, limit):\n"
            "    return Pairs({Text(): Number()})",
        },
    ),
    "a dictionary of everything": Hostile(
        exercise="03_distance_operators", before=(EVERYTHING,), returned="[(Number(1), float('nan'))] * 5"
    ),
    "a lying array, a lying frame and a pickle that runs": Hostile(
        before=(
            """
import numpy as np, pandas as pd
class Any(tuple):
    __eq__ = lambda self, other: True
    __ne__ = lambda self, other: False
class Array(np.ndarray):
    dtype = np.dtype("float32")
    shape = property(lambda self: Any())
    __eq__ = lambda self, other: np.array(True)
    __array_function__ = lambda self, *given: True
    __array_ufunc__ = lambda self, *given, **named: True
    __array__ = lambda self, *given, **named: np.zeros(3, "float32")
class Frame(pd.DataFrame):
    equals = __eq__ = lambda self, other: True
    columns = property(lambda self: self)
    iloc = property(lambda self: 1 / 0)
class Bomb:
    def __reduce__(self):
        return __import__("os").system, ("touch /tmp/pgv-hostile-pickle",)
    __reduce_ex__ = lambda self, version: self.__reduce__()
    __getstate__ = __reduce__
""",
        ),
        answers={
            "crud.insert_notes": "def insert_notes(conn, notes):\n    return Bomb()",
            "crud.read_embeddings": "def read_embeddings(conn):\n    return np.zeros(3).view(Array)",
            "crud.delete_notes": "def delete_notes(conn, titles):\n    return Frame({'a': [1]})",
            "crud.search_notes": "def search_notes(conn, category, embedding, limit):\n    return {Bomb(): Bomb()}",
        },
    ),
    "NaN everywhere": Hostile(
        exercise="03_distance_operators",
        before=("import numpy as np",),
        returned="[(place, float('nan')) for place in range(1, 23)]",
    ),
    "exceptions of the course's own": Hostile(
        before=("from pgv_helpers.course.verdict import NotSolved, Outcome, Wrong",),
        answers={
            "crud.create_notes": "def create_notes(conn, dimension):\n    raise Wrong('passed')",
            "crud.insert_notes": "def insert_notes(conn, notes):\n    raise NotSolved",
            "crud.read_embeddings": "def read_embeddings(conn):\n"
            "    return Outcome('crud.read_embeddings', 'passed', 100)",
            "crud.upsert_notes": "class upsert_notes(Wrong):\n    def __str__(self):\n        return 1 / 0\n"
            "    def __init__(self, *given):\n        raise self",
        },
    ),
    "results without end": Hostile(
        before=("import itertools",),
        answers={
            "crud.create_notes": "def create_notes(conn, dimension):\n    yield from itertools.count()",
            "crud.insert_notes": "def insert_notes(conn, notes):\n    found = []\n    found.append(found)\n"
            "    return found",
            "crud.read_embeddings": "class Error(Exception):\n    def __str__(self):\n        return str(self)\n\n"
            "def read_embeddings(conn):\n    raise Error",
            "crud.delete_notes": "def delete_notes(conn, titles):\n    found = []\n"
            "    for _ in range(100_000):\n        found = [found]\n    return found",
            "crud.revise_note": "def revise_note(*given):\n    return revise_note(*given)",
        },
    ),
    "results without measure": Hostile(
        before=("import numpy as np",),
        answers={
            "crud.insert_notes": "def insert_notes(conn, notes):\n    return 10 ** 100_000",
            "crud.read_embeddings": "def read_embeddings(conn):\n    return np.zeros((2**25, 3), np.float32)",
            "crud.delete_notes": "def delete_notes(conn, titles):\n    return ['a'] * 5_000_000",
            "crud.search_notes": "def search_notes(conn, category, embedding, limit):\n    return 'a' * 100_000_000",
        },
    ),
}

ENDS = {
    "ends its process": Hostile(
        solved=True,
        answers={
            "crud.create_notes": "import os\ndef create_notes(conn, dimension):\n    os._exit(0)",
            "crud.read_embeddings": "def read_embeddings(conn):\n    raise KeyboardInterrupt",
            "crud.upsert_notes": "import ctypes\ndef upsert_notes(conn, notes):\n    ctypes.string_at(0)",
            "crud.delete_notes": "def delete_notes(conn, titles):\n    exit()",
        },
    ),
    "signals": Hostile(
        solved=True,
        answers={
            "crud.create_notes": "import os, signal\ndef create_notes(conn, dimension):\n"
            "    os.fork() or os.kill(-1, 9)\n"
            "    os.kill(-1, 9)\n    os.kill(os.getpid(), 9)",
            "crud.read_embeddings": "def read_embeddings(conn):\n    for pid in (1, os.getppid(), 0):\n"
            "        try:\n            os.kill(pid, 9)\n        except OSError:\n            pass\n    os.abort()",
        },
    ),
    "a cell that ends its process": Hostile(solved=True, before=("import os\nos._exit(1)", "exit()", "quit()")),
    "a cell that hangs": Hostile(solved=True, before=("while True:\n    pass",)),
    "a cell that catches all": Hostile(
        before=(
            "import signal, time\nsignal.setitimer(signal.ITIMER_REAL, 0)\n"
            "signal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True:\n    try:\n        time.sleep(60)\n"
            "    except BaseException:\n        pass",
        ),
        solved=True,
    ),
    "an endless call": in_create_notes(
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\n"
        "class Endless(list):\n    def __iter__(self): return iter(int, 1)\nreturn Endless([1])"
    ),
    "an endless call in C": in_create_notes("import re\nre.match('(a*)*b', 'a' * 50)\nsum(range(10**13))"),
    "atexit and threads": Hostile(
        before=(
            """
import atexit, os, threading, time
atexit.register(time.sleep, 1000)
threading._register_atexit(time.sleep, 1000)
def forever():
    while True:
        try:
            conn = connect()
            conn.cursor().execute("SELECT 1")
        except BaseException:
            time.sleep(0.01)
for _ in range(10):
    threading.Thread(target=forever).start()
""",
        ),
    ),
    "a process that stays": Hostile(
        before=(
            """
import os, signal, subprocess, sys
for number in range(1, 32):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/usr/bin/sleep", ["pgv-hostile-sleep", "1000"])
    os._exit(0)
subprocess.Popen(["sleep", "1000"], start_new_session=True)
""",
        ),
    ),
    "a fork bomb": Hostile(before=("import os\nwhile True:\n    os.fork()",)),
    "threads": Hostile(
        before=("import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=[1000]).start()",),
        returned="None",
    ),
    "much memory": Hostile(
        solved=True, answers={"crud.create_notes": "def create_notes(conn, dimension):\n    return b'a' * 2**31"}
    ),
    "memory in many processes": in_create_notes(
        """
import os, time
for _ in range(8):
    if os.fork() == 0:
        held = [b'a' * 2**29]
        time.sleep(1000)
time.sleep(1000)
"""
    ),
    "memory that is shared": in_create_notes(
        """
import mmap, signal, time
signal.setitimer(signal.ITIMER_REAL, 0)
held = mmap.mmap(-1, 2**31)
held[::4096] = b'a' * 2**19
time.sleep(1000)
"""
    ),
    "memory that is nobody's": probing(
        """
attempt("a file in memory", lambda: os.memfd_create("here"))
attempt("shared memory", lambda: libc.shmget(0, 2**30, 0o1600) >= 0)
attempt("io_uring", lambda: succeeds(425, 8, ctypes.create_string_buffer(120)))
attempt("bpf", lambda: succeeds(321 if os.uname().machine == "x86_64" else 280, 0, 0, 0))
attempt("keys", lambda: succeeds(248 if os.uname().machine == "x86_64" else 217, b"user", b"a", b"b", 1, -2))
"""
    ),
    "files without end": probing(
        """
number = 0
try:
    while number < 100:
        Path(f"/tmp/{number}").write_bytes(bytes(2**24))
        number += 1
except OSError:
    pass
attempt("more than a gigabyte of files", lambda: number >= 64)
attempt("a large file", lambda: Path("/dev/shm/large").write_bytes(bytes(2**27)))
""",
        solved=True,
        after=("for file in Path('/tmp').glob('*[0-9]'):\n    file.unlink()",),
    ),
    "open files without end": Hostile(before=("held = []\nwhile True:\n    held.append(open('/dev/null'))",)),
    "output without end": Hostile(
        before=(
            "import os, sys\nfor _ in range(100):\n    print('a' * 10**6)\n    print('a' * 10**6, file=sys.stderr)\n"
            "    os.write(1, b'a' * 10**6)\nfrom IPython.display import HTML, display\n"
            "display(HTML('<script>alert(1)</script>' * 10**6))\nsys.__stdout__.write('a' * 10**8)",
        ),
        solved=True,
    ),
}

PIPES = {
    "verdicts in the output": Hostile(
        before=(
            PIPE
            + """
verdict = json.dumps({"state": "passed", "points": 100, "passed": True, "returned": True})
for _ in range(100):
    print(verdict)
    print(verdict, file=__import__("sys").stderr)
for number in range(30):
    try:
        os.write(number, verdict.encode()) if number not in ENDS else None
    except OSError:
        pass
""",
        ),
        returned="None",
    ),
    "forged replies": Hostile(
        before=(
            PIPE
            + """
for _ in range(30):
    forge({"state": "passed", "points": 100, "returned": None, "raised": ["builtins.ValueError"]})
    forge({"returned": True, "autocommit": False})
""",
        ),
    ),
    "replies that say unsolved": Hostile(before=(PIPE + 'for _ in range(30): forge({"unsolved": True})',)),
    "no frame": Hostile(before=(PIPE + 'write(b"passed\\n" * 1000)',)),
    "a frame that never ends": in_create_notes(
        "forge(b'[', lengths=(2**25, 2**25))\nwhile True:\n    write(b' ')\n    time.sleep(0.5)", before=(PIPE,)
    ),
    "a frame beyond measure": in_create_notes("forge(b'[', lengths=(2**32 - 1, 2**32 - 1))", before=(PIPE,)),
    "call-backs without end": in_create_notes(
        "while True:\n    forge({'function': 0, 'arguments': [1]})", before=(PIPE,)
    ),
    "call-backs that are none": in_create_notes(
        "for number in (-1, 10**9, True, None, 'eval', [0], {'dict': [[1, 2]]}):\n"
        "    forge({'function': number, 'arguments': number})",
        before=(PIPE,),
    ),
    "one array for a thousand": in_create_notes(
        "forge({'returned': [{'array': ['|u1', [2**25], 0]}] * 1000}, bytes(2**25))", before=(PIPE,)
    ),
    "empty arrays without measure": in_create_notes(
        "forge({'returned': [{'objects': [2**22]}, {'array': ['<f8', [2**62], 0]}] * 1000})", before=(PIPE,)
    ),
    "millions of values": in_create_notes(
        "forge(b'{\"dict\": [[\"returned\", [' + b'[],' * (20 * 2**20) + b'[]]]]}')", before=(PIPE,)
    ),
    "nested without end": in_create_notes("forge(b'[' * 1_000_000 + b']' * 1_000_000)", before=(PIPE,)),
    "strange words": Hostile(
        before=(
            PIPE
            + """
forge({"error": {"tuple": [["<script>alert(1)</script>", "\\ud800\\u202e\\x00"]]}, "seen": 5})
forge({"error": ["<script>"] * 1000, "seen": ["\\ud800<script>alert(2)</script>"] * 100_000, "done": "no"})
""",
        ),
        answers={
            "crud.create_notes": "def create_notes(conn, dimension):\n"
            "    forge({'wrong': '\\ud800\\u202e\\x00<script>alert(3)</script>\\n' * 100_000, 'seen': {'dict': []}})",
            "crud.insert_notes": "def insert_notes(conn, notes):\n    forge({'wrong': None, 'unsolved': 1})",
            "crud.read_embeddings": "class Error(Exception):\n"
            "    __str__ = lambda self: '\\ud800<script>alert(4)</script>'\n"
            "Error.__name__ = Error.__qualname__ = '<script>\\x00'\n\n"
            "def read_embeddings(conn):\n    raise Error",
            "crud.revise_note": "def revise_note(*given):\n    forge({'raised': [None, {'a': 1}, '\\x00.\\x00']})",
            "crud.delete_notes": "def delete_notes(conn, titles):\n"
            "    forge({'returned': [{'stranger': '\\x00'}, {'stranger': ['<script>']}]})",
            "crud.search_notes": "def search_notes(conn, category, embedding, limit):\n"
            "    forge({'returned': {'decimal': '1e999999999'}})",
        },
    ),
    "call-backs of a question's own": Hostile(
        exercise="07_rag",
        answers={
            "rag.index_document": "def index_document(conn, source, chunks, embed_texts):\n"
            "    while True:\n        try:\n            embed_texts(['a' * 100] * 10_000)\n"
            "        except BaseException:\n            pass",
            "rag.answer": "def answer(conn, question, k, cutoff, ask):\n    return ask([{}]), []",
        },
    ),
}

READS = {
    "other people's files": probing(
        """
for path in (
    "@course/solutions", "@course/exercises", "@course/tests", "@course/.git", "@course/README.md",
    "@folder", "@folder/submissions/solved/02_crud.ipynb", "@folder/out", "@home/.bashrc",
    "@home/.ssh", "@home/.cache", "/etc/passwd", "/etc/shadow", "/srv", "/mnt", "/media", "/run", "/boot", "/sys",
    "@course/pgv_helpers/course/questions/crud.py", "@course/pgv_helpers/course/pristine/02_crud.ipynb",
):
    attempt(path, lambda: os.listdir(path) or False if os.path.isdir(path) else open(path, "rb").read(1))
attempt("the checks", lambda: __import__("pgv_helpers.course.questions.crud"))
python = {part for path in (*sys.path, sys.prefix, pgv_helpers.__file__) for part in path.split("/")}
for place in ("/", "/tmp", "/line", "/dev/shm", "/root", "/home", "/var", "/etc"):
    known = python | {"pgv-work", "home", ".s.PGSQL.5432"}
    known |= {"/": set("bin dev etc lib lib32 lib64 libx32 line proc sbin tmp usr".split())}.get(place, set())
    known |= {"/etc": {"fonts", "ld.so.cache", "localtime"}}.get(place, set())
    attempt(place, lambda: bool(set(os.listdir(place)) - known))
""",
    ),
    "the grader's environment": probing(
        """
for name, value in os.environ.items():
    attempt(name, lambda: any(word in value for word in ("@home", "@folder", "SECRET_OF_THE_GRADER")))
for process in filter(str.isdigit, os.listdir("/proc")):
    if process != os.readlink("/proc/self"):
        for file in ("environ", "mem", "maps", "root/etc", "cwd/", "fd", "auxv", "stack"):
            path = f"/proc/{process}/{file}"
            attempt(path, lambda: os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1))
attempt("the grader's database", lambda: "postgres:" in os.environ["PGV_DATABASE_URL"])
""",
    ),
    "other processes' memory": probing(
        """
ATTACH, SEIZE = 16, 0x4206

class Part(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("length", ctypes.c_size_t)]

here = ctypes.create_string_buffer(8)
for process in [1, *range(3, 20), *map(int, filter(str.isdigit, os.listdir("/proc")))]:
    if process != os.getpid():
        for request in (ATTACH, SEIZE):
            attempt(f"ptrace {process}", lambda: libc.ptrace(request, process, None, None) == 0)
        mine, theirs = Part(ctypes.addressof(here), 8), Part(id(None), 8)
        for call in (libc.process_vm_readv, libc.process_vm_writev):
            attempt(call.__name__, lambda: call(process, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0) > 0)
        if process != 1:  # which is the room's own, and cannot be killed from within
            attempt(f"prlimit {process}", lambda: resource.prlimit(process, resource.RLIMIT_NOFILE, (1, 1)))
            attempt(f"kill {process}", lambda: os.kill(process, 0) or True)
""",
    ),
    "writes elsewhere": probing(
        """
import numpy
for folder in (
    "/", "/usr", "/usr/bin", "/bin", "/etc", "/dev", "/line", "/proc", "/proc/sys/kernel", "/sys", "/root", "/home",
    "/var/tmp", "/run", "/mnt", sys.prefix, sys.base_prefix, Path(numpy.__file__).parent, Path(os.__file__).parent,
    Path(pgv_helpers.__file__).parent, "@folder", "@folder/out",
):
    attempt(str(folder), lambda: Path(folder, "pgv-hostile-file").write_text("here"))
attempt("the socket", lambda: os.unlink("/line/.s.PGSQL.5432"))
attempt("another socket", lambda: socket.socket(socket.AF_UNIX).bind("/line/another"))
attempt("chmod", lambda: os.chmod("/line", 0o777))
""",
    ),
    "more rights": probing(
        """
for name in dir(resource):
    if name.startswith("RLIMIT_"):
        soft, hard = resource.getrlimit(getattr(resource, name))
        if hard != resource.RLIM_INFINITY:
            attempt(name, lambda: resource.setrlimit(getattr(resource, name), (hard + 1, hard + 1)))
for flag in (0x10000000, 0x00020000, 0x20000000, 0x40000000, 0x08000000, 0x04000000, 0x02000000):
    attempt(f"unshare {flag:x}", lambda: libc.unshare(flag) == 0)
    attempt(f"clone {flag:x}", lambda: succeeds(56, flag | 17, 0, 0, 0, 0) if os.uname().machine == "x86_64" else False)
attempt("mount", lambda: libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None) == 0)
attempt("remount", lambda: libc.mount(None, b"/", None, 32, None) == 0)
attempt("bind", lambda: libc.mount(b"/proc", b"/tmp", None, 4096, None) == 0)
attempt("umount", lambda: libc.umount2(b"/tmp", 2) == 0)
attempt("umount the questions", lambda: libc.umount2(b"@course/pgv_helpers/course/questions", 2) == 0)
attempt("pivot_root", lambda: succeeds(155, b"/tmp", b"/tmp"))
attempt("chroot", lambda: os.chroot("/tmp"))
attempt("setuid", lambda: os.setuid(0))
attempt("setgroups", lambda: os.setgroups([0]))
attempt("mknod", lambda: os.mknod("/tmp/device", 0o20666, os.makedev(1, 1)))
attempt("setns", lambda: any(libc.setns(os.open(f"/proc/{p}/ns/{kind}", os.O_RDONLY), 0) == 0
                             for p in filter(str.isdigit, os.listdir("/proc")) if int(p) not in (os.getpid(),)
                             for kind in ("user", "pid", "mnt", "net")))
attempt("nice", lambda: os.nice(-1))
attempt("capabilities", lambda: int(Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16) > 0)
attempt("sysctl", lambda: Path("/proc/sys/user/max_user_namespaces").write_text("100"))
attempt("oom", lambda: Path(f"/proc/self/oom_score_adj").write_text("-1000"))
attempt("reboot", lambda: libc.reboot(0x01234567) == 0)
attempt("hostname", lambda: socket.sethostname("hostile"))
attempt("kernel's log", lambda: libc.klogctl(3, ctypes.create_string_buffer(10), 10) > 0)
attempt("setuid program", lambda: "uid=0" in subprocess.run(["su", "-c", "id"], capture_output=True, text=True).stdout)
""",
    ),
    "the network": probing(
        """
socket.setdefaulttimeout(1)
for address in (("127.0.0.1", @port), ("localhost", @port), ("1.1.1.1", 53), ("8.8.8.8", 443), ("169.254.169.254", 80)):
    attempt(str(address), lambda: socket.create_connection(address, 1))
attempt("IPv6", lambda: socket.create_connection(("::1", @port), 1))
attempt("UDP", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"here", ("1.1.1.1", 53)))
attempt("a name", lambda: socket.getaddrinfo("example.org", 80))
attempt("an abstract socket", lambda: socket.socket(socket.AF_UNIX).connect("\\0@abstract"))
attempt("packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("other interfaces", lambda: any(name != "lo" for _, name in socket.if_nameindex()))
for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/dbus/system_bus_socket", "@server"):
    attempt(path, lambda: socket.socket(socket.AF_UNIX).connect(path))
""",
    ),
}


def copied_below(notebook):
    """Each answer twice: by nbgrader's rules that is one cell too many."""
    for place in reversed(range(len(notebook.cells))):
        if "nbgrader" in notebook.cells[place].metadata:
            notebook.cells.insert(place, copy.deepcopy(notebook.cells[place]))


def in_another_order(notebook):
    first, *others = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells = [first, *reversed(others)]


def without_checks(notebook):
    notebook.cells = [cell for cell in notebook.cells if not cell.source.startswith("check(")]
    for cell in notebook.cells:
        cell.metadata = {}


def with_edited_checks(notebook):
    for cell in notebook.cells:
        if cell.source.startswith("check("):
            cell.source = "print('passed')"
            cell.metadata["nbgrader"] |= {"points": 1000, "grade_id": "crud-create_notes", "solution": True}


def with_large_outputs(notebook):
    for cell in notebook.cells[:3]:
        if cell.cell_type == "code":
            text = "<script>alert(5)</script>" * 2**22
            cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": text})]


def with_scripts(notebook):
    text = "<script>alert(6)</script> ![](javascript:alert(7)) \u202e\u2066"
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(text))
    notebook.metadata |= {"title": text, "authors": [{"name": text}]}


NOTEBOOKS = {
    "globals deleted": Hostile(
        solved=True, before=("for name in list(globals()):\n    if name != 'name': del globals()[name]",)
    ),
    "globals reset": Hostile(solved=True, before=("%reset -f", "get_ipython().reset()")),
    "magics": Hostile(
        solved=True,
        before=("%%time\nx = 1", "!ls", "%matplotlib inline\n%load_ext autoreload\n%autoreload 2", "%run nothing.py"),
        after=("%%bash\necho here", "?len", "await __import__('asyncio').sleep(0)"),
    ),
    "answers copied below themselves": Hostile(solved=True, change=copied_below),
    "cells in another order": Hostile(solved=True, change=in_another_order),
    "check cells deleted": Hostile(solved=True, change=without_checks),
    "check cells edited": Hostile(change=with_edited_checks),
    "outputs of 200 MB": Hostile(solved=True, change=with_large_outputs),
    "scripts in the text": Hostile(change=with_scripts),
    "its own check": Hostile(
        before=("def check(name):\n    print('passed')\n\nhint = solution = progress = check",),
        after=(
            "import pgv_helpers.course.notebook as course\ncourse.check = check\ncourse.check('crud.create_notes')",
        ),
    ),
    "white space without end": Hostile(
        before=("\n" * 3_900_000 + "(insert_notes", " " * 199_000 + "\n" + "\n" * 900 + "%% insert_notes (")
    ),
    "a cell of many brackets": Hostile(before=("insert_notes = " + "(" * 20_000, "-" * 20_000 + "1 # insert_notes")),
    "an error with a script": Hostile(
        before=("raise ValueError('<script>alert(1)</script>\\u202e\\ud800' * 1000)",),
        answers={
            "crud.create_notes": "def create_notes(conn, dimension):  # </pre><script>alert(2)</script> \u202e\n"
            "    raise ValueError('</p><script>alert(3)</script> \u202e\\x1b[2J')"
        },
    ),
}
