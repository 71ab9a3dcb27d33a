"""Several processes fail and end together: what one of them raises, or its death, ends the others with a clear word.

Left alone, the others would wait in a collective for a process that never comes: for gloo until its connections break, for NCCL until
torch's own limit of ten minutes. So the first process holds a line to each of the others, beside torch.distributed. A failure is told
over it, and a death breaks it; which failure it was is said once, by the first process as long as it lives.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

import orjson
from torch import distributed

from rewardkit.errors import EngineError, RewardkitError
from rewardkit.train.distributed import collectives

logger = logging.getLogger(__name__)
HELLO_S = 20.0
"""How long processes have to find each other."""
GRACE_S = 60.0
"""How long a process that can't be reached, since it waits for another one that has failed, may go on before it is ended."""
NEWS_S = 3.0
"""How much later than a broken connection the news of what broke it may come."""

BYE = "bye"
LOST = "it ended without a word, killed perhaps for want of memory; the same command goes on from what is kept"


class PeerError(RewardkitError):
    """Another of several processes has failed."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Failure:
    """What became of a process."""

    rank: int
    text: str
    code: int = 1
    """Its exit code."""
    is_engines: bool = False
    """Whether it is an EngineError."""
    meeting: int | None = None
    """The end of ``raise_on_all_ranks`` (how many have been before) that it will still come to; None: it takes part in nothing more."""

    @classmethod
    def of(cls, error: BaseException, meeting: int | None = None) -> Failure:
        """An exception of this process."""
        text = str(error) if isinstance(error, RewardkitError) else f"{type(error).__name__}: {error}".rstrip(": ")
        code = error.exit_code if isinstance(error, RewardkitError) else 1
        if isinstance(error, KeyboardInterrupt):
            text, code = "interrupted", 130
        return cls(collectives.rank(), text, code, isinstance(error, EngineError), meeting)

    def error(self) -> RewardkitError:
        """As it is raised in the other processes."""
        text = f"process {self.rank}: {self.text}"
        return EngineError(text) if self.is_engines else PeerError(text, self.code)


class Line:
    """What this process hears of the others, and tells them. From the first process lines go to all others."""

    def __init__(self) -> None:
        """Find the other processes; where they can't be reached, torch's own ways have to do."""
        self.rank = collectives.rank()
        self.failure: Failure | None = None
        """Of another process; the first that was heard of, unless a later one is for good."""
        self.meetings = 0
        """How many ends of ``raise_on_all_ranks`` all have come to."""
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._first_spoke: bool | None = None
        """Whether the first process said all that it had to say before it left; None: it is still there."""
        self._patience: threading.Timer | None = None
        self._lines: dict[int, socket.socket] = {}
        server = _listening() if self.rank == 0 else None
        address = None if server is None else (_host(), server.getsockname()[1], secrets.token_hex())
        found = collectives.all_gather([address])[0]
        try:
            if server is not None and found is not None:
                self._await_others(server, found[2])
            elif found is not None:
                self._find_first(*found)
        except OSError as error:
            logger.warning(
                "process %s has no line to the others (%s): it may notice late that one has failed", self.rank, error
            )
        finally:
            if server is not None:
                server.close()
        for rank, line in self._lines.items():
            threading.Thread(target=self._listen, args=(rank, line), name=f"rewardkit-line-{rank}", daemon=True).start()

    def tell(self, failure: Failure) -> None:
        """Let all others know of a failure of this process."""
        self._send(asdict(failure))

    def cause(self, error: BaseException) -> Failure | None:
        """Another process's failure, if an exception of this one is but its consequence."""
        if isinstance(error, KeyboardInterrupt | PeerError):
            return None
        if isinstance(error, RewardkitError) and not isinstance(error, EngineError):
            return None
        with self._changed:
            if not isinstance(error, RewardkitError):  # such as torch's; the news of what broke it may be on the way
                self._changed.wait_for(lambda: self.failure is not None, NEWS_S)
            return self.failure

    def settle(self) -> None:
        """All know what became of each."""
        with self._changed:
            self.meetings += 1
            if self.failure is not None and self.failure.meeting is not None and self.failure.meeting < self.meetings:
                self.failure = None  # who is quicker may have told of the next one
                self._be_patient()

    def leave(self) -> bool:
        """Nothing more will come from this process; returns whether the first one has spoken, or will do."""
        with self._changed:
            self._be_patient()
        self._send(BYE)
        if self.rank == 0:
            return False
        with self._changed:
            self._changed.wait_for(lambda: self._first_spoke is not None or not self._lines, GRACE_S + NEWS_S)
            return bool(self._first_spoke)

    def _await_others(self, server: socket.socket, secret: str) -> None:
        server.settimeout(HELLO_S)
        while len(self._lines) < collectives.size() - 1:
            line, _ = server.accept()
            line.settimeout(HELLO_S)
            with line.makefile("rb", buffering=0) as stream:  # what comes after this line is for somebody else
                rank, _, key = stream.readline(1000).decode(errors="replace").strip().partition(" ")
            if hmac.compare_digest(key.encode(), secret.encode()):
                line.settimeout(None)
                self._lines[int(rank)] = line
            else:
                line.close()  # somebody else's

    def _find_first(self, host: str, port: int, secret: str) -> None:
        line = socket.create_connection((host, port), HELLO_S)
        line.settimeout(None)
        self._lines[0] = line
        line.sendall(f"{self.rank} {secret}\n".encode())

    def _send(self, message: object, but: int | None = None) -> None:
        for rank, line in self._lines.items():
            if rank != but:
                with self._sending, suppress(OSError):  # that it is dead is noticed by who listens to it
                    line.sendall(orjson.dumps(message) + b"\n")

    def _listen(self, rank: int, line: socket.socket) -> None:
        """Until the line ends."""
        said_bye = False
        with suppress(OSError, ValueError), line.makefile("rb") as stream:  # or it breaks within a message
            for text in stream:
                message = orjson.loads(text)
                said_bye = message == BYE
                if said_bye:
                    break
                self._hear(Failure(**message), by=rank)
        if not said_bye:
            self._hear(Failure(rank, LOST), by=rank)
        if rank == 0:
            with self._changed:
                self._first_spoke = said_bye
                self._changed.notify_all()

    def _hear(self, failure: Failure, by: int) -> None:
        with self._changed:
            if failure.meeting is not None and failure.meeting < self.meetings:
                return  # all know already
            if self.failure is None or (self.failure.meeting is not None and failure.meeting is None):
                self.failure = failure
            if self._patience is None:
                self._patience = threading.Timer(GRACE_S, self._give_up)
                self._patience.daemon = True
                self._patience.start()
            self._changed.notify_all()
        if self.rank == 0:
            self._send(asdict(failure), but=by)

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        """End a process that is stuck, without more ado; files on the disk are whole at any time."""
        assert self.failure is not None  # noqa: S101 - for the type checker
        if self.rank == 0 or self.failure.rank == 0:
            cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # which the view hides
            print(f"{cursor}error: {self.failure.error()}", file=sys.stderr, flush=True)  # noqa: T201
        self._send(BYE)
        os._exit(self.failure.code)


