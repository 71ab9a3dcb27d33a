"""Problems of a reward file are reported in plain words, with the exact line and column."""

import json
import random
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardkit import Registry
from rewardkit.config import parse_config, parse_yaml, reward_schema
from rewardkit.errors import ConfigError

HEAD = "version: 1\ncomponents:\n"

GOOD = {
    "least": HEAD + "  a: {use: tags, with: {names: [think]}}\n",
    "all": HEAD
    + """\
  a:
    use: tags
    with: {names: [think, answer], strict: true, mode: any, limits: {low: 0.1, high: 0.9}, share: 1}
    weight: {linear: {from: 0.2, to: 0.0, steps: [0, 300]}}
    scale: zscore
    clip: [-1, 1.5]
  b: {use: exact, with: {reference: label}, weight: 0, when: "a > 0 and fields.level == 'x'", scale: {minmax: [0, 10]}}
  c: {use: slow, timeout: 2.5, weight: {steps: [[0, 1], [10, 0.5]]}}
  d: {use: size, weight: {cosine: {from: 0, to: 1, steps: [5, 10]}}, scale: minmax}
gate: a > 0
gate_value: -1
combine: normalized_sum
clip: [-2, 2]
unscored: {policy: fail, abort_above: 0.5}
""",
    "routes": """\
version: 1
composites:
  math: {components: {a: {use: exact}}, combine: mean}
  code: {components: {a: {use: slow}}, gate: a > 0, clip: [0, 1]}
routes:
  - {match: {data_source: "openai/*", level: "[0-9]"}, composite: math}
  - {match: {}, composite: code}
""",
    "null limits": HEAD + "  a: {use: tags, with: {names: [], limits: null}}\n",
}

