"""Audit the reward functions that come with other libraries, and print what the known cheats get.

    python benchmarks/audit_peers.py [--rows 40] [--data FOLDER] [--open-r1 FOLDER] [--verifiers-legacy FOLDER] [--only NAME]

Functions of libraries that are not installed are left out: run it in one environment for TRL, lighteval and verifiers, and in another
for verl. open-r1 is not on PyPI: --open-r1 names the folder ``src`` of a checkout. The rubrics of verifiers are in releases up to 0.3:
--verifiers-legacy names the folder of an unpacked wheel. The prompts are of GSM8K, each with a right and a wrong solution by a model,
as FOLDER/rollouts/gsm8k_model_solutions.jsonl labels them, in the form that the function documents.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import io
import itertools
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rewardkit import load_reward
from rewardkit.insight.audit import Levels, attack, honest_rows, levels_of
from rewardkit.insight.cheats import CHEATS

# Not the folder of this file, in which a module has the name of a library that these functions import.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
HERE = str(Path(__file__).resolve())
SECONDS = 300
"""The most that one call may take, with the import of its library."""
BOXED = "{work}\nThe answer is \\boxed{{{answer}}}."
HASHES = "{work}\n#### {answer}"
TAGS = "<think>\n{work}\n</think>\n<answer>\n{answer}\n</answer>"
BOXED_TAGS = "<think>\n{work}\n</think>\n<answer>\n\\boxed{{{answer}}}\n</answer>"
AFTER_THOUGHT = "<think>\n{work}\n</think>\nThe answer is \\boxed{{{answer}}}."
SAID = "{work}\nAnswer: {answer}"


@dataclass(frozen=True)
class Peer:
    """A function of another library."""

    library: str
    name: str
    """Its name in that library."""
    use: str
    """What a reward file calls: the function, or one of this file that calls it as its documentation says."""
    form: str
    options: dict[str, Any] = field(default_factory=dict)
    judges: bool = True
    """False for a function that rewards form alone, which its library means to be combined with another."""


def open_r1_cosine(completions: list[Any], solution: list[str], **_: Any) -> Any:
    """Open-r1's reward of right and short answers."""
    from open_r1.rewards import get_cosine_scaled_reward

    return get_cosine_scaled_reward()(completions=completions, solution=solution)


def verl_geo3k(solution_str: str, ground_truth: str) -> float:
    """Call verl's reward of geometry problems."""
    from verl.utils.reward_score import geo3k

    return float(geo3k.compute_score(solution_str, ground_truth))


def verl_prime(solution_str: str, ground_truth: str) -> float:
    """Call verl's reward of PRIME's mathematics, as ``default_compute_score`` reads its result."""
    from verl.utils.reward_score import prime_math

    return float(prime_math.compute_score(solution_str, ground_truth)[0])


def verl_search(solution_str: str, ground_truth: str) -> float:
    """Call verl's exact match of questions with search."""
    from verl.utils.reward_score import search_r1_like_qa_em

    return float(search_r1_like_qa_em.compute_score(solution_str, {"target": [ground_truth]}))


def verl_search_part(solution_str: str, ground_truth: str) -> float:
    """Call verl's exact match of a part of the answer."""
    from verl.utils.reward_score import search_r1_like_qa_em

    return float(search_r1_like_qa_em.compute_score_subem(solution_str, {"target": [ground_truth]}))


def verl_flexible(solution_str: str, ground_truth: str) -> float:
    """Call verl's reward of GSM8K with the method that accepts other forms."""
    from verl.utils.reward_score import gsm8k

    return float(gsm8k.compute_score(solution_str, ground_truth, method="flexible"))


@functools.cache
def _lighteval(name: str) -> Any:
    from lighteval.metrics import metrics_sample, normalizations

    match name:
        case "exact":
            return metrics_sample.ExactMatches(strip_strings=True)
        case "gsm8k":
            clean = normalizations.gsm8k_normalizer
            return metrics_sample.ExactMatches(normalize_pred=clean, normalize_gold=clean)
        case "f1":
            clean = normalizations.helm_normalizer
            return metrics_sample.F1_score(normalize_gold=clean, normalize_pred=clean, strip_strings=True)
    raise ValueError(name)


def lighteval_exact(solution_str: str, ground_truth: str) -> float:
    """Call lighteval's exact match."""
    return float(_lighteval("exact").compute_one_item(gold=ground_truth, pred=solution_str))


def lighteval_gsm8k(solution_str: str, ground_truth: str) -> float:
    """Call lighteval's exact match after its normalization of GSM8K."""
    return float(_lighteval("gsm8k").compute_one_item(gold=f"#### {ground_truth}", pred=solution_str))


