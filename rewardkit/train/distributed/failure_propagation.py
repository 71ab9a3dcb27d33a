"""Failures in several processes: if one process fails or dies, all end with its error.

Without this, the others would wait in a collective for a process that never comes: with gloo until connections break, with NCCL
until the time-out of the process group. So the main process hosts a ``TCPStore``. A process that fails writes its failure there, every
process has a thread that looks for failures of the others, and counters that each process increments show which ones are alive. Each
failure is printed once, by the main process as long as it lives. (``torchrun`` also ends all processes when one has exited.)

A process that lives but does not come ends the run as well: a collective that has waited for the time-out of the process group raises,
and the error names the processes and their passes (``passes``).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta

import orjson
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from rewardkit.errors import EngineError, RewardkitError
from rewardkit.train.distributed import collectives, passes
from rewardkit.train.distributed.passes import Pass

logger = logging.getLogger(__name__)
POLL_S = 0.1
"""Seconds between looks for failures of other processes."""
CONNECT_S = 20.0
"""Seconds that connecting to the store may take."""
GRACE_S = 60.0
"""Seconds after which a stuck process is ended when another one has failed."""
NEWS_S = 3.0
"""Seconds by which the report of a failure may come later than the error of a broken collective."""
SILENT_S = 60.0
"""A process that has not incremented its counter for so long counts as dead."""
SILENT_IF_BROKEN_S = 1.5
"""The same, if a collective has broken."""

LOST = "the process ended without a message{where}, perhaps for lack of memory; run the same command again to resume"


class PeerError(RewardkitError):
    """Another process of this run failed."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PeerTimeoutError(RewardkitError):
    """Another process did not come to a collective within the time-out of the process group."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure of one process."""

    rank: int
    text: str
    code: int = 1
    """The exit code of the process."""
    is_engines: bool = False
    """The failure is an EngineError."""
    meeting: int | None = None
    """The number of the ``raise_on_all_ranks`` block that the process will still complete; None if it completes none."""

    @classmethod
    def of(cls, error: BaseException, meeting: int | None = None) -> Failure:
        """Describe an exception of this process."""
        text = str(error) if isinstance(error, RewardkitError) else f"{type(error).__name__}: {error}".rstrip(": ")
        code = error.exit_code if isinstance(error, RewardkitError) else 1
        if isinstance(error, KeyboardInterrupt):
            text, code = "interrupted", 130
        return cls(collectives.rank(), text, code, isinstance(error, EngineError), meeting)

    def error(self) -> RewardkitError:
        """Return the exception that the other processes raise."""
        text = f"process {self.rank}: {self.text}"
        return EngineError(text) if self.is_engines else PeerError(text, self.code)


