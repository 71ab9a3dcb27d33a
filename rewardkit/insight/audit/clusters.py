"""Groups completions by their form, to show what a policy found."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rewardkit.insight.audit.rows import references_of
from rewardkit.insight.cheats.making import NUMBER, value_of

SKELETON_LENGTH = 300
SAME_CLUSTER = 0.6
"""Completions whose skeletons share this much of their word pairs (Jaccard index) are in one cluster."""
MOST_SKELETONS = 500
"""Rarer skeletons than these are one cluster of the rest."""
SMALLEST_LARGEST = 0.1
"""If the largest cluster is smaller than this, completions are grouped by what kind of characters they have instead."""
_ANSWERS = (r"\\boxed\{([^{}]*)\}", r"<answer>\s*(.*?)\s*</answer>", r"####\s*(.+)", NUMBER.pattern)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A completion that a policy sampled in training."""

    step: int
    prompt: str
    completion: str
    reward: float | None
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Completions of one form."""

    skeleton: str
    """The form: numbers are ``#``, words are lower case."""
    count: int
    share: float
    """The share of all late completions."""
    early_share: float
    """The share of all early completions, before the policy had learned much."""
    mean_reward: float | None
    right: float | None
    """The share whose final answer is a reference of its row; None if no row has one."""
    example: Sampled
    """The completion with the highest reward."""


def skeleton_of(text: str) -> str:
    """Return the form of a completion: numbers become ``#``, and repeated pieces are written once."""
    plain = re.sub(r"\s+", " ", re.sub(r"\d+(?:[.,]\d+)*", "#", text.lower())).strip()
    return re.sub(r"(.{1,40}?)\1{2,}", r"\1\1", plain)[:SKELETON_LENGTH]


def is_right(completion: str, references: Sequence[str]) -> bool:
    """Return whether the final answer of a completion is one of the references: the last box, tag, ``####`` or number, or the text."""
    answer = completion
    for pattern in _ANSWERS:
        if found := re.findall(pattern, completion, re.DOTALL):
            answer = found[-1]
            break
    value = value_of(answer)
    return any(
        answer.strip().lower() == reference.lower() or (value is not None and value == value_of(reference))
        for reference in references
    )


def clusters_of(early: Sequence[Sampled], late: Sequence[Sampled], *, most: int = 8) -> list[Cluster]:
    """Group late completions by their form, and count the same forms among early ones.

    Args:
        early: The completions of the first steps.
        late: The completions of the last steps.
        most: The number of clusters to return.

    Returns:
        The clusters, the largest first.
    """
    found = _clusters(early, late, _by_words([one.completion for one in (*late, *early)]))
    if found and found[0].share < SMALLEST_LARGEST:
        found = _clusters(early, late, character_profile)
    return found[:most]


def character_profile(text: str) -> str:
    """Return in words what kind of characters a completion has, and about how many, for texts without words."""
    kinds = Counter(
        "digits" if letter.isdigit() else "letters" if letter.isalpha() else "spaces" if letter.isspace() else "marks"
        for letter in text
    )
    if not kinds:
        return "empty"
    kind, count = kinds.most_common(1)[0]
    share = "only" if count == len(text) else "mostly" if count >= 0.5 * len(text) else "mixed, many"
    return f"{share} {kind}, {1 << (len(text).bit_length() - 1)} or more characters"


def _by_words(texts: Sequence[str]) -> Callable[[str], str]:
    """Return a function that names the cluster of a text, by the word pairs of its skeleton."""
    representatives: list[tuple[str, frozenset[str]]] = []
    cluster_of: dict[str, str] = {}
    for skeleton, _ in Counter(map(skeleton_of, texts)).most_common(MOST_SKELETONS):
        pairs = _pairs(skeleton)
        near = next((name for name, other in representatives if _jaccard(pairs, other) >= SAME_CLUSTER), None)
        if near is None:
            representatives.append((skeleton, pairs))
        cluster_of[skeleton] = near if near is not None else skeleton
    return lambda text: cluster_of.get(skeleton_of(text), "(rare forms)")


def _clusters(early: Sequence[Sampled], late: Sequence[Sampled], name_of: Callable[[str], str]) -> list[Cluster]:
    before = Counter(name_of(one.completion) for one in early)
    after: dict[str, list[Sampled]] = {}
    for one in late:
        after.setdefault(name_of(one.completion), []).append(one)
    clusters = [_cluster(name, ones, len(late), before[name] / max(1, len(early))) for name, ones in after.items()]
    return sorted(clusters, key=lambda cluster: (-cluster.count, cluster.skeleton))


def _cluster(name: str, ones: Sequence[Sampled], total: int, early_share: float) -> Cluster:
    rewards = [one.reward for one in ones if one.reward is not None]
    judged = [is_right(one.completion, references) for one in ones if (references := references_of(one.fields))]
    best = max(ones, key=lambda one: float("-inf") if one.reward is None else one.reward)
    return Cluster(
        name, len(ones), len(ones) / total, early_share, fmean(rewards) if rewards else None,
        fmean(judged) if judged else None, best,
    )  # fmt: skip


def _pairs(skeleton: str) -> frozenset[str]:
    words = re.findall(r"\w+|#|[^\w\s]", skeleton)
    return frozenset(f"{one} {two}" for one, two in itertools.pairwise(words)) or frozenset(words)


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    union = len(one | other)
    return 1.0 if union == 0 else len(one & other) / union
