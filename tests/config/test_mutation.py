"""Errors of randomly mutated YAML files have a file, a line and a column."""

import functools
import random
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rewardkit import Registry
from rewardkit.config import parse_config
from rewardkit.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parent))
from mutation import mutated

EXAMPLES = Path(__file__).parents[2] / "examples" / "train"
REWARD = """\
version: 1
components:
  tags:
    use: tags
    with: {names: [think, answer], strict: true, mode: any, limits: {low: 0.1, high: 0.9}}
    weight: {linear: {from: 0.2, to: 0.0, steps: [0, 300]}}
    scale: zscore
    clip: [-1, 1.5]
  exact: {use: exact, with: {reference: label}, when: "tags > 0 and fields.level == 'x'"}
  slow:
    use: slow
    timeout: 2.5
    when: exact == 1
gate: tags > 0
gate_value: -1
clip: [-2, 2]
unscored: {policy: fail, abort_above: 0.5}
"""
ROUTES = """\
version: 1
composites:
  math: &math
    components: {a: {use: exact}}
    combine: mean
  code:
    <<: *math
    components: {b: {use: size}}
    gate: b > 0
routes:
  - {match: {data_source: "openai/*", level: "[0-9]"}, composite: math}
  - match: {}
    composite: code
"""


@functools.cache
def installed() -> Registry:
    """The plugins of this environment."""
    return Registry.load()


def check_places(error: ConfigError, text: str) -> None:
    """Every problem has a file, a line of the text, and a column."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
    for location, problem in error.problems:
        assert location is not None, problem
        assert location.line is not None, problem
        assert location.column is not None, problem
        assert 1 <= location.line <= lines, problem
        assert location.column >= 1, problem


@settings(max_examples=120, deadline=None)
@given(st.sampled_from([REWARD, ROUTES]), st.integers(0, 2**32))
@example("version: 1\ncomponents: {a: {use: exact, when: '", 0)
def test_every_error_of_a_reward_file_has_its_place(registry: Registry, text: str, seed: int) -> None:
    """A mutated reward file is accepted, or refused with file, line and column; nothing else is raised."""
    text = mutated(text, random.Random(seed))  # noqa: S311
    try:
        parse_config(text, registry, "f")
    except ConfigError as error:
        check_places(error, text)


@settings(deadline=None)
@given(file=st.sampled_from(sorted(EXAMPLES.glob("*.yaml"))), seed=st.integers(0, 2**32))
def test_every_error_of_a_training_configuration_has_its_place(
    tmp_path_factory: pytest.TempPathFactory, file: Path, seed: int
) -> None:
    """A mutated training configuration is accepted, or refused with file, line and column."""
    from rewardkit.train.config.reading import read_train_config

    text = mutated(file.read_text(encoding="utf-8"), random.Random(seed))  # noqa: S311
    config = tmp_path_factory.getbasetemp() / "config.yaml"
    config.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read_train_config(config, installed())
    except ConfigError as error:
        check_places(error, text)


@pytest.mark.parametrize("text", [REWARD, ROUTES])
def test_the_mutated_files_are_valid(registry: Registry, text: str) -> None:
    """Without a mutation the files are accepted, so that the mutations are what is tested."""
    assert parse_config(text, registry, "f").component_names
