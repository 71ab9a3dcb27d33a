"""Who answers Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
import threading

import pytest

from rewardkit.interrupts import answering

ASKED = (signal.SIGINT, signal.SIGTERM)


def test_it_is_answered_inside_and_given_back_outside():
    """However the inside ends."""
    before = [signal.getsignal(number) for number in ASKED]
    heard = []

    def answer(number, _frame):
        heard.append(number)
        raise LookupError

    for number in ASKED:
        with pytest.raises(LookupError), answering(answer, *ASKED):
            signal.raise_signal(number)
    assert heard == list(ASKED)
    assert [signal.getsignal(number) for number in ASKED] == before


def test_another_thread_runs_without():
    """There Python allows no handler, and what is inside runs all the same."""
    before, done = signal.getsignal(signal.SIGINT), []

    def inside():
        with answering(lambda *_: None, signal.SIGINT):
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert done == [before]