class FailureChannel:
    """What this process knows of the failures of the others, and how it reports its own. All processes must create it together."""

    def __init__(self, timeout_s: float | None = None) -> None:
        """Connect the processes.

        Args:
            timeout_s: The time-out of the process group, in seconds; None if it is not known.
        """
        self.rank = collectives.rank()
        self.timeout_s = timeout_s
        self.passes = {rank: Pass() for rank in range(collectives.size())}
        """By rank: the pass in which a process was when this one last looked."""
        self.failure: Failure | None = None
        """The failure of another process: the first one, unless a later one is final."""
        self.meetings = 0
        """How many ``raise_on_all_ranks`` blocks all processes have completed."""
        self._size = collectives.size()
        self._changed = threading.Condition()
        self._grace: threading.Timer | None = None
        self._is_main_gone = False
        """The store can't be reached: the main process has ended."""
        self._has_main_failed = False
        """The main process has reported its failure, and prints it."""
        self._stop = threading.Event()
        self._heard = 0
        self._counters = dict.fromkeys(range(self._size), (0, time.monotonic()))
        """By rank: the last value of its counter, and when it last changed."""
        self._store = self._connect()
        if self._store is not None:
            threading.Thread(target=self._watch, name="rewardkit-failures", daemon=True).start()

    def report(self, failure: Failure) -> None:
        """Tell all others of a failure of this process."""
        if self._store is not None:
            with suppress(RuntimeError):
                number = self._store.add("failures", 1) - 1
                self._store.set(f"failure/{number}", orjson.dumps(asdict(failure)).decode())

    def cause(self, error: BaseException) -> Failure | None:
        """Return the failure of another process that an exception of this one is only a consequence of."""
        if isinstance(error, KeyboardInterrupt | PeerError):
            return None
        if isinstance(error, RewardkitError) and not isinstance(error, EngineError):
            return None
        if not isinstance(
            error, RewardkitError
        ):  # such as torch's: a collective broke, and the news of why may be on its way
            deadline = time.monotonic() + NEWS_S
            while self._failure() is None and time.monotonic() < deadline:
                self._stop.wait(POLL_S)
                if distributed.is_initialized() and isinstance(error, RuntimeError):
                    self._report_silent(SILENT_IF_BROKEN_S)
        return self._failure()

    def timeout_error(self, error: BaseException) -> RewardkitError | None:
        """Return what to raise instead of an exception of torch that says that a collective has timed out; otherwise None."""
        if not isinstance(error, RuntimeError) or isinstance(error, RewardkitError) or "imed out" not in str(error):
            return None
        self._read_passes()
        own = self.passes[self.rank] = passes.current()
        late = [rank for rank, other in self.passes.items() if rank != self.rank and other.number < own.number]
        others = late or [rank for rank in self.passes if rank != self.rank]
        where = ", ".join(f"process {rank} is still{self.passes[rank].where or ' at work'}" for rank in others)
        limit = "" if self.timeout_s is None else f" for {self.timeout_s:g} s"
        return PeerTimeoutError(
            f"process {self.rank} has waited{limit}{own.where}, and {where}. If it only is slow, raise collective_timeout; run the same "
            "command again to resume"
        )

    def settle(self) -> None:
        """Note that all processes have completed a ``raise_on_all_ranks`` block and know its failures."""
        with self._changed:
            self.meetings += 1
            if self.failure is not None and self.failure.meeting is not None and self.failure.meeting < self.meetings:
                self.failure = None  # a faster process may have reported the next one already
                self._cancel_grace()

    def leave(self) -> bool:
        """End the communication.

        Returns:
            Whether the main process prints what happened, so that this one need not.
        """
        with self._changed:
            self._cancel_grace()
        if self._store is None or self._has_main_failed:
            return self._has_main_failed
        with suppress(RuntimeError):
            self._store.set(f"left/{self.rank}", "1")
        if self.rank == 0:
            # The store ends with this process, so the others get a moment to read it.
            self._wait_for(lambda: self._value("read") >= self._alive_others(), NEWS_S)
            self._stop.set()
            return False
        has_left = self._wait_for(lambda: self._has_main_failed or self._has("left/0"), GRACE_S + NEWS_S)
        self._stop.set()
        if has_left and not self._has_main_failed:
            with suppress(RuntimeError):
                self._store.add("read", 1)
        return has_left

    # --- the store -----------------------------------------------------------------------------------------------------

    def _connect(self) -> TCPStore | None:
        """Connect all processes to a store of the main process; without it, torch's own time-outs apply."""
        host, timeout = os.environ.get("MASTER_ADDR", "localhost"), timedelta(seconds=CONNECT_S)
        store, port = None, 0
        try:
            if self.rank == 0:
                store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=timeout)
                port = store.port
        except RuntimeError as error:
            logger.warning("processes can't tell each other of failures: %s", error)
        port = collectives.all_gather([port])[0]
        try:
            if self.rank > 0 and port:
                store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timeout)
        except RuntimeError as error:
            logger.warning("process %s may notice late that another one has failed: %s", self.rank, error)
        return store

    def _watch(self) -> None:
        """Look for failures of others until this process leaves. Runs in a thread of its own."""
        assert self._store is not None  # noqa: S101 - the thread is only started with a store
        own, last_check, published = f"alive/{self.rank}", time.monotonic(), Pass()
        while not self._stop.wait(POLL_S):
            try:
                self._store.add(own, 1)
                if (own_pass := passes.current()) is not published:
                    published = own_pass
                    self._store.set(f"pass/{self.rank}", orjson.dumps(asdict(published)).decode())
                while self._heard < self._store.add("failures", 0):
                    if not self._store.check([f"failure/{self._heard}"]):
                        break  # it is being written
                    failure = Failure(**orjson.loads(self._store.get(f"failure/{self._heard}")))
                    self._heard += 1
                    if failure.rank != self.rank:
                        self._hear(failure)
                    if failure.rank == 0 != self.rank and failure.meeting is None:
                        self._has_main_failed = True
                        self._store.add("read", 1)
                        return  # the store is about to end
                if time.monotonic() - last_check > 1:
                    last_check = time.monotonic()
                    self._read_passes()
                    self._report_silent(SILENT_S)
            except RuntimeError:  # the store is gone, and the main process with it
                if not self._stop.is_set():
                    with self._changed:
                        self._is_main_gone = True
                        self._changed.notify_all()
                    self._hear(self._lost(0))
                return

    def _report_silent(self, limit_s: float) -> None:
        """Treat processes whose counters have not changed for so long, and that have not left, as dead."""
        if self._store is None or self._is_main_gone:
            return
        with suppress(RuntimeError):
            for rank in range(self._size):
                if rank == self.rank:
                    continue
                value, now = self._store.add(f"alive/{rank}", 0), time.monotonic()
                known, since = self._counters[rank]
                if value != known:
                    self._counters[rank] = value, now
                elif now - since > limit_s and not self._store.check([f"left/{rank}"]):
                    self._read_passes()
                    self._hear(self._lost(rank))

    def _read_passes(self) -> None:
        """Read in which passes the other processes are."""
        if self._store is None or self._is_main_gone:
            return
        with suppress(RuntimeError):
            for rank in self.passes:
                if rank != self.rank and self._store.check([f"pass/{rank}"]):
                    self.passes[rank] = Pass(**orjson.loads(self._store.get(f"pass/{rank}")))

    def _lost(self, rank: int) -> Failure:
        return Failure(rank, LOST.format(where=self.passes[rank].where))

    def _alive_others(self) -> int:
        """Return how many other processes have a counter that has changed lately."""
        now = time.monotonic()
        self._report_silent(SILENT_S)
        return sum(now - since < SILENT_IF_BROKEN_S for rank, (_, since) in self._counters.items() if rank != self.rank)

    def _wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self._is_main_gone or time.monotonic() > deadline:
                return False
            time.sleep(POLL_S / 2)
        return True

    def _has(self, key: str) -> bool:
        try:
            return self._store is not None and bool(self._store.check([key]))
        except RuntimeError:
            self._is_main_gone = True
            return False

    def _value(self, key: str) -> int:
        try:
            return 0 if self._store is None else int(self._store.add(key, 0))
        except RuntimeError:
            return 0

    # --- failures of others --------------------------------------------------------------------------------------------

    def _failure(self) -> Failure | None:
        with self._changed:
            return self.failure

    def _hear(self, failure: Failure) -> None:
        with self._changed:
            if failure.meeting is not None and failure.meeting < self.meetings:
                return  # all processes know of it
            if self.failure is None or (self.failure.meeting is not None and failure.meeting is None):
                self.failure = failure
            if self._grace is None:
                self._grace = threading.Timer(GRACE_S, self._give_up)
                self._grace.daemon = True
                self._grace.start()
            self._changed.notify_all()

    def _cancel_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    def _give_up(self) -> None:
        """End a process that is stuck. Files on disk are complete at any time."""
        assert self.failure is not None  # noqa: S101 - the timer starts with a failure
        if self.rank == 0 or self.failure.rank == 0:
            cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # the progress display hides it
            print(f"{cursor}error: {self.failure.error()}", file=sys.stderr, flush=True)  # noqa: T201
        if self._store is not None:
            with suppress(RuntimeError):
                self._store.set(f"left/{self.rank}", "1")
        if self.rank == 0:
            time.sleep(NEWS_S)  # the store ends with this process, and the others may be about to read it
        os._exit(self.failure.code)


