"""Compare the accuracy and CPU time of rewardkit-math and Math-Verify on labelled data, in one process.

    pip install math-verify[antlr4_13_2]==0.9.0
    python benchmarks/math_verify.py [--sample 60] [--all]

REWARDKIT_DATA names the folder of the data; the default is `../shared/data` beside the repository. Accuracy of rewardkit-math is
measured on every row. Times, and the accuracy of Math-Verify, are measured on a sample of every k-th row, with at most --sample rows,
or on every row with --all; of the hostile rows, on which Math-Verify runs into timeouts of ten seconds, never more than 12. Both
extract, parse and compare the same rows. rewardkit-math takes milliseconds for a sample, so the fastest of three passes counts, each
with empty caches. Math-Verify runs once, with its defaults; time that it spends until its own timeouts counts.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from rewardkit_math import verify
from rewardkit_math.reading import read_reference

DATA_MODULE = Path(__file__).resolve().parents[1] / "plugins" / "math" / "tests" / "math_data.py"
SETS = {
    "mathverify_cases": "Math-Verify's own tests",
    "peer_cases/core": "peers' tests, core",
    "peer_cases/qwen": "peers' tests, Qwen solutions",
    "math5000_derived": "MATH answers, rewritten and perturbed",
    "adversarial_cases": "hostile and tricky pairs",
    "gsm8k": "GSM8K model solutions",
    "cot": "MATH full solutions",
}
HOSTILE_SAMPLE = 12
"""The most hostile rows that Math-Verify gets."""

Case = tuple[str, str, bool, dict[str, Any]]


def load_data() -> Any:
    """Load the module that reads the data."""
    spec = importlib.util.spec_from_file_location("math_data", DATA_MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(cases: list[Case]) -> tuple[float, list[bool | None], int]:
    """Return CPU seconds, verdicts, and the number of rows that reached the symbolic tier."""
    read_reference.cache_clear()
    symbolic = 0
    verdicts: list[bool | None] = []
    started = time.process_time()
    for prediction, reference, _, _ in cases:
        verdict = verify(prediction, reference)
        verdicts.append(verdict.correct)
        symbolic += verdict.tier == "symbolic"
    return time.process_time() - started, verdicts, symbolic


def theirs(peer: Any, cases: list[Case]) -> tuple[float, list[bool | None]]:
    """Return the CPU seconds and verdicts of Math-Verify."""
    verdicts: list[bool | None] = []
    started = time.process_time()
    for prediction, reference, _, _ in cases:
        try:
            verdicts.append(bool(peer.verify(peer.parse(reference), peer.parse(prediction))))
        except Exception:  # noqa: BLE001 - a crash of the peer is a verdict it did not give
            verdicts.append(None)
    return time.process_time() - started, verdicts


def sampled(cases: list[Case], size: int) -> list[Case]:
    """Return every k-th row, at most `size` of them; all rows if `size` is 0."""
    return cases[:: -(-len(cases) // size)] if size else cases


def agreement(cases: list[Case], verdicts: list[bool | None]) -> str:
    """Return the number of verdicts that agree with their labels, and the number of false positives, as text."""
    right = sum(v is e for (_, _, e, _), v in zip(cases, verdicts, strict=True))
    false_positives = sum(v is True and e is False for (_, _, e, _), v in zip(cases, verdicts, strict=True))
    return f"{right}/{len(cases)} = {100 * right / len(cases):.2f} % (fp {false_positives})"


def row(name: str, cases: list[Case], peer: Any, size: int) -> None:
    """Measure and print one line."""
    verify("1", "1")
    _, verdicts, symbolic = ours(cases)
    sample = sampled(cases, size)
    seconds = min(ours(sample)[0] for _ in range(3))
    speed = f"{len(sample) / max(seconds, 1e-9):,.0f}/s"
    line = f"{name:<38} {agreement(cases, verdicts):<34} {speed:>10}  symbolic {100 * symbolic / len(cases):.2f} %"
    if peer is not None:
        peer_seconds, peer_verdicts = theirs(peer, sample)
        peer_speed = f"{len(sample) / max(peer_seconds, 1e-9):,.0f}/s"
        line += (
            f"   {agreement(sample, peer_verdicts):<32} {peer_speed:>8}   {peer_seconds / max(seconds, 1e-9):>6.0f}x"
        )
    print(line, flush=True)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=60, help="rows per line that are timed (default %(default)s)")
    parser.add_argument("--all", action="store_true", help="time every row (takes minutes)")
    arguments = parser.parse_args()
    size = 0 if arguments.all else arguments.sample
    data = load_data()
    sys.path[:] = [
        p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent
    ]  # this file has the peer's name
    try:
        import math_verify as peer

        logging.disable(logging.CRITICAL)
        peer.verify(peer.parse("1"), peer.parse("$2$"))
    except ImportError:
        peer = None
        print("Math-Verify is not installed: ours alone (pip install 'math-verify[antlr4_13_2]==0.9.0')")
    print(f"{'set':<38} {'rewardkit-math':<66}   {'Math-Verify (sample)':<41}   ratio of CPU time")
    kinds: dict[str, list[Case]] = defaultdict(list)
    missing = 0
    for name, title in SETS.items():
        cases = data.cases(name)
        if cases is None:
            print(f"{title:<38} no data in {data.DATA}")
            missing += 1
            continue
        cases = [c for c in cases if c[2] is not None]
        if name == "math5000_derived":
            for case in cases:
                kinds[case[3]["kind"]].append(case)
        rows = size * 5 if name == "math5000_derived" else size
        row(title, cases, peer, HOSTILE_SAMPLE if name == "adversarial_cases" else rows)
    print("\nMATH answers by kind")
    for kind, cases in sorted(kinds.items()):
        row(f"  {kind}", cases, peer, size)
    return 1 if missing == len(SETS) else 0


if __name__ == "__main__":
    sys.exit(main())
