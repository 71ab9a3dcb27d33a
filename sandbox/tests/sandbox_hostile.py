"""Hostile and honest programs of our own, as data for test_hostile.py.

A hostile program prints IN where it got what it was after, or leaves something that `LOOK` sees in the same box afterwards.
"""

NUMBERS = "ptrace=101 process_vm_readv=310 process_vm_writev=311 process_madvise=440 kcmp=312 pidfd_getfd=438 perf_event_open=298 bpf=321 userfaultfd=323 mount=165 umount2=166 pivot_root=155 chroot=161 mount_setattr=442 open_tree=428 move_mount=429 fsopen=430 fsconfig=431 fsmount=432 fspick=433 unshare=272 setns=308 swapon=167 keyctl=250 add_key=248 request_key=249 io_uring_setup=425 io_uring_enter=426 shmget=29 semget=64 msgget=68 mq_open=240 init_module=175 finit_module=313 kexec_load=246 reboot=169 settimeofday=164 clock_settime=227 adjtimex=159 clock_adjtime=305 acct=163 quotactl=179 name_to_handle_at=303 open_by_handle_at=304 fanotify_init=300 syslog=103 sethostname=170 setdomainname=171 iopl=172 ioperm=173 modify_ldt=154 memfd_secret=447 seccomp=317 clone3=435 setxattr=188 mbind=237 move_pages=279 migrate_pages=256 lookup_dcookie=212 vhangup=153 cachestat=451 fchmodat2=452 map_shadow_stack=453 listmount=458 file_setattr=469"

LOOK = """
import os, socket
s = os.stat('/tmp')
def bound(name):
    with socket.socket(socket.AF_UNIX) as k:
        try: k.bind(name); return False
        except OSError: return True
seen = [p for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, os.getpid())]
print(os.listdir('/tmp'), os.listdir('/dev/shm'), s.st_mtime, s.st_uid, oct(s.st_mode), seen, os.getpriority(os.PRIO_PROCESS, 0),
      os.sched_getscheduler(0), sorted(os.sched_getaffinity(0)), bound('\\0left'), open('/proc/self/oom_score_adj').read().strip(),
      os.getsid(0) == os.getpid(), sorted(os.environ), os.umask(0o22), len(os.listdir('/proc/self/fd')))
"""