_channel: FailureChannel | None = None
"""The channel of the ``propagate_failures`` block that is running."""


@contextmanager
def propagate_failures(timeout_s: float | None = None) -> Iterator[None]:
    """End all processes if one of them fails inside.

    The main process raises what is to be printed; the others exit with the same code, silently. If another process raises an
    unexpected exception, its traceback is printed there.

    Args:
        timeout_s: The time-out of the process group, in seconds, for the message of a process that has waited for so long.

    Raises:
        PeerError: Another process failed.
        PeerTimeoutError: Another process did not come to a collective within the time-out.
        SystemExit: This process or another one failed, and the main process prints it.
    """
    global _channel  # noqa: PLW0603 - one per process, as torch's process group is
    if collectives.size() == 1:
        yield
        return
    channel = _channel = FailureChannel(timeout_s)
    try:
        yield
    except BaseException as error:
        _end(channel, error)
        raise
    else:
        channel.leave()
    finally:
        _channel = None


def _end(channel: FailureChannel, error: BaseException) -> None:
    """Leave because of an exception; raise something else if that describes better what happened."""
    cause = channel.cause(error)
    timeout = channel.timeout_error(error) if cause is None else None
    own = Failure.of(timeout or error)
    if cause is None and not isinstance(error, PeerError):
        channel.report(own)
        if channel.rank > 0 and not isinstance(timeout or error, RewardkitError | KeyboardInterrupt | SystemExit):
            traceback.print_exception(error)
    if distributed.is_initialized() and distributed.get_backend() == "gloo":
        traceback.clear_frames(error.__traceback__)  # what they hold would keep the connections open
        with suppress(RuntimeError, ValueError, AssertionError):
            distributed.destroy_process_group()  # so that others that wait for this process in a collective stop waiting
    if channel.leave():
        raise SystemExit((cause or own).code) from None
    if cause is not None:
        raise cause.error() from None
    if timeout is not None:
        raise timeout from error


def raise_if_peer_failed() -> None:
    """Raise PeerError if another process has failed. Long work that waits for no other process calls this now and then."""
    if _channel is not None and _channel.failure is not None:
        raise PeerError(str(_channel.failure.error()), _channel.failure.code)


@contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """Make all processes raise at the end of the block what one of them raised inside.

    An EngineError stays one; anything else becomes a PeerError in the other processes. This is for work that each process does for
    itself, so that all can still do something together afterwards, such as saving a checkpoint. All processes must enter the block.
    A process that waits for another one inside may be ended without a checkpoint.
    """
    channel = _channel
    if channel is None:
        yield
        return
    own: Exception | None = None
    try:
        yield
    except PeerError:
        if channel.failure is None or channel.failure.meeting is None:
            raise  # the process that failed will not complete this block
    except Exception as error:  # noqa: BLE001 - raised again below
        own = error
        channel.report(Failure.of(error, channel.meetings))
    failures = collectives.all_gather([None if own is None else asdict(Failure.of(own, channel.meetings))])
    channel.settle()
    first = next((Failure(**failure) for failure in failures if failure is not None), None)
    if first is None:
        return
    if first.rank == channel.rank and own is not None:
        raise own
    raise first.error()