def lighteval_f1(solution_str: str, ground_truth: str) -> float:
    """Call lighteval's F1 of words."""
    return float(_lighteval("f1").compute_one_item(gold=ground_truth, pred=solution_str))


def lighteval_extractive(solution_str: str, ground_truth: str) -> float:
    """Call lighteval's extractive match, which its mathematics tasks use."""
    from lighteval.metrics.dynamic_metrics import MultilingualExtractiveMatchMetric
    from lighteval.metrics.utils.extractive_match_utils import ExprExtractionConfig, LatexExtractionConfig
    from lighteval.models.model_output import ModelResponse
    from lighteval.tasks.requests import Doc
    from lighteval.utils.language import Language

    metric = MultilingualExtractiveMatchMetric(
        language=Language.ENGLISH,
        gold_extraction_target=[ExprExtractionConfig()],
        pred_extraction_target=[ExprExtractionConfig(), LatexExtractionConfig(boxed_match_priority=0)],
    )
    doc = Doc(query="", choices=[ground_truth], gold_index=0)
    return float(metric.compute(doc=doc, model_response=ModelResponse(text=[solution_str])))


def verifiers_math(solution_str: str, ground_truth: str) -> float:
    """Call what verifiers' MathRubric calls: its extraction, then its comparison."""
    from verifiers.legacy.rubrics.math_rubric import verify_response
    from verifiers.legacy.utils.data_utils import extract_boxed_answer

    said = solution_str.rpartition("</think>")[2]
    return float(verify_response(extract_boxed_answer(said, strict=True), ground_truth, 50_000)[0])


CHAT = {"chat": True}
ANSWER = {"reference": "answer"}
PEERS = (
    Peer("trl", "accuracy_reward", "trl.rewards.accuracy_rewards:accuracy_reward", BOXED, CHAT),
    Peer("trl", "reasoning_accuracy_reward", "trl.rewards.accuracy_rewards:reasoning_accuracy_reward", AFTER_THOUGHT, CHAT),
    Peer("trl", "think_format_reward", "trl.rewards.format_rewards:think_format_reward", AFTER_THOUGHT, CHAT, judges=False),
    Peer("verl", "gsm8k (strict)", "verl.utils.reward_score.gsm8k:compute_score", HASHES, ANSWER),
    Peer("verl", "gsm8k (flexible)", f"{HERE}:verl_flexible", HASHES, ANSWER),
    Peer("verl", "math_reward", "verl.utils.reward_score.math_reward:compute_score", BOXED, ANSWER),
    Peer("verl", "math_dapo", "verl.utils.reward_score.math_dapo:compute_score", SAID, ANSWER),
    Peer("verl", "prime_math", f"{HERE}:verl_prime", BOXED, ANSWER),
    Peer("verl", "geo3k", f"{HERE}:verl_geo3k", AFTER_THOUGHT, ANSWER),
    Peer("verl", "search_r1_like_qa_em", f"{HERE}:verl_search", TAGS, ANSWER),
    Peer("verl", "search_r1_like_qa_em (subem)", f"{HERE}:verl_search_part", TAGS, ANSWER),
    Peer("open_r1", "accuracy_reward", "open_r1.rewards:accuracy_reward", BOXED_TAGS, CHAT),
    Peer("open_r1", "get_cosine_scaled_reward()", f"{HERE}:open_r1_cosine", BOXED_TAGS, CHAT),
    Peer("open_r1", "format_reward", "open_r1.rewards:format_reward", BOXED_TAGS, CHAT, judges=False),
    Peer("open_r1", "tag_count_reward", "open_r1.rewards:tag_count_reward", BOXED_TAGS, CHAT, judges=False),
    Peer("open_r1", "reasoning_steps_reward", "open_r1.rewards:reasoning_steps_reward", BOXED_TAGS, CHAT, judges=False),
    Peer("lighteval", "ExactMatches", f"{HERE}:lighteval_exact", "{answer}", ANSWER),
    Peer("lighteval", "ExactMatches (gsm8k_normalizer)", f"{HERE}:lighteval_gsm8k", HASHES, ANSWER),
    Peer("lighteval", "F1_score", f"{HERE}:lighteval_f1", "{answer}", ANSWER),
    Peer("lighteval", "MultilingualExtractiveMatchMetric", f"{HERE}:lighteval_extractive", BOXED, ANSWER),
    Peer("verifiers", "MathRubric", f"{HERE}:verifiers_math", AFTER_THOUGHT, ANSWER),
)  # fmt: skip