_line: Line | None = None
"""While processes are together."""


@contextmanager
def together() -> Iterator[None]:
    """End all processes when one of them fails inside.

    The first process raises what is to be said; the others leave with the same exit code, without a word. Where a process other than
    the first raises what it should not, its traceback is printed there.

    Raises:
        PeerError: Another process has failed.
        SystemExit: This process has failed, or another one, and the first has said it.
    """
    global _line  # noqa: PLW0603 - as torch's own process group is
    if collectives.size() == 1:
        yield
        return
    line = _line = Line()
    try:
        yield
    except BaseException as error:
        _end(line, error)
        raise
    else:
        line.leave()
    finally:
        _line = None


def _end(line: Line, error: BaseException) -> None:
    """Leave because of an exception; raises something else where that says better what happened."""
    cause = line.cause(error)
    own = Failure.of(error)
    if cause is None and not isinstance(error, PeerError):
        line.tell(own)
        if line.rank > 0 and not isinstance(error, RewardkitError | KeyboardInterrupt | SystemExit):
            traceback.print_exception(error)
    if distributed.is_initialized() and distributed.get_backend() == "gloo":
        traceback.clear_frames(error.__traceback__)  # what they hold would keep the connections open
        with suppress(RuntimeError, ValueError, AssertionError):
            distributed.destroy_process_group()  # so that who waits for this process in a collective waits no more
    if line.leave():
        raise SystemExit((cause or own).code) from None
    if cause is not None:
        raise cause.error() from None


def check() -> None:
    """Raise PeerError if another process has failed. Something that takes long and waits for nobody calls it now and then."""
    if _line is not None and _line.failure is not None:
        raise PeerError(str(_line.failure.error()), _line.failure.code)


@contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """What one process raises inside, all raise at the end: an EngineError as such, anything else as PeerError.

    For what each process does for itself, so that all can do together what is still to be done, such as a checkpoint. All
    processes have to come here; who waits for another inside may be ended without a checkpoint.
    """
    line = _line
    if line is None:
        yield
        return
    own: Exception | None = None
    try:
        yield
    except PeerError:
        if line.failure is None or line.failure.meeting is None:
            raise  # it will not come
    except Exception as error:  # noqa: BLE001 - raised again below
        own = error
        line.tell(Failure.of(error, line.meetings))
    failures = collectives.all_gather([None if own is None else asdict(Failure.of(own, line.meetings))])
    line.settle()
    first = next((Failure(**failure) for failure in failures if failure is not None), None)
    if first is None:
        return
    if first.rank == line.rank and own is not None:
        raise own
    raise first.error()


def _host() -> str:
    """Where the first process is, as all know."""
    return os.environ.get("MASTER_ADDR", "localhost")


def _listening() -> socket.socket | None:
    """A port that the other processes are told of; at the known address alone, where this machine has it for its own."""
    for place in (_host(), ""):
        try:
            family = socket.getaddrinfo(place, 0, type=socket.SOCK_STREAM)[0][0] if place else socket.AF_INET
            return socket.create_server((place, 0), family=family)
        except OSError as error:
            logger.debug("no port at %r: %s", place, error)
    return None