HOSTILE = {
    # privilege
    "every refused call": f"""
import ctypes, os
l = ctypes.CDLL(None, use_errno=True)
b = ctypes.create_string_buffer(4096)
for part in {NUMBERS!r}.split():
    name, n = part.split('=')
    ctypes.set_errno(0)
    r = l.syscall(int(n), 0, b, 0, 0, 0, 0)
    if r >= 0 or ctypes.get_errno() not in (1, 38, 95): print('IN', name, r, ctypes.get_errno())""",
    "namespaces by clone": """
import ctypes, os
l = ctypes.CDLL(None, use_errno=True)
for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000, 0x80):
    r = l.syscall(56, flag | 17, 0, 0, 0, 0)
    if r == 0: os._exit(0)
    if r > 0 and flag != 0x80: print('IN', hex(flag))""",
    "namespaces of the server": "import os, ctypes\nl = ctypes.CDLL(None)\nfor n in ('mnt', 'pid', 'net', 'user', 'ipc', 'uts'):\n  for p in (1, 'self'):\n    try: f = os.open(f'/proc/{p}/ns/{n}', 0)\n    except OSError: continue\n    if l.setns(f, 0) == 0: print('IN')",
    "32-bit calls by interrupt": """
import ctypes, mmap
m = mmap.mmap(-1, 4096, prot=7)
m.write(bytes.fromhex('b814000000cd80c3'))
f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))
print('IN' if f() > 0 else '')""",
    "becoming root": """
import os, ctypes
l = ctypes.CDLL(None)
def put(p, t):
    f = os.open(p, os.O_WRONLY)
    try: os.write(f, t)
    finally: os.close(f)
for f in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setgroups([0]), lambda: os.chroot('/tmp'),
          lambda: put('/proc/self/uid_map', b'0 0 1'), lambda: os.chown('/tmp', 0, 0), lambda: os.mknod('/tmp/d', 0o60600, os.makedev(254, 0)), lambda: os.nice(-5)):
    try: f(); print('IN')
    except OSError: pass
if l.prctl(47, 2, 21, 0, 0) == 0 or l.prctl(23, 21, 0, 0, 0) != 0: print('IN')
if l.prctl(28, 0x3f, 0, 0, 0) == 0: print('IN')""",
    "setuid files": "import os\nfor d, ds, fs in os.walk('/'):\n  if d.startswith(('/proc', '/sys')): ds.clear(); continue\n  for f in fs:\n    try:\n      if os.lstat(os.path.join(d, f)).st_mode & 0o6000: print('IN', d, f)\n    except OSError: pass",
    "devices": "import os\nfor d in ('mem', 'kmem', 'port', 'kmsg', 'sda', 'vda', 'dm-0', 'fuse', 'net/tun', 'kvm', 'tty', 'console', 'ptmx', 'tty0', 'loop0', 'loop-control', 'vsock', 'vhost-vsock', 'uinput', 'mqueue/x'):\n  try: os.open('/dev/' + d, os.O_RDWR); print('IN', d)\n  except OSError: pass",
    "kernel settings": """
import os
for p in ('/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname', '/proc/sys/vm/drop_caches', '/proc/sys/kernel/ns_last_pid', '/proc/sys/kernel/randomize_va_space',
          '/sys/fs/cgroup/cgroup.procs', '/sys/fs/cgroup/memory/memory.limit_in_bytes', '/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/release_agent', '/sys/kernel/uevent_helper', '/sys/power/state', '/proc/1/oom_score_adj', '/proc/irq/0/smp_affinity'):
    try: os.write(os.open(p, os.O_WRONLY), b'1'); print('IN', p)
    except OSError: pass
try: os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-500'); print('IN')
except OSError: pass""",
    "limits raised": "import resource as r\nfor n in (r.RLIMIT_CPU, r.RLIMIT_NPROC, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE, r.RLIMIT_AS, r.RLIMIT_CORE, r.RLIMIT_MEMLOCK):\n  try: r.setrlimit(n, (r.RLIM_INFINITY, r.RLIM_INFINITY)); print('IN', n)\n  except (OSError, ValueError): pass",
    # network
    "sockets of every family": "import socket\nfor f in range(46):\n  for t in (1, 2, 3, 5):\n    for p in (0, 1, 255):\n      try: socket.socket(f, t, p).close()\n      except OSError: continue\n      if f != 1: print('IN', f, t, p)\n      try: a, b = socket.socketpair(f, t, p)\n      except OSError: continue\n      if f != 1: print('IN pair', f)",
    "the host's abstract socket": "import socket\ns = socket.socket(socket.AF_UNIX)\ntry: s.connect('\\0rk_hostile'); print('IN')\nexcept OSError: pass",
    "sockets in the file system": "import os, stat, socket\nfor d, ds, fs in os.walk('/'):\n  if d.startswith(('/proc', '/sys')): ds.clear(); continue\n  for f in fs:\n    p = os.path.join(d, f)\n    try:\n      if stat.S_ISSOCK(os.lstat(p).st_mode): print('IN', p)\n    except OSError: pass",
    # leaks
    "the host in the environment": "import os\nfor p in ('/proc/self/environ', '/proc/1/environ', '/proc/self/cmdline', '/proc/1/cmdline'):\n  try: t = open(p, 'rb').read()\n  except OSError: continue\n  if any(w in t for w in (b'REWARDKIT', b'RK_HOSTILE', b'boot_id')): print('IN', p)",
    "the server": "import os\nfor n in ('mem', 'environ', 'maps', 'fd/9', 'cwd', 'root/etc', 'exe', 'stack', 'syscall', 'auxv', 'task/1/mem'):\n  try: os.open('/proc/1/' + n, 0); print('IN', n)\n  except OSError: pass",
    "descriptors left open": "import os, stat\nfor f in range(3, 1024):\n  try: s = os.fstat(f)\n  except OSError: continue\n  if f != 3 or not stat.S_ISDIR(s.st_mode): print('IN', f)",
    # persistence
    "an abstract socket kept by a daemon": "import os, socket, signal, time\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0left')\ns.listen()\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    for n in range(1, 65):\n      try: signal.signal(n, signal.SIG_IGN)\n      except (OSError, ValueError): pass\n    time.sleep(60)",
    "descriptors in flight": "import socket, os\nfor _ in range(50):\n  a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n  f = os.open('/tmp/f', os.O_CREAT | os.O_RDWR)\n  os.write(f, b'x' * 10000)\n  try: socket.send_fds(a, [b'x'], [f, b.fileno(), a.fileno()])\n  except OSError: break\n  os.close(f)",
    "niceness of all of a user": "import os, ctypes\nl = ctypes.CDLL(None)\nl.setpriority(2, 0, 19)\nl.setpriority(1, 0, 0)\nl.setpriority(0, 1, 19)\nl.syscall(251, 3, 0, (3 << 13))\nl.syscall(251, 1, 1, (3 << 13))",
    "scheduling of the server": "import os\nfor f in (lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)), lambda: os.sched_setaffinity(1, {0}), lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))):\n  try: f(); print('IN')\n  except OSError: pass\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
    "signals of every kind": "import os, signal, ctypes, fcntl\nl = ctypes.CDLL(None)\nfor s in range(1, 65):\n  l.kill(1, s); l.syscall(234, 1, 1, s); l.sigqueue(1, s, 0)\nf = os.pidfd_open(1)\nfor s in range(1, 65):\n  l.syscall(424, f, s, 0, 0)\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, 1)\nfcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)\nos.write(w, b'x')",
    "stopping everyone": "import os, signal\nfor _ in range(5):\n  if os.fork() == 0: signal.pause()\nos.kill(-1, signal.SIGSTOP)\nos.kill(0, signal.SIGSTOP)",
    "zombies and orphans": "import os\nfor _ in range(30):\n  if os.fork() == 0:\n    if os.fork() == 0: os.setsid()\n    os._exit(0)",
    "shared memory": "import os, mmap\nfor i in range(20):\n  f = os.open(f'/dev/shm/left{i}', os.O_CREAT | os.O_RDWR)\n  os.ftruncate(f, 1 << 20)\n  mmap.mmap(f, 1 << 20)[:] = b'x' * (1 << 20)",
    "names that resist": "import os\nfor n in (b'\\xff\\xfe', b'-rf', b'a\\nb', b'.' * 200, b'\\x1b[2J', b'x' * 255):\n  open(b'/tmp/' + n, 'w'); os.makedirs(b'/dev/shm/' + n + b'/' + n); os.chmod(b'/dev/shm/' + n, 0)\nos.symlink('/', '/tmp/root'); os.link(b'/tmp/-rf', b'/tmp/hard'); os.mkfifo('/tmp/fifo', 0)\nos.utime('/tmp/fifo', (0, 0))",
    "a full disk of links": "import os\nopen('/tmp/a', 'w')\ni = 0\ntry:\n  while i < 20000: os.symlink('x' * 4000, f'/tmp/{i}'); i += 1\nexcept OSError: pass\ntry:\n  while 1: os.write(os.open('/dev/shm/f', os.O_CREAT | os.O_WRONLY | os.O_APPEND), b'x' * (1 << 20))\nexcept OSError: pass",
    "the mode of the folder": "import os\nfor f in (lambda: os.chmod('/tmp', 0), lambda: os.rename('/tmp', '/tmp2'), lambda: os.rmdir('/dev/shm'), lambda: os.setxattr('/tmp', 'user.a', b'1')):\n  try: f()\n  except OSError: pass",
    "timers and alarms": "import signal, os, time\nsignal.setitimer(signal.ITIMER_REAL, 0.05, 0.01)\nsignal.signal(signal.SIGALRM, lambda *a: None)\nos.umask(0)\ntime.sleep(0.1)",
    "inode flags": "import ctypes, os, fcntl, struct\nf = os.open('/tmp', 0)\nfor request in (0x40086602, 0x40046602, 0x401c5820):\n  try: fcntl.ioctl(f, request, struct.pack('Q', 0x10) + bytes(24)); print('IN')\n  except OSError: pass",
}  # fmt: skip
"""Each ends by itself, soon."""

