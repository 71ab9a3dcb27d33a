"""The system call filter of a program: a binary decision tree, so that installing it per process stays cheap.

The kernel evaluates a new filter once for every system call number to fill its cache of always-allowed calls; a list of
a hundred comparisons makes that ten times slower than a tree.
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass

from rewardkit_sandbox.errors import Unavailable

ALLOW = 0x7FFF0000
_ERRNO, _KILL = 0x00050000, 0x80000000
EPERM, ENOMEM, ENOSYS, EAFNOSUPPORT, EOPNOTSUPP = 1, 12, 38, 97, 95
_NAMESPACES = 0x7E020000
LAST_KNOWN = 450
"""System calls above this number answer ENOSYS until they have been reviewed."""

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); None where the architecture has none.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "mount_setattr": (442, 442),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "unshare": (272, 97),
    "setns": (308, 268),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "mq_timedsend": (242, 182),
    "mq_timedreceive": (243, 183),
    "mq_notify": (244, 184),
    "mq_getsetattr": (245, 185),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "lookup_dcookie": (212, 18),
    "syslog": (103, 116),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "nfsservctl": (180, 42),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "create_module": (174, None),
    "get_kernel_syms": (177, None),
    "query_module": (178, None),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "memfd_secret": (447, 447),
    "seccomp": (317, 277),
    "io_setup": (206, 0),
    "io_destroy": (207, 1),
    "io_getevents": (208, 4),
    "io_submit": (209, 2),
    "io_cancel": (210, 3),
    "io_pgetevents": (333, 292),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "inotify_rm_watch": (255, 28),
    "sync": (162, 81),
    "syncfs": (306, 267),
    "fcntl": (72, 25),
    "mmap": (9, 222),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "clone": (56, 220),
    "personality": (135, 92),
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "ioctl": (16, 29),
    "prctl": (157, 167),
    "clone3": (435, 435),
    "memfd_create": (319, 279),
}

_DENIED = [
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd", "perf_event_open",
    "bpf", "userfaultfd", "mount", "umount2", "pivot_root", "chroot", "mount_setattr", "open_tree", "move_mount",
    "fsopen", "fsconfig", "fsmount", "fspick", "unshare", "setns", "swapon", "swapoff", "keyctl", "add_key",
    "request_key", "io_uring_setup", "io_uring_enter", "io_uring_register", "shmget", "shmat", "shmctl", "shmdt",
    "semget", "semop", "semctl", "semtimedop", "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink",
    "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr", "init_module", "finit_module", "delete_module",
    "kexec_load", "kexec_file_load", "reboot", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "acct",
    "quotactl", "quotactl_fd", "open_by_handle_at", "name_to_handle_at", "fanotify_init", "fanotify_mark",
    "lookup_dcookie", "syslog", "sethostname", "setdomainname", "vhangup", "nfsservctl", "iopl", "ioperm",
    "modify_ldt", "uselib", "ustat", "sysfs", "_sysctl", "create_module", "get_kernel_syms", "query_module",
    "move_pages", "migrate_pages", "mbind", "set_mempolicy", "set_mempolicy_home_node", "memfd_secret", "seccomp",
    "io_setup", "io_destroy", "io_getevents", "io_submit", "io_cancel", "io_pgetevents",
    "inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch",
]  # fmt: skip
"""Calls that answer EPERM. Some reach beyond the box; others (asynchronous I/O, keys, inotify, message queues …) use resources that
the kernel counts for the whole machine or for the user who owns the box."""
_WITHOUT_EFFECT = ["sync", "syncfs"]
"""Calls that answer 0 and do nothing: they would write out the file systems of the whole machine."""
_UNSUPPORTED = ["setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"]


@dataclass(frozen=True)
class _Rule:
    """Answers `error` if the 32 low bits of an argument match (or, `unless`, don't match) one of the values or the mask."""

    argument: int
    error: int
    values: tuple[int, ...] = ()
    mask: int = 0
    unless: bool = False


@dataclass(frozen=True)
class _Both:
    """Allows what neither of two rules answers with an error; the first may have one value only."""

    first: _Rule
    second: _Rule


_SELF_ONLY = _Rule(0, EPERM, (0,), unless=True)
_RULES: dict[str, int | _Rule | _Both] = {
    "socket": _Rule(0, EAFNOSUPPORT, (1,), unless=True),
    "socketpair": _Rule(0, EAFNOSUPPORT, (1,), unless=True),
    "clone": _Rule(0, EPERM, mask=_NAMESPACES),
    "personality": _Rule(0, EPERM, (0, 0xFFFFFFFF), unless=True),
    "prlimit64": _SELF_ONLY,
    "sched_setaffinity": _SELF_ONLY,
    "sched_setscheduler": _SELF_ONLY,
    "sched_setparam": _SELF_ONLY,
    "sched_setattr": _SELF_ONLY,
    # Of all processes of a user (the last of the three kinds) the box's server may be one.
    "setpriority": _Both(_Rule(0, EPERM, (2,)), _Rule(1, EPERM, (0,), unless=True)),
    "ioprio_set": _Both(_Rule(0, EPERM, (3,)), _Rule(1, EPERM, (0,), unless=True)),
    # TIOCSTI, TIOCLINUX, TIOCSETD, and the calls that set inode flags
    "ioctl": _Rule(1, EPERM, (0x5412, 0x541C, 0x5423, 0x40086602, 0x40046602, 0x401C5820)),
    "prctl": _Rule(0, EPERM, (22,)),
    # F_SETLEASE stalls others who open the file; F_NOTIFY and F_SETPIPE_SZ use what is counted per user.
    "fcntl": _Rule(1, EPERM, (1024, 1026, 1031)),
    # MAP_HUGETLB and MFD_HUGETLB take from the machine's huge pages.
    "mmap": _Rule(3, ENOMEM, mask=0x40000),
    "memfd_create": _Rule(1, EPERM, mask=0x4),
}


def _instruction(code: int, jump_true: int, jump_false: int, constant: int) -> bytes:
    return struct.pack("HBBI", code, jump_true, jump_false, constant)


def _load(offset: int) -> bytes:
    return _instruction(0x20, 0, 0, offset)


def _return(action: int) -> bytes:
    return _instruction(0x06, 0, 0, action)


def _leaf(action: int | _Rule | _Both) -> list[bytes]:
    if isinstance(action, int):
        return [_return(action)]
    if isinstance(action, _Both):
        first = action.first
        refuse = [_instruction(0x15, 0, 1, first.values[0]), _return(_ERRNO | first.error)]
        return [_load(16 + 8 * first.argument), *refuse, *_leaf(action.second)]
    deny, allow = _return(_ERRNO | action.error), _return(ALLOW)
    code = [_load(16 + 8 * action.argument)]
    if action.mask:
        return [*code, _instruction(0x45, 0, 1, action.mask), deny, allow]
    matched, otherwise = (allow, deny) if action.unless else (deny, allow)
    for position, value in enumerate(action.values):
        code.append(_instruction(0x15, len(action.values) - position, 0, value))
    return [*code, otherwise, matched]


def _tree(segments: list[tuple[int, int | _Rule | _Both]]) -> list[bytes]:
    if len(segments) == 1:
        return _leaf(segments[0][1])
    middle = len(segments) // 2
    left, right = _tree(segments[:middle]), _tree(segments[middle:])
    return [
        _instruction(0x35, 0, 1, segments[middle][0]),
        _instruction(0x05, 0, 0, len(left)),
        *left,
        *right,
    ]


def build(*, memory_files: bool, machine: str | None = None) -> bytes:
    """The filter as an array of `struct sock_filter`.

    Args:
        memory_files: allow `memfd_create`; only where a memory group counts what is written to them.
        machine: `x86_64` or `aarch64`; None is this machine.

    Raises:
        Unavailable: the architecture has no table yet.
    """
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        raise Unavailable(f"no system call table for {machine}; there are tables for {', '.join(_ARCHITECTURES)}")
    column = list(_ARCHITECTURES).index(machine)
    actions: dict[int, int | _Rule | _Both] = {}
    answers: dict[str, int | _Rule | _Both] = dict.fromkeys(_DENIED, _ERRNO | EPERM)
    answers |= dict.fromkeys(_WITHOUT_EFFECT, _ERRNO)
    answers |= dict.fromkeys(_UNSUPPORTED, _ERRNO | EOPNOTSUPP) | _RULES | {"clone3": _ERRNO | ENOSYS}
    if not memory_files:
        answers["memfd_create"] = _ERRNO | EPERM
    for name, answer in answers.items():
        number = _NUMBERS[name][column]
        if number is not None:
            actions[number] = answer
    segments: list[tuple[int, int | _Rule | _Both]] = []
    for number in range(LAST_KNOWN + 1):
        action = actions.get(number, ALLOW)
        if not segments or segments[-1][1] != action:
            segments.append((number, action))
    segments.append((LAST_KNOWN + 1, _ERRNO | ENOSYS))
    return b"".join(
        [
            _load(4),
            _instruction(0x15, 1, 0, _ARCHITECTURES[machine]),
            _return(_KILL),
            _load(0),
            *_tree(segments),
        ]
    )