# Each: the text, and the whole of the message. What the JSON Schema alone can tell, and what it can't.
SCHEMA_SAYS = {
    "weight with a decimal comma": (
        HEAD + '  a: {use: exact, weight: "1,0"}\n',
        "f:3:27: components.a.weight must be a number, found the text '1,0'; did you mean 1.0?",
    ),
    "weight that is text": (
        HEAD + "  a: {use: exact, weight: much}\n",
        "f:3:27: components.a.weight must be a number, found the text 'much'",
    ),
    "weight that is true": (
        HEAD + "  a: {use: exact, weight: true}\n",
        "f:3:27: components.a.weight must be a number, found true",
    ),
    "weight that is empty": (
        HEAD + "  a:\n    use: exact\n    weight:\n",
        "f:5:5: components.a.weight must be a number, found nothing",
    ),
    "unknown schedule": (
        HEAD + "  a: {use: exact, weight: {liner: {from: 1, to: 0, steps: [0, 1]}}}\n",
        "f:3:28: unknown key 'liner' in components.a.weight; did you mean 'linear'?",
    ),
    "schedule lacks its end": (
        HEAD + "  a: {use: exact, weight: {linear: {from: 1, steps: [0, 1]}}}\n",
        "f:3:36: components.a.weight.linear lacks the key 'to'",
    ),
    "steps before 0": (
        HEAD + "  a: {use: exact, weight: {steps: [[-1, 1]]}}\n",
        "f:3:37: components.a.weight.steps[0][0] must be at least 0, found -1",
    ),
    "two schedules": (
        HEAD + "  a: {use: exact, weight: {steps: [[1, 1]], linear: {from: 1, to: 0, steps: [0, 1]}}}\n",
        "f:3:27: components.a.weight must have one key, found steps, linear",
    ),
    "unknown reward": (
        HEAD + "  a: {use: exakt}\n",
        "f:3:12: no plugin offers a reward 'exakt'; did you mean exact?",
    ),
    "use is missing": (HEAD + "  a: {weight: 1}\n", "f:3:6: components.a lacks the key 'use'"),
    "use is a number": (
        HEAD + "  a: {use: 3}\n",
        "f:3:12: components.a.use must be exact or size or slow or tags, found 3",
    ),
    "unknown key at the top": (
        HEAD + "  a: {use: exact}\ncombin: sum\n",
        "f:4:1: unknown key 'combin'; did you mean 'combine'?",
    ),
    "unknown key of a component": (
        HEAD + "  a: {use: exact, wieght: 1}\n",
        "f:3:19: unknown key 'wieght' in components.a; did you mean 'weight'?",
    ),
    "unknown parameter": (
        HEAD + "  a:\n    use: tags\n    with:\n      names: [x]\n      strikt: true\n",
        "f:7:7: unknown key 'strikt' in components.a.with; did you mean 'strict'?",
    ),
    "unknown nested parameter": (
        HEAD + "  a: {use: tags, with: {names: [x], limits: {lo: 1}}}\n",
        "f:3:46: unknown key 'lo' in components.a.with.limits; did you mean 'low'?",
    ),
    "parameter of the wrong type": (
        HEAD + "  a: {use: tags, with: {names: think}}\n",
        "f:3:32: components.a.with.names must be a list, found the text 'think'",
    ),
    "item of the wrong type": (
        HEAD + "  a: {use: tags, with: {names: [think, 3]}}\n",
        "f:3:40: components.a.with.names[1] must be text, found 3",
    ),
    "parameter out of bounds": (
        HEAD + "  a: {use: tags, with: {names: [x], share: 1.5}}\n",
        "f:3:44: components.a.with.share must be at most 1, found 1.5",
    ),
    "parameter not among its choices": (
        HEAD + "  a: {use: tags, with: {names: [x], mode: al}}\n",
        "f:3:43: components.a.with.mode must be any or all, found the text 'al'; did you mean 'all'?",
    ),
    "whole number wanted": (
        HEAD + "  a: {use: slow, with: {depth: 1.5}}\n",
        "f:3:32: components.a.with.depth must be a whole number, found 1.5",
    ),
    "nested parameter of the wrong type": (
        HEAD + "  a: {use: tags, with: {names: [x], limits: [1]}}\n",
        "f:3:45: components.a.with.limits must be a mapping or nothing, found a list of 1",
    ),
    "required parameter": (HEAD + "  a: {use: tags}\n", "f:3:6: components.a needs 'with', setting 'names'"),
    "required parameter in with": (
        HEAD + "  a: {use: tags, with: {strict: true}}\n",
        "f:3:24: components.a.with lacks the key 'names'",
    ),
    "with is no mapping": (
        HEAD + "  a: {use: exact, with: answer}\n",
        "f:3:25: components.a.with must be a mapping, found the text 'answer'",
    ),
    "component is text": (HEAD + "  a: exact\n", "f:3:6: components.a must be a mapping, found the text 'exact'"),
    "component's name": (
        HEAD + "  my-part: {use: exact}\n",
        "f:3:3: 'my-part' is not a valid name: use letters, digits and underscores, and don't start with a digit",
    ),
    "clip of one": (
        HEAD + "  a: {use: exact, clip: [1]}\n",
        "f:3:25: components.a.clip must have at least 2 items, found 1",
    ),
    "clip is a number": (HEAD + "  a: {use: exact, clip: 1}\n", "f:3:25: components.a.clip must be a list, found 1"),
    "scale": (
        HEAD + "  a: {use: exact, scale: zscor}\n",
        "f:3:26: components.a.scale must be zscore or minmax, found the text 'zscor'; did you mean 'zscore'?",
    ),
    "timeout of nothing": (
        HEAD + "  a: {use: slow, timeout: 0}\n",
        "f:3:27: components.a.timeout must be more than 0, found 0",
    ),
    "combine": (
        HEAD + "  a: {use: exact}\ncombine: average\n",
        "f:4:10: combine must be sum or mean or product or min or normalized_sum, found the text 'average'",
    ),
    "policy": (
        HEAD + "  a: {use: exact}\nunscored: {policy: exclud}\n",
        "f:4:20: unscored.policy must be exclude or zero or fail, found the text 'exclud'; did you mean 'exclude'?",
    ),
    "abort above one": (
        HEAD + "  a: {use: exact}\nunscored: {abort_above: 10}\n",
        "f:4:25: unscored.abort_above must be at most 1, found 10",
    ),
    "version is missing": ("components:\n  a: {use: exact}\n", "f:1:1: the file lacks the key 'version'"),
    "another version": ("version: 2\ncomponents:\n  a: {use: exact}\n", "f:1:10: version must be 1, found 2"),
    "no components": ("version: 1\n", "f:1:1: lacks the key 'components'"),
    "empty components": ("version: 1\ncomponents: {}\n", "f:2:13: components is empty"),
    "components is a list": (
        "version: 1\ncomponents:\n  - {use: exact}\n",
        "f:3:3: components must be a mapping, found a list of 1",
    ),
    "routes without composites": (
        HEAD + "  a: {use: exact}\nroutes: [{match: {}, composite: x}]\n",
        "f:4:1: routes need composites to choose from",
    ),
    "composites without routes": (
        "version: 1\ncomposites:\n  m: {components: {a: {use: exact}}}\n",
        "f:2:1: composites need routes, which select the composite of each row",
    ),
    "a route's glob": (
        "version: 1\ncomposites:\n  m: {components: {a: {use: exact}}}\nroutes: [{match: {x: 1}, composite: m}]\n",
        "f:4:22: routes[0].match.x must be text, found 1",
    ),
}

