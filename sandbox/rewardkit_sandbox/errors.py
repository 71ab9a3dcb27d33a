"""Errors of the sandbox. A program's own failure is not an exception: it is an `Execution` with a status.

SandboxError                 nothing is known about the program: not scored, never wrong
├── Unavailable              no backend, engine, image or permission; the message says what to do
├── BoxDied                 the box went away in the middle (retried on another one before you see it)
├── Closed                   the sandbox was closed while programs were waiting
└── BadTests                 the tests themselves can't be used (they don't compile, or fail without the program)
"""


class SandboxError(Exception):
    """The sandbox could not do its work."""


class Unavailable(SandboxError):
    """No sandbox is available. Programs never run without one."""


class BoxDied(SandboxError):
    """A box stopped answering or ended while a program was in it."""


class Closed(SandboxError):
    """The sandbox is closed."""


class BadTests(SandboxError):
    """The test code can't be used; the program is not to blame."""
