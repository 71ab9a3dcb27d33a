"""Coverage-guided fuzzing, bounded: `python plugins/math/tests/fuzz_verify.py -max_total_time=60` (needs `pip install atheris`).

Findings are exceptions, verdicts that take longer than TOO_LONG_S, answers that differ from themselves, and pairs whose verdict depends
on their order.
"""

# ruff: noqa: T201

from __future__ import annotations

import sys
import time

TOO_LONG_S = 2.0


def one(first: str, second: str) -> None:
    """Check the properties that hold for any two texts."""
    from rewardkit_math import verify  # the fuzzer instruments what is imported later

    started = time.process_time()
    verdict = verify(first, second, symbolic=False)
    assert time.process_time() - started < TOO_LONG_S, "too slow"
    back = verify(second, first, symbolic=False)
    if not verdict.failure and not back.failure:
        assert verdict.correct == back.correct, (verdict, back)
    itself = verify(first, first, symbolic=False)
    assert itself.correct is not False or not itself.prediction, itself


def main() -> int:
    """Run the fuzzer with the arguments of libFuzzer."""
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: pip install atheris")
        return 2

    with atheris.instrument_imports(include=["rewardkit_math"]):
        import rewardkit_math  # noqa: F401

    def test(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        first = provider.ConsumeUnicode(200)
        one(first, first if provider.ConsumeBool() else provider.ConsumeUnicode(200))

    atheris.Setup(sys.argv, test)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