RESOLVING_SAYS = {
    "clip from high to low": (
        HEAD + "  a: {use: exact}\nclip: [1, -1]\n",
        "f:4:7: clip must be [lowest, highest], found [1, -1]; did you mean [-1, 1]?",
    ),
    "component clip": (
        HEAD + "  a: {use: exact, clip: [1, -1]}\n",
        "f:3:25: clip must be [lowest, highest], found [1, -1]; did you mean [-1, 1]?",
    ),
    "minmax": (
        HEAD + "  a: {use: exact, scale: {minmax: [2, 2]}}\n",
        "f:3:35: minmax must be [low, high], found [2, 2]",
    ),
    "schedule goes back": (
        HEAD + "  a: {use: exact, weight: {linear: {from: 1, to: 0, steps: [9, 3]}}}\n",
        "f:3:27: steps must ascend, found 9, 3",
    ),
    "refers to itself": (
        HEAD + '  a: {use: exact, when: "a > 0"}\n',
        "f:3:25: the condition of 'a' depends on itself",
    ),
    "circle": (
        HEAD + '  a: {use: exact, when: "c > 0"}\n  b: {use: exact, when: "a > 0"}\n  c: {use: exact, when: "b > 0"}\n',
        "f:3:25: these conditions depend on each other: a → c → b → a",
    ),
    "condition on nobody": (
        HEAD + '  correct: {use: exact}\n  b: {use: exact, when: "1 == corect"}\n',
        "f:4:31: there is no component 'corect'; did you mean 'correct'? (a column of the row is written fields.corect)",
    ),
    "plain condition": (
        HEAD + "  a: {use: exact}\n  b: {use: exact, when: a = 1}\n",
        "f:4:27: unexpected character '='; compare with '=='",
    ),
    "gate": (
        HEAD + '  a: {use: exact}\ngate: "a > 0 and (b < 1"\n',
        "f:4:24: expected ')', found the end",
    ),
    "escaped condition": (
        HEAD + '  a: {use: exact}\ngate: "a == \\"x\\" and &"\n',
        "f:4:7: unexpected character '&'; write 'and'",
    ),
    "folded condition": (
        HEAD + "  a: {use: exact}\ngate: >\n  a > 0\n  and &\n",
        "f:4:7: unexpected character '&'; write 'and'",
    ),
    "reserved name": (
        HEAD + "  num_tokens: {use: exact}\n",
        "f:3:3: 'num_tokens' is a reserved word in conditions; choose another name",
    ),
    "timeout where nothing can be stopped": (
        HEAD + "  a: {use: exact, timeout: 3}\n",
        (
            "f:3:28: exact runs inline and can't be interrupted; only rewards that run in worker processes or wait for "
            "services take a timeout"
        ),
    ),
    "no such composite": (
        "version: 1\ncomposites:\n  math: {components: {a: {use: exact}}}\nroutes: [{match: {}, composite: mat}]\n",
        "f:4:33: there is no composite 'mat'; did you mean 'math'?",
    ),
    "components beside composites": (
        "version: 1\ngate: a > 0\ncomposites:\n  math: {components: {a: {use: exact}}}\nroutes: [{match: {}, composite: math}]\n",
        "f:2:1: 'gate' belongs inside each of the composites",
    ),
}