def solutions(data: Path, form: str) -> Iterator[dict[str, Any]]:
    """Yield a right and a wrong solution of each prompt that has both.

    Args:
        data: The folder of the data.
        form: How they are written.
    """
    with (data / "rollouts" / "gsm8k_model_solutions.jsonl").open(encoding="utf-8") as file:
        for item in map(json.loads, file):
            answer = item["ground_truth"].rpartition("A:")[2].strip().replace(",", "")
            found: dict[bool, str] = {}
            for value in item.values():
                if isinstance(value, dict):
                    found.setdefault(value["is_correct"], value["solution"])
            if len(found) == 2:
                for label, text in found.items():
                    work, _, said = text.rpartition("A:")
                    completion = form.format(work=work.strip(), answer=said.strip())
                    row = {"prompt": item["question"], "completion": completion, "label": label}
                    yield {**row, "answer": answer, "solution": f"${answer}$"}


def installed(peer: Peer) -> bool:
    """Return whether the library of a function is there; of verifiers, the releases that have rubrics."""
    name = "verifiers.legacy" if peer.library == "verifiers" else peer.library
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def version_of(library: str, open_r1: str) -> str:
    """Return the version of a library. A checkout of open-r1 has none, so the user names its commit."""
    if library == "open_r1":
        return open_r1
    try:
        return version(library)
    except PackageNotFoundError:
        return "unknown"


def audit_peer(peer: Peer, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Audit a function.

    Args:
        peer: The function.
        rows: Right and wrong solutions in its form.

    Returns:
        What right and wrong solutions get, the cheats that are accepted on at least half of the rows, and the seconds that it took.
        Of a function of form alone, the cheats that get at least half of the highest mean. Or ``failed``, why it can't be called.
    """
    config = {"version": 1, "components": {"peer": {"use": peer.use, "with": peer.options, "timeout": SECONDS}}}
    started = time.process_time()
    with load_reward(config) as reward, contextlib.redirect_stdout(io.StringIO()):
        scored = reward.score([{key: value for key, value in row.items() if key != "label"} for row in rows])
        given = [{**one.to_dict(), "label": row["label"]} for one, row in zip(scored, rows, strict=True)]
        if failed := next((one.unscored for one in scored if one.unscored is not None), None):
            return {"library": peer.library, "name": peer.name, "failed": failed.message}
        honest = honest_rows(given)
        levels = levels_of(honest) if peer.judges else Levels(1.0, 0.0)
        found = attack(reward, CHEATS, honest, levels)
    accepted = [one for one in found.findings if one.share >= 0.5]
    if not peer.judges:
        highest = max(one.mean_best for one in found.findings)
        accepted = sorted(found.findings, key=lambda one: -one.mean_best)
        accepted = [one for one in accepted if one.mean_best >= highest / 2 and one.cheat.kind == "no answer"]
    return {
        "library": peer.library,
        "name": peer.name,
        "judges": peer.judges,
        "rows": len(honest),
        "right": levels.right,
        "wrong": levels.wrong,
        "cheats": len(found.findings),
        "accepted": [(one.cheat.name, one.share if peer.judges else one.mean_best, one.example) for one in accepted],
        "cpu_s": time.process_time() - started,
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40, help="prompts")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--open-r1", type=Path, help="the folder src of a checkout")
    parser.add_argument("--open-r1-commit", default="main", help="the commit, for the table")
    parser.add_argument("--verifiers-legacy", type=Path, help="the folder of an unpacked wheel of verifiers 0.3")
    parser.add_argument("--only", default="", help="only functions whose library and name contain this")
    parser.add_argument("--json", type=Path, help="also write all results as JSON Lines")
    given = parser.parse_args()
    for folder in (given.open_r1, given.verifiers_legacy):
        if folder is not None:
            sys.path.insert(0, str(folder))
    write: Callable[[str], object] = given.json.open("a").write if given.json else lambda _text: None
    print("| Library | Version | Function | Right | Wrong | Cheats accepted | Most accepted, with its completion |")
    print("|---|---|---|---|---|---|---|")
    logging.disable(logging.CRITICAL)  # their parsers log each text that they can't read
    for peer in filter(installed, PEERS):
        if given.only not in f"{peer.library} {peer.name}":
            continue
        rows = list(itertools.islice(solutions(given.data, peer.form), 2 * given.rows))
        found = audit_peer(peer, rows)
        write(json.dumps(found) + "\n")
        if "failed" in found:
            print(f"{peer.library} {peer.name}: {found['failed']}", file=sys.stderr)
            continue
        best = (
            "; ".join(f"{name} {share:.0%}" for name, share, _ in found["accepted"][:4]) or "none on half of the rows"
        )
        example = f": `{found['accepted'][0][2][:80]!r}`" if found["accepted"] else ""
        numbers = f"{found['right']:.3g} | {found['wrong']:.3g} | {len(found['accepted'])} of {found['cheats']}"
        where = f"{peer.library} | {version_of(peer.library, given.open_r1_commit)} | `{peer.name}`"
        print(f"| {where} | {numbers} | {best}{example.replace('|', '')} |", flush=True)


if __name__ == "__main__":
    main()
