"""Tests of the handlers of Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
import threading

import pytest

from rewardkit.interrupts import answering, remembering_interrupts, was_interrupted

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
    """In another thread, where Python allows no handler, the block runs without one."""
    before, done = signal.getsignal(signal.SIGINT), []

    def inside():
        with answering(lambda *_: None, signal.SIGINT):
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert done == [before]


def test_a_swallowed_interrupt_is_remembered():
    """A library may swallow the KeyboardInterrupt; the interrupt is still known, and forgotten afterwards."""
    before = signal.getsignal(signal.SIGINT)
    with remembering_interrupts():
        assert not was_interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert was_interrupted()
    assert not was_interrupted()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_interrupt_stays_ignored():
    """Ctrl-C stays ignored where it was ignored, as in background jobs of scripts."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with remembering_interrupts():
            signal.raise_signal(signal.SIGINT)
            assert not was_interrupted()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