ENDED = {
    "memory that is no process's": ("memory_limit", """
import os
os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"0")
files = [os.memfd_create(str(i), 0) for i in range(16)]
for f in files: os.set_inheritable(f, True)
os.execv("/bin/sh", ["sh", "-c", "; ".join(f"head -c 63000000 /dev/zero > /proc/$$/fd/{f}" for f in files) + "; sleep 5"])"""),
    "memory over many processes": ("any", "import os, time\nfor _ in range(30):\n  if os.fork() == 0:\n    x = bytearray(60 << 20); time.sleep(9)\ntime.sleep(9)"),
    "memory of pipes and sockets": ("ok", "import socket, fcntl\nk = []\ntry:\n  while 1:\n    a, b = socket.socketpair(); a.setblocking(False); k.append((a, b))\n    try:\n      while 1: a.send(b'x' * 65536)\n    except BlockingIOError: pass\nexcept OSError: pass\nprint(len(k))"),
    "a thread bomb": ("any", "import threading, time\nwhile 1:\n  try: threading.Thread(target=time.sleep, args=(9,)).start()\n  except RuntimeError: pass"),
    "a fork bomb that outlives its parent": ("ok", "import os\nwhile 1:\n  try:\n    if os.fork() and os.fork(): os._exit(0)\n  except OSError: pass"),
    "CPU of many processes": ("any", "import os, signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nfor _ in range(10): os.fork()\nwhile 1: pass"),
    "a stopped process": ("time_limit", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
    "waiting for itself": ("time_limit", "import os\nr, w = os.pipe()\nos.read(r, 1)"),
    "a flood of one byte at a time": ("time_limit", "import os\nwhile 1: os.write(2, b'x')"),
    "a flood by children": ("output_limit", "import os\nos.fork(); os.fork()\nwhile 1: os.write(1, b'x' * 4096)"),
    "a fault": ("killed", "import ctypes\nctypes.string_at(0)"),
    "deep recursion": ("any", "import sys, threading\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()"),
    "killing itself late": ("killed", "import atexit, os\natexit.register(os.kill, os.getpid(), 9)\nprint('done')"),
}  # fmt: skip
"""Each must be ended: with this status (or any that is not `ok`), in time, and without harm to the next program. Those that
are `ok` have ended by themselves."""

SEARCHES = {
    "own memory": "def f(a):\n    import re\n    for l in open('/proc/self/maps'):\n        if 'rw' not in l: continue\n        s, e = (int(x, 16) for x in l.split()[0].split('-'))\n        m = open('/proc/self/mem', 'rb'); m.seek(s)\n        try: t = m.read(e - s)\n        except OSError: continue\n        for k in re.findall(b'RKSECRET[0-9a-f]{16}', t): return k.decode()\n",
    "objects": "def f(a):\n    import gc, sys\n    for o in gc.get_objects():\n        for v in (o.values() if type(o) is dict else o if type(o) in (list, tuple) else ()):\n            if type(v) is str and v.startswith('RKSECRET'): return v\n",
    "frames": "def f(a):\n    import sys\n    k = sys._getframe()\n    while k:\n        for v in (*k.f_locals.values(), *k.f_globals.values()):\n            if 'RKSECRET' in repr(v)[:10000] and v is not a: return v\n        k = k.f_back\n",
    "files": "def f(a):\n    import os\n    for d, ds, fs in os.walk('/'):\n        if d.startswith(('/sys', '/usr', '/proc/sys')): ds.clear(); continue\n        for n in fs:\n            try: t = open(os.path.join(d, n), 'rb', buffering=0, opener=lambda p, g: os.open(p, g | os.O_NONBLOCK)).read(100000) or b''\n            except (OSError, ValueError): continue\n            if b'RKSECRET' in t: return t[t.index(b'RKSECRET'):][:24].decode()\n",
    "descriptors": "def f(a):\n    import os\n    for n in range(50):\n        for g in (lambda: os.pread(n, 100000, 0), lambda: open('/proc/self/fd/%d' % n, 'rb', buffering=0, opener=lambda p, g: os.open(p, g | os.O_NONBLOCK)).read()):\n            try: t = g() or b''\n            except OSError: continue\n            if b'RKSECRET' in t: return t[t.index(b'RKSECRET'):][:24].decode()\n",
    "everything is equal": "class E(str):\n    __eq__ = lambda s, o: True\n    __hash__ = lambda s: 0\n    __class__ = property(lambda s: str)\ndef f(a): return E('x')\n",
    "builtins": "import builtins, json, operator\nbuiltins.str = builtins.type = type('T', (), {'__eq__': lambda s, o: True})\nbuiltins.len = lambda x: 0\njson.dumps = lambda *a, **k: '[]'\noperator.eq = lambda a, b: True\ndef f(a): return None\n",
    "two answers": "import os\ndef f(a):\n    for t in ('', 'RKSECRET', 'RKSECRET' + '0' * 16): os.write(3, b'{\"l\":[\"returned\",\"%s\"]}\\n' % t.encode())\n    os._exit(0)\n",
    "a pickle": "import os\nclass P:\n    def __reduce__(self): return os.system, ('touch /tmp/rk_pickled',)\ndef f(a): return P()\n",
    "a lying type": "class M(type):\n    __mro__ = property(lambda c: [str])\n    def __instancecheck__(c, o): return True\nclass L(metaclass=M): pass\ndef f(a): return L()\n",
}  # fmt: skip
"""Programs that look for what is expected of `f`, a fresh secret, wherever they can reach."""

LINES = {
    "raised what is no list": b'{"l":["raised",5]}',
    "raised too little": b'{"l":["raised",{"l":[]}]}',
    "raised a mapping": b'{"l":["raised",{"d":[]}]}',
    "lone surrogates": rb'{"l":["raised",{"l":["X\ud800","y\udfff",{"l":[]}]}]}',
    "control characters": rb'{"l":["raised",{"l":["\u001b]0;owned\u0007","\u001b[2J\u202e",{"l":[]}]}]}',
    "a type's name": rb'{"l":["returned",{"r":["\ud800\u001b[2J",7]}]}',
    "endless nests": b"[" * 300_000,
    "nested tags": b'{"l":[' * 50_000,
    "not UTF-8": b'\xff\xfe{"l":["returned",5]}',
    "two at once": b'{"l":["returned",5]}\n{"l":["returned",6]}',
    "a huge integer": b'{"l":["returned",{"i":"0x' + b"f" * 200_000 + b'"}]}',
    "too many digits": b'{"l":["returned",' + b"9" * 200_000 + b"]}",
    "a far exponent": b'{"l":["returned",{"n":["Decimal","1E999999999"]}]}',
    "a signalling nan": b'{"l":["returned",{"n":["Decimal","sNaN"]}]}',
    "nothing over nothing": b'{"l":["returned",{"n":["Fraction","0/0"]}]}',
    "a set of lists": b'{"l":["returned",{"s":[{"l":[]}]}]}',
    "equal hashes": b'{"l":["returned",{"s":[' + b",".join(b'{"i":"%#x"}' % (i * (2**61 - 1)) for i in range(1, 20_000)) + b"]}]}",
}  # fmt: skip
"""Answers that a program can forge to harm the process that reads them."""

SPANS = {
    "beyond every file": "[[0, [2**70, 2**70]], [1, [2**70, 2**71]]]",
    "backwards": "[[0, [9, 0]], [1, [1, 0]]]",
    "of other kinds": "[[0, ['a', None]], [1, 5]]",
    "for the wrong case": "[[1, [0, 0]], [0, [0, 0]], [True, [0, 0]], [7, [0, 0]]]",
}
"""Lies of a shared process about where each case's output stands."""

HOST_WORK = {
    "whole of a far exponent": ("assert int(f()) == 5", b'{"n":["Decimal","1E999999999"]}'),
    "rounded far exponent": ("assert round(f()) == 5", b'{"n":["Decimal","1E999999999"]}'),
    "set of equal hashes": ("assert set(f()) == {5}", b'{"l":[' + b",".join(b'{"i":"%#x"}' % (i * (2**61 - 1)) for i in range(1, 25_000)) + b"]}"),
    "dict of equal hashes": ("assert dict(f()) == {5: 5}", b'{"l":[' + b",".join(b'{"t":[{"i":"%#x"},1]}' % (i * (2**61 - 1)) for i in range(1, 20_000)) + b"]}"),
    "joining lists": ("assert sum(f(), []) == [5]", b'{"l":[' + b",".join([b'{"l":[1,1,1]}'] * 60_000) + b"]}"),
    "repetition": ("assert [0] * f() == [5]", b"999999999999"),
    "repeated text": ("assert f() * 9999 == 'a'", b'"' + b"x" * 900_000 + b'"'),
    "powers": ("assert 2 ** f() == 5", b"99999999999"),
    "membership in a huge text": ("assert 'b' in f()", b'"' + b"a" * 900_000 + b'"'),
    "text of a huge number": ("assert str(f()) == '5'", b'{"i":"0x' + b"f" * 900_000 + b'"}'),
}  # fmt: skip
"""Conditions that the host works out, and answers that would make that take for ever."""

HONEST = {
    "threads": "import threading, queue\nq = queue.Queue()\nfor i in range(8): threading.Thread(target=q.put, args=(i,)).start()\nprint(sum(q.get() for _ in range(8)))|28",
    "a thread that outlives main": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.05), print('late'))).start()|late",
    "subprocesses": "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'print(6 * 7)'], capture_output=True, text=True).stdout.strip())|42",
    "a pool of processes": "from multiprocessing import get_context\nimport os\ndef w(c): c.send(os.getppid()); c.close()\na, b = get_context('fork').Pipe()\np = get_context('fork').Process(target=w, args=(b,))\np.start(); print(a.recv() == os.getpid()); p.join()|True",
    "random after fork differs": "import os, random\nr, w = os.pipe()\nif os.fork() == 0:\n  os.write(w, str(random.random()).encode()); os._exit(0)\nos.wait()\nprint(float(os.read(r, 99)) != random.random())|True",
    "threads after fork": "import os, threading\nt = threading.Thread(target=threading.Event().wait, daemon=True)\nt.start()\nif os.fork() == 0:\n  print(threading.active_count(), threading.main_thread() is threading.current_thread(), flush=True); os._exit(0)\nos.wait()|1 True",
    "its own thread": "import threading, os\nprint(threading.main_thread().native_id == threading.get_native_id() == os.getpid())|True",
    "asyncio": "import asyncio\nasync def f(i): await asyncio.sleep(0.01); return i\nasync def m(): return sum(await asyncio.gather(*map(f, range(5))))\nprint(asyncio.run(m()))|10",
    "temporary files": "import tempfile, os\nwith tempfile.TemporaryDirectory() as d:\n  p = os.path.join(d, 'x'); open(p, 'w').write('hi'); print(open(p).read())|hi",
    "raw streams": "import sys, os\nsys.stdout.buffer.write(b'a'); sys.stdout.flush(); os.write(1, b'b'); open(1, 'w', closefd=False).write('c')|abc",
    "every way to read": "import sys, os\na = input(); b = sys.stdin.readline(); c = sys.stdin.read(2); d = sys.stdin.buffer.read()\nprint(a, b.strip(), c.strip(), len(d))|1 2 3 0",
    "seeking standard input": "import sys\nsys.stdin.read(); sys.stdin.seek(0); print(sys.stdin.read().split(), sys.stdin.seekable())|['1', '2', '3'] True",
    "descriptor 0": "import os\nprint(os.read(0, 100).split())|[b'1', b'2', b'3']",
    "streams know what they are": "import sys\nprint(sys.stdin.isatty(), sys.stdout.isatty(), sys.stdout.seekable(), sys.stdin.encoding, sys.stdout.encoding, sys.stdout.line_buffering, sys.stdin.fileno(), sys.stdout.name == 1 or sys.stdout.name)|False False False utf-8 utf-8 False 0 True",
    "reopening streams": "import sys, io\nsys.stdin = io.TextIOWrapper(sys.stdin.buffer, encoding='utf-8'); sys.stdout.reconfigure(line_buffering=True)\nprint(sys.stdin.read().split())|['1', '2', '3']",
    "alarms": "import signal, time\ndef h(*a): raise TimeoutError\nsignal.signal(signal.SIGALRM, h); signal.setitimer(signal.ITIMER_REAL, 0.02)\ntry: time.sleep(5)\nexcept TimeoutError: print('rang')|rang",
    "interrupts": "import os, signal\ntry: os.kill(os.getpid(), signal.SIGINT)\nexcept KeyboardInterrupt: print('caught')|caught",
    "deep recursion in a thread": "import sys, threading\nsys.setrecursionlimit(10**6); threading.stack_size(64 << 20)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)\nt = threading.Thread(target=lambda: print(f(30000))); t.start(); t.join()|30000",
    "memory maps and ctypes": "import mmap, ctypes\nm = mmap.mmap(-1, 4096); m[:2] = b'ok'; print(m[:2].decode(), ctypes.CDLL(None).abs(-3))|ok 3",
    "a database": "import sqlite3\nc = sqlite3.connect(':memory:'); print(c.execute('select 6 * 7').fetchone()[0])|42",
    "its own source": "import inspect\ndef f(): return 1\nprint(inspect.getsource(f).strip(), __name__, __file__)|def f(): return 1 __main__ solution.py",
    "exit functions": "import atexit\natexit.register(print, 'bye')\nprint('hi')|hi\nbye",
    "exit in the middle": "import sys\nprint('enough')\nsys.exit()|enough",
    "a polite priority": "import os\nprint(os.nice(3), os.getpriority(os.PRIO_PROCESS, 0))|3 3",
    "a unix socket": "import socket\na, b = socket.socketpair(); a.sendall(b'hey'); print(b.recv(9).decode())|hey",
    "large output": "print('x' * 900_000)|" + "x" * 900_000,
    "shared memory": "from multiprocessing import shared_memory\ns = shared_memory.SharedMemory(create=True, size=64)\ns.buf[0] = 7; print(s.buf[0]); s.close(); s.unlink()|7",
    "tests in the program": "import unittest\nclass T(unittest.TestCase):\n  def test(self): self.assertEqual(1, 1)\nprint(unittest.main(exit=False, argv=['x']).result.wasSuccessful())|True",
}  # fmt: skip
"""Programs with nothing bad in mind, and what they print for the input 1, 2, 3 on lines of their own."""