def message(text: str, registry: Registry) -> str:
    """Return the error message for a text."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, registry, "f")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"), [*SCHEMA_SAYS.values(), *RESOLVING_SAYS.values()], ids=[*SCHEMA_SAYS, *RESOLVING_SAYS]
)
def test_bad_files(text: str, expected: str, registry: Registry) -> None:
    """A bad file is refused with exactly this: place, what was found, what is allowed."""
    assert message(text, registry) == expected


@pytest.mark.parametrize("text", GOOD.values(), ids=list(GOOD))
def test_good_files(text: str, registry: Registry) -> None:
    """A good file is taken."""
    parse_config(text, registry, "f")


def test_every_problem_is_told_at_once(registry: Registry) -> None:
    """Several problems come in one error, in the order of the file."""
    text = HEAD + "  a: {use: exakt, clip: 3}\n  b: {use: tags}\ncombin: sum\n"
    assert [line.split(": ")[0] for line in message(text, registry).splitlines()] == [
        "f:3:12",
        "f:3:25",
        "f:4:6",
        "f:5:1",
    ]


def test_a_reward_refuses_contradicting_parameters_with_a_place(registry: Registry) -> None:
    """An error that a parameter class raises is reported at the place of 'with'."""
    import dataclasses

    from rewardkit import RewardType

    @dataclasses.dataclass
    class Params:
        low: int = 0

        def __post_init__(self) -> None:
            if self.low < 0:
                raise ValueError("low is below zero")
            if self.low > 9:
                raise KeyError("no such level")

    own = Registry()
    own.rewards = {**registry.rewards}

    class Plugin:
        __name__ = "plugin"

        from rewardkit import hookimpl

        @hookimpl
        def register_rewards(self):
            return [RewardType("level", Params, lambda params: lambda rollouts: [])]

    own.register(Plugin())
    assert message(HEAD + "  a: {use: level, with: {low: -1}}\n", own) == "f:3:25: level: low is below zero"
    odd = message(HEAD + "  a: {use: level, with: {low: 10}}\n", own)
    assert odd == "f:3:25: level (this program 0) raised KeyError: 'no such level'"


@pytest.fixture(scope="module")
def validator(registry: Registry) -> jsonschema.Draft202012Validator:
    """Plain jsonschema with the schema as an editor would get it: through JSON."""
    return jsonschema.Draft202012Validator(json.loads(json.dumps(reward_schema(registry))))


@pytest.mark.parametrize("text", GOOD.values(), ids=list(GOOD))
def test_plain_jsonschema_takes_what_we_take(text: str, validator: jsonschema.Draft202012Validator) -> None:
    """A good file passes the published schema in any validator."""
    assert list(validator.iter_errors(parse_yaml(text).data)) == []


@pytest.mark.parametrize("text", [text for text, _ in SCHEMA_SAYS.values()], ids=list(SCHEMA_SAYS))
def test_plain_jsonschema_refuses_what_we_refuse(text: str, validator: jsonschema.Draft202012Validator) -> None:
    """A file with a wrong key, type, bound or choice fails the published schema in any validator."""
    assert list(validator.iter_errors(parse_yaml(text).data)) != []


FULL = GOOD["all"]


def leaves(value: Any, path: tuple = ()) -> list[tuple]:
    """The paths to all scalars."""
    if isinstance(value, dict):
        return [found for key, child in value.items() for found in leaves(child, (*path, key))]
    if isinstance(value, list):
        return [found for index, child in enumerate(value) for found in leaves(child, (*path, index))]
    return [path]


@given(st.data())
def test_a_wrong_value_is_found_wherever_it_stands(registry: Registry, data: st.DataObject) -> None:
    """Put a list in the place of any single value of a file written in any layout: exactly its line and column are reported."""
    tree = parse_yaml(FULL).data
    path = data.draw(st.sampled_from(leaves(tree)))
    generator = random.Random(data.draw(st.integers(0, 10**6)))  # noqa: S311
    lines: list[str] = [""]
    place = lay_out(tree, path, lines, 0, generator)
    text = "\n".join(lines) + "\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, registry, "f")
    places = {(where.line, where.column) for where, _ in caught.value.problems if where}
    assert place in places, (text, str(caught.value))


def lay_out(tree: Any, wrong: tuple, lines: list[str], indent: int, generator: random.Random) -> tuple[int, int]:
    """Write a tree, in block or flow style as chance has it, with a wrong value at one path; returns its line and column."""
    spot = (0, 0)

    def flow(value: Any, path: tuple) -> None:
        nonlocal spot
        if path == wrong:
            spot = len(lines), len(lines[-1]) + 1
            lines[-1] += "[false]"
        elif isinstance(value, dict):
            lines[-1] += "{"
            for number, (key, child) in enumerate(value.items()):
                lines[-1] += (", " if number else "") + f"{key}: "
                flow(child, (*path, key))
            lines[-1] += "}"
        elif isinstance(value, list):
            lines[-1] += "["
            for number, child in enumerate(value):
                lines[-1] += ", " if number else ""
                flow(child, (*path, number))
            lines[-1] += "]"
        else:
            lines[-1] += json.dumps(value)

    def block(value: Any, path: tuple, indent: int) -> None:
        if path != wrong and isinstance(value, dict) and (indent == 0 or generator.random() < 0.6):
            for key, child in value.items():
                if generator.random() < 0.2:
                    lines.append("# a remark")
                lines.append(" " * indent + f"{key}: ")
                block(child, (*path, key), indent + generator.choice([1, 2, 4]))
        else:
            flow(value, path)

    block(tree, (), indent)
    return spot


def test_a_long_chain_of_conditions_is_valid(registry: Registry) -> None:
    """Thousands of conditions that depend on each other one by one are read, in whatever order they are written."""
    lines = [f"  c{index}: {{use: exact, when: 'c{index + 1} > 0'}}" for index in range(1500)]
    config = parse_config("version: 1\ncomponents:\n" + "\n".join([*lines, "  c1500: {use: exact}"]), registry)

    assert len(config.component_names) == 1501
