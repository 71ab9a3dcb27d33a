"""The engine: what is run when, where and how often, and what comes of it."""

import asyncio
import dataclasses
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rewardkit import CompositeReward, Registry, Rollout, Score, Skipped, Unscored, hookimpl, load_reward, reward
from rewardkit.composite import ScoreCache
from rewardkit.config import parse_config
from rewardkit.errors import ConfigError, DataError, TooManyUnscoredError, UsageError, WorkerError

LIMIT_S = 60
calls: list[tuple[str, tuple[str, ...]]] = []
"""What the rewards below were called with: (which, completions)."""
meeting: threading.Barrier
"""Where rewards wait for each other."""


@pytest.fixture(autouse=True)
def fresh() -> None:
    """No calls yet."""
    calls.clear()


@reward("value")
def value(rollout, *, field: str = "v") -> float:
    """The field's value; raises where it is text."""
    calls.append(("value", (rollout.completion,)))
    return rollout.fields[field] + 0.0


@reward("other", deterministic=True)
def other(rollouts, *, add: float = 0.0) -> list[float]:
    """The completion's length, of a whole batch."""
    calls.append(("other", tuple(rollout.completion for rollout in rollouts)))
    return [len(rollout.completion) + add for rollout in rollouts]


@reward("needy", needs=["answer"])
def needy(rollout) -> float:
    """Reads a column."""
    calls.append(("needy", (rollout.completion,)))
    return 1.0


@reward("rank", scope="group")
def rank(rollouts) -> list[float]:
    """The rank of the completion in its group."""
    calls.append(("rank", tuple(rollout.completion for rollout in rollouts)))
    order = sorted(rollout.completion for rollout in rollouts)
    return [float(order.index(rollout.completion)) for rollout in rollouts]


@reward("waits", timeout_s=LIMIT_S)
async def waits(rollout) -> float:
    """Meets the others at the barrier."""
    await asyncio.to_thread(meeting.wait, LIMIT_S)
    return 1.0


@reward("meets")
def meets(rollout) -> float:
    """Meets the others, in the calling thread."""
    meeting.wait(LIMIT_S)
    return 1.0


@reward("hangs", timeout_s=0.05)
async def hangs(rollout) -> float:
    """Never answers where it should not."""
    if rollout.completion == "hang":
        await asyncio.Event().wait()
    return 1.0


@reward("on_device", executor="device")
class OnDevice:
    """Tells which thread it runs in, and meets the others."""

    def __init__(self, *, meet: bool = False) -> None:
        self.meet = meet

    def __call__(self, rollouts):
        """Score a batch."""
        calls.append((threading.current_thread().name, tuple(rollout.completion for rollout in rollouts)))
        if self.meet:
            meeting.wait(LIMIT_S)
        return [1.0] * len(rollouts)

    def close(self) -> None:
        """Tell."""
        calls.append(("closed in " + threading.current_thread().name, ()))


@reward("fragile")
class Fragile:
    """Fails to be built or closed."""

    def __init__(self, *, how: str = "") -> None:
        if how:
            raise {"value": ValueError, "import": ModuleNotFoundError}[how](f"no {how}")

    def __call__(self, rollouts):
        """Score a batch."""
        return [1.0] * len(rollouts)

    def close(self) -> None:
        """Fail."""
        raise OSError("can't close")


@pytest.fixture(scope="module")
def registry() -> Registry:
    """The rewards above."""
    made = Registry()
    for plugin in (value, other, needy, rank, waits, meets, hangs, OnDevice, Fragile):
        made.register(plugin)
    assert not made.broken
    return made


@pytest.fixture
def load(registry: Registry) -> Iterator:
    """Build a reward from the lines of its components and other lines; closed at the end."""
    made: list[CompositeReward] = []

    def build(
        components: str, rest: str = "", cache: ScoreCache | None = None, known: Registry = registry
    ) -> CompositeReward:
        lines = "".join(f"  {line.strip()}\n" for line in components.strip().splitlines())
        config = parse_config(f"version: 1\ncomponents:\n{lines}{rest}", known, "reward.yaml")
        made.append(CompositeReward(config, registry=known, workers=2, cache=cache))
        return made[-1]

    yield build
    for engine in made:
        engine.close()


def rows(*values: object, **more: object) -> list[Rollout]:
    """Rollouts with completions a, b, c … and a value each."""
    return [Rollout("p", chr(97 + index), {"v": item, **more}) for index, item in enumerate(values)]


def rewards(scored: list) -> list[float | None]:
    """The totals."""
    return [item.reward for item in scored]


def test_a_sum_by_hand(load) -> None:
    """Weights, clips and a total clip give what was worked out by hand, with every component's share."""
    engine = load("a: {use: value, weight: 2, clip: [0, 1]}\nb: {use: other, weight: -0.5}", "clip: [-1, 1]\n")
    scored = engine.score(rows(0.25, 5, -3))
    assert rewards(scored) == [0.0, 1.0, -0.5]
    assert [dict(item.contributions) for item in scored] == [
        {"a": 0.5, "b": -0.5},
        {"a": 2.0, "b": -0.5},
        {"a": 0.0, "b": -0.5},
    ]
    assert scored[1].outcomes == {"a": Score(5.0), "b": Score(1.0)}
    assert {item.reward_id for item in scored} == {engine.reward_id}
    assert {item.status for item in scored} == {"scored"}


def test_weights_follow_the_step(load) -> None:
    """The weight is that of the step told, else of the engine's own."""
    engine = load("a: {use: value, weight: {linear: {from: 1, to: 0, steps: [0, 10]}}}")
    assert [engine.score(rows(1.0), step=step)[0].reward for step in (0, 5, 10)] == [1.0, 0.5, 0.0]
    engine.step = 5
    assert engine.score(rows(1.0))[0].weights == {"a": 0.5}


@pytest.mark.parametrize(
    ("combine", "expected"),
    [("sum", [3.0, 1.0]), ("mean", [1.0, 1 / 3]), ("product", [2.0, 0.0]), ("min", [1.0, 0.0])],
)
def test_combine_modes(load, combine: str, expected: list[float]) -> None:
    """Each way of combining sees weight × value; an observer of weight 0 has no say."""
    components = "a: {use: value, weight: 2}\nb: {use: other}\nseen: {use: value, weight: 0, with: {field: w}}"
    scored = load(components, f"combine: {combine}\n").score(rows(1.0, 0.0, w=-7.0))
    assert rewards(scored) == pytest.approx(expected)
    assert scored[0].outcomes["seen"] == Score(-7.0)


def test_normalized_sum_by_hand(load) -> None:
    """Each component is normalised in its group, then weighted and summed; groups may interleave."""
    engine = load("a: {use: value, weight: 2}\nb: {use: value, with: {field: w}}", "combine: normalized_sum\n")
    batch = [
        Rollout("p", "x", {"v": v, "w": w}, group)
        for v, w, group in ((0, 1, "g"), (5, 5, "h"), (1, 0, "g"), (5, 7, "h"))
    ]
    # g: a = (−1, 1), b = (1, −1); h: a has no spread, b = (−1, 1).
    assert rewards(engine.score(batch)) == [-1.0, -1.0, 1.0, 1.0]
    assert engine.config.needs_groups


def test_scale_then_clip(load) -> None:
    """Values are scaled first and clipped then."""
    engine = load("a: {use: value, scale: {minmax: [0, 10]}, clip: [0.2, 0.8]}")
    assert rewards(engine.score(rows(0, 5, 10))) == [0.2, 0.5, 0.8]
    assert not engine.config.needs_groups


def test_scaling_in_the_group_without_a_group(load) -> None:
    """Rollouts that name no group are grouped by their prompt."""
    engine = load("a: {use: value, scale: minmax}")
    batch = [Rollout(prompt, "c", {"v": v}) for prompt, v in (("p", 1), ("q", 10), ("p", 3), ("q", 30), ("p", 2))]
    assert rewards(engine.score(batch)) == [0.0, 0.0, 1.0, 1.0, 0.5]


def test_a_skipped_component_takes_no_part(load) -> None:
    """Where ``when`` is false the component isn't called, and neither sum, mean nor product knows of it."""
    components = "a: {use: value}\nb: {use: other, when: a > 0.5}\nc: {use: needy, when: fields.v == 0}"
    scored = load(components, "combine: mean\n").score(rows(1.0, 0.0, 0.5, answer="x"))
    assert rewards(scored) == [1.0, 0.5, 0.5]
    assert ("other", ("a",)) in calls
    assert [call for call in calls if call[0] == "needy"] == [("needy", ("b",))]
    assert scored[1].outcomes == {"a": Score(0.0), "b": Skipped("not (a > 0.5)"), "c": Score(1.0)}
    assert scored[1].contributions == {"a": 0.0, "b": None, "c": 1.0}


def test_conditions_chain(load) -> None:
    """A condition may wait for a component that itself has one, in any order in the file; a skipped one is null."""
    components = (
        "c: {use: other, when: b == 2}\nb: {use: other, with: {add: 1}, when: a > 0}\na: {use: value, weight: 0}"
    )
    scored = load(components).score(rows(1.0, 0.0))
    assert rewards(scored) == [3.0, 0.0]
    assert list(scored[0].outcomes) == ["c", "b", "a"]
    assert scored[1].outcomes["c"] == Skipped("not (b == 2)")


def test_an_undecided_condition_is_unscored(load) -> None:
    """Where a condition's component could not be scored the dependent one is unscored for the same cause, and not run."""
    scored = load("a: {use: value, weight: 0}\nb: {use: other, when: a > 0}").score(rows(1.0, "text"))
    assert rewards(scored) == [1.0, None]
    assert calls[-1] == ("other", ("a",))
    assert scored[1].unscored.kind == "plugin"
    assert scored[1].unscored.message.startswith("'a > 0' can't be decided: value (this program 0) raised TypeError")


def test_a_condition_on_a_missing_column_is_unscored(load) -> None:
    """A column that a condition needs and the row lacks makes it Unscored(input)."""
    (item,) = load("a: {use: value, when: fields.gone == 1}").score(rows(1.0))
    assert item.unscored == Unscored("input", "the row has no column 'gone'")


def test_what_the_gate_shuts_out_is_never_started(load) -> None:
    """Rollouts that the gate keeps out get gate_value, and no component beyond those the gate reads is called for them."""
    components = "a: {use: value}\nb: {use: other}\nc: {use: needy}\nd: {use: on_device}"
    scored = load(components, "gate: a > 0\ngate_value: -2\n").score(rows(1.0, 0.0, -1.0, answer="x"))
    assert rewards(scored) == [4.0, -2.0, -2.0]
    assert [call[1] for call in calls] == [("a",), ("b",), ("c",), *[("a",)] * 3]
    assert scored[1].outcomes == {
        "a": Score(0.0),
        "b": Skipped("gate shut"),
        "c": Skipped("gate shut"),
        "d": Skipped("gate shut"),
    }
    assert set(scored[1].contributions.values()) == {None}
    assert scored[1].status == "scored"


def test_the_gate_waits_for_conditions_of_conditions(load) -> None:
    """What the gate's components wait for is run before the gate; everything else after."""
    components = "late: {use: other, with: {add: 10}}\na: {use: value}\nb: {use: other, when: a > 0}"
    scored = load(components, "gate: b == 1\n").score(rows(1.0, 0.0))
    assert rewards(scored) == [13.0, 0.0]
    assert [call for call in calls if call[0] == "other"] == [("other", ("a",)), ("other", ("a",))]


def test_a_gate_on_columns_starts_nothing(load) -> None:
    """A gate that reads only columns is decided before anything is called."""
    scored = load("a: {use: value}", "gate: fields.v > 0\n").score(rows(1.0, -1.0))
    assert rewards(scored) == [1.0, 0.0]
    assert calls == [("value", ("a",))]


def test_an_undecided_gate_is_unscored(load) -> None:
    """Where the gate's component could not be scored the total is unscored, not gate_value."""
    scored = load("a: {use: value, weight: 0}\nb: {use: other}", "gate: a > 0\n").score(rows("text"))
    assert rewards(scored) == [None]
    assert scored[0].outcomes["b"] == Skipped("gate undecided")
    assert scored[0].unscored.kind == "plugin"


@pytest.mark.parametrize(("policy", "total"), [("exclude", None), ("zero", 0.0)])
def test_unscored_policies(load, policy: str, total: float | None) -> None:
    """A component that counts and could not be scored leaves the total unscored; a number only where the policy says so."""
    scored = load("a: {use: value}\nb: {use: other}", f"unscored: {{policy: {policy}}}\n").score(rows("text", 1.0))
    assert rewards(scored) == [total, 2.0]
    assert [item.status for item in scored] == ["unscored", "scored"]
    assert "raised TypeError" in scored[0].unscored.message
    assert "in value" in scored[0].unscored.traceback


def test_the_policy_fail_stops(load) -> None:
    """Under the policy fail the first rollout that can't be scored is an error with its cause."""
    with pytest.raises(TooManyUnscoredError, match=r"\(plugin\): value \(this program 0\) raised TypeError"):
        load("a: {use: value}", "unscored: {policy: fail}\n").score(rows("text"))


def test_an_observer_may_fail(load) -> None:
    """A component of weight 0 that can't be scored leaves the total as it is."""
    scored = load("a: {use: value, weight: 0}\nb: {use: other}").score(rows("text"))
    assert rewards(scored) == [1.0]
    assert scored[0].outcomes["a"].kind == "plugin"


def test_a_total_that_overflows_is_unscored(load) -> None:
    """Finite scores that add up to infinity are no reward."""
    scored = load("a: {use: value}\nb: {use: value}").score(rows(1.7e308, 1.0))
    assert rewards(scored) == [None, 2.0]
    assert "combine to inf" in scored[0].unscored.message


def test_a_missing_column_is_input(load) -> None:
    """A row without what a component needs is Unscored(input), and the component isn't called for it."""
    engine = load("a: {use: needy}")
    scored = engine.score(
        [Rollout("p", "a", {}), Rollout("p", "b", {"answer": None}), Rollout("p", "c", {"answer": "x"})]
    )
    assert [item.unscored and item.unscored.kind for item in scored] == ["input", "input", None]
    assert scored[0].unscored.message == "the row has no value in column 'answer'"
    assert calls == [("needy", ("c",))]


def test_groups_are_whole_though_interleaved(load) -> None:
    """A group reward is called once for each group, with all of it, in the order of the batch."""
    engine = load("a: {use: rank}")
    batch = [Rollout("p", text, {}, group) for text, group in (("b", 1), ("z", 2), ("a", 1), ("x", 2), ("c", 1))]
    assert rewards(engine.score(batch)) == [1.0, 1.0, 0.0, 0.0, 2.0]
    assert sorted(calls) == [("rank", ("b", "a", "c")), ("rank", ("z", "x"))]


def test_an_empty_batch(load) -> None:
    """No rollouts are scored to none, on every executor, and no reward is called."""
    engine = load(
        "a: {use: value}\nb: {use: other}\nc: {use: rank}\nd: {use: hangs}\ne: {use: on_device}", "gate: a > 0\n"
    )
    assert engine.score([]) == []
    assert calls == []


def test_executors_run_at_the_same_time(load) -> None:
    """Three async components and one on the device, scored in one batch, meet at a barrier that opens for all four only."""
    global meeting  # noqa: PLW0603
    meeting = threading.Barrier(4)
    components = "d: {use: on_device, with: {meet: true}}\na: {use: waits}\nb: {use: waits}\nc: {use: waits}"
    (item,) = load(components).score(rows(1.0))
    assert item.reward == 4.0


def test_inline_work_is_done_while_others_wait(load) -> None:
    """What runs elsewhere is started before inline work is done in the calling thread, whatever the order in the file."""
    global meeting  # noqa: PLW0603
    meeting = threading.Barrier(2)
    (item,) = load("inline: {use: meets}\na: {use: waits}").score(rows(1.0))
    assert item.reward == 2.0


def test_rollouts_of_an_async_component_wait_together(load) -> None:
    """The rollouts of one async component are under way at the same time."""
    global meeting  # noqa: PLW0603
    meeting = threading.Barrier(5)
    assert rewards(load("a: {use: waits}").score(rows(1, 2, 3, 4, 5))) == [1.0] * 5


def test_an_async_hang_costs_only_itself(load) -> None:
    """An async rollout beyond its deadline is Unscored(timeout); the others are scored."""
    batch = [Rollout("p", text, {}) for text in ("a", "hang", "b")]
    scored = load("a: {use: hangs}").score(batch)
    assert rewards(scored) == [1.0, None, 1.0]
    assert scored[1].unscored == Unscored("timeout", "hangs (this program 0) took longer than 0.05 s")


def test_the_device_has_one_thread(load) -> None:
    """All components on the device take turns in one thread, a whole batch at a time, and are closed there."""
    engine = load("a: {use: on_device}\nb: {use: on_device}")
    engine.score(rows(1, 2, 3))
    engine.close()
    names = {call[0].removeprefix("closed in ") for call in calls}
    assert len(names) == 1
    assert next(iter(names)).startswith("rewardkit-device")
    assert [call[1] for call in calls] == [("a", "b", "c")] * 2 + [()] * 2


ROUTES = """\
version: 1
composites:
  math: {components: {a: {use: value}, both: {use: other}}}
  code: {components: {b: {use: value, weight: 10}, both: {use: other}}, gate: b > 0}
routes:
  - {match: {source: "openai/*"}, composite: math}
  - {match: {source: "code_?", level: "[12]"}, composite: code}
"""


def routed(source: str | None, level: object = 1) -> Rollout:
    """A row with these columns."""
    return Rollout("p", "c", {"v": 0.5, "level": level} | ({} if source is None else {"source": source}))


def test_routes_by_glob(registry: Registry) -> None:
    """Each row goes to the first composite whose globs match; all rows have all components, those of others as skipped."""
    with CompositeReward(parse_config(ROUTES, registry), registry=registry) as engine:
        scored = engine.score([routed("code_1", 2), routed("openai/gsm8k"), routed("code_2")])
    assert rewards(scored) == [6.0, 1.5, 6.0]
    assert [list(item.outcomes) for item in scored] == [["a", "both", "b"]] * 3
    assert scored[0].outcomes["a"] == Skipped("not part of composite 'code'")
    assert scored[0].weights == {"a": 0.0, "both": 1.0, "b": 10.0}
    assert scored[0].contributions == {"a": None, "both": 1.0, "b": 5.0}


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (routed("code_12"), "source='code_12', level=1"),
        (routed("code_1", 3), "source='code_1', level=3"),
        (routed(None), "no source, level=1"),
        (routed("OPENAI/x"), "source='OPENAI/x', level=1"),
    ],
)
def test_an_unmatched_row_is_an_error(registry: Registry, row: Rollout, found: str) -> None:
    """A row that no route takes is an error that shows the columns that routes look at."""
    with (
        CompositeReward(parse_config(ROUTES, registry), registry=registry) as engine,
        pytest.raises(DataError, match=found),
    ):
        engine.score([row])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("value", "reward.yaml:3:12: fragile: no value"),
        ("import", "reward.yaml:3:12: fragile (this program 0) can't be built: ModuleNotFoundError: no import"),
    ],
)
def test_a_reward_that_cannot_be_built_is_told_with_its_place(load, how: str, message: str) -> None:
    """A reward that refuses its parameters, or lacks what it needs, is a ConfigError at its place in the file."""
    with pytest.raises(ConfigError) as caught:
        load(f"a: {{use: fragile, with: {{how: {how}}}}}")
    assert str(caught.value) == message


def test_workers_can_only_import(registry: Registry) -> None:
    """A process reward that is no module's own can't be found by a worker: that is told at once, with what to do."""

    @reward("local", executor="process")
    def local(rollout) -> float:
        """Nowhere to be imported from."""

    own = Registry()
    own.register(local)
    with pytest.raises(ConfigError, match=r"define it with @reward at the top level of a module, not in .*<locals>"):
        load_reward("version: 1\ncomponents: {a: {use: local}}\n", registry=own)


def test_closing_closes_everything(load, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin that fails to close is told of, the rest is closed all the same; closing twice and scoring after it are sane."""
    engine = load("f: {use: fragile}\na: {use: hangs}\nd: {use: on_device}")
    engine.score(rows(1))
    engine.close()
    engine.close()
    assert "fragile (this program 0) could not be closed" in caplog.messages
    assert calls[-1][0].startswith("closed in rewardkit-device")
    with pytest.raises(UsageError, match="has been closed"):
        engine.score(rows(1))


def test_nothing_is_left_behind(load) -> None:
    """After close there are as many threads, child processes and open files as before."""
    process = psutil.Process()
    components = "a: {use: hangs}\nd: {use: on_device}"
    load(components).close()
    before = set(threading.enumerate()), process.num_fds(), process.children()
    engine = load(components)
    engine.score([Rollout("p", "hang"), Rollout("p", "b")])
    engine.close()
    assert (set(threading.enumerate()), process.num_fds(), process.children()) == before


def test_many_threads_score_alike(load) -> None:
    """What several threads score at once is what one thread scores."""
    engine = load("a: {use: value}\nb: {use: hangs}\nc: {use: on_device}\nd: {use: rank}", "gate: a > 3\n")
    batches = [rows(*range(start, start + 8)) for start in range(12)]
    alone = [engine.score(batch) for batch in batches]
    together: dict[int, object] = {}

    def work(index: int) -> None:
        together[index] = engine.score(batches[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert [together[index] for index in range(12)] == alone


def test_time_is_kept_by_component(load) -> None:
    """Every component has its seconds, those that ran more than none."""
    engine = load("a: {use: value}\nb: {use: on_device}")
    assert engine.timings == {"a": 0.0, "b": 0.0}
    engine.score(rows(1, 2))
    assert all(seconds > 0 for seconds in engine.timings.values())


# The cache.

CACHED = "a: {use: other, with: {add: 1}, weight: 2}\nb: {use: value}"


def others() -> list[tuple[str, ...]]:
    """What the deterministic reward was called with."""
    return [call[1] for call in calls if call[0] == "other" and call[1]]


def test_reweighting_calls_no_deterministic_plugin(load, tmp_path: Path) -> None:
    """With a cache, other weights, names, gates, clips and modes call only the plugins that don't declare themselves deterministic."""
    cache = ScoreCache(tmp_path)
    assert rewards(load(CACHED, cache=cache).score(rows(1, 2))) == [5.0, 6.0]
    assert others() == [("a", "b")]
    again = load(
        "x: {use: other, with: {add: 1}, weight: -1, clip: [0, 1.5]}\nb: {use: value}",
        "gate: b > 1\ncombine: mean\n",
        cache,
    )
    assert rewards(again.score(rows(1, 2))) == [0.0, 0.25]
    assert others() == [("a", "b")]
    assert [call[0] for call in calls].count("value") == 4
    cache.close()


@pytest.mark.parametrize(
    ("components", "batch", "called"),
    [
        (CACHED, rows(1, 2, 3), [("c",)]),
        (CACHED, rows(1, 7), [("b",)]),
        (CACHED.replace("add: 1", "add: 2"), rows(1, 2), [("a", "b")]),
        (CACHED.replace("add: 1", "add: 1.0"), rows(1, 2), []),
        (CACHED, [*rows(1, 2), *rows(1, 2)], []),
    ],
)
def test_only_what_changed_is_called(load, tmp_path: Path, components: str, batch: list[Rollout], called: list) -> None:
    """A changed parameter or row is scored anew, and nothing else."""
    cache = ScoreCache(tmp_path)
    load(CACHED, cache=cache).score(rows(1, 2))
    calls.clear()
    load(components, cache=cache).score(batch)
    assert others() == called
    cache.close()


def test_another_version_is_called(load, registry: Registry, tmp_path: Path) -> None:
    """Another version of the plugin finds nothing of the former."""
    cache = ScoreCache(tmp_path)
    load(CACHED, cache=cache).score(rows(1))
    offer = registry.get("other")
    newer = dataclasses.replace(offer, provenance=dataclasses.replace(offer.provenance, version="1"))
    load(CACHED, cache=cache, known=Registry(rewards={**registry.rewards, "other": [newer]})).score(rows(1))
    assert others() == [("a",)] * 2
    cache.close()


def test_unscored_is_never_kept(load, tmp_path: Path) -> None:
    """What could not be scored is tried again the next time."""
    broken = [True]

    @reward("moody", deterministic=True)
    def moody(rollout) -> float:
        """Fails at first."""
        calls.append(("moody", (rollout.completion,)))
        if broken[0]:
            raise OSError("not now")
        return 1.0

    own = Registry()
    own.register(moody)
    cache = ScoreCache(tmp_path)
    assert rewards(load("a: {use: moody}", cache=cache, known=own).score(rows(1))) == [None]
    broken[0] = False
    for _ in range(2):
        assert rewards(load("a: {use: moody}", cache=cache, known=own).score(rows(1))) == [1.0]
    assert len(calls) == 2
    cache.close()


def shared(**more) -> Registry:
    """A registry with a reward that knows a rollout by its completion alone, and tells what it was called with."""

    @reward("by_content", deterministic=True, content=lambda _params, rollout: rollout.completion, **more)
    def by_content(rollouts) -> list[Score]:
        calls.append(("by_content", tuple(rollout.completion for rollout in rollouts)))
        return [Score(1.0, repeatable=rollout.completion != "b") for rollout in rollouts]

    own = Registry()
    own.register(by_content)
    return own


def test_equal_rows_of_a_batch_are_scored_once(load) -> None:
    """Where a reward says by what it knows a row, rows that differ in anything else are one, also without a cache."""
    batch = [Rollout("p", text, {"v": number}, number) for number, text in enumerate("abaab")]
    scored = load("a: {use: by_content}", known=shared()).score(batch)
    assert rewards(scored) == [1.0] * 5
    assert [item.rollout for item in scored] == batch
    assert calls == [("by_content", ("a", "b"))]


def test_what_is_not_repeatable_is_not_kept(load, tmp_path: Path) -> None:
    """A score that another try might change is given, and tried again the next time."""
    cache = ScoreCache(tmp_path)
    for _ in range(2):
        assert rewards(load("a: {use: by_content}", cache=cache, known=shared()).score(rows(1, 2))) == [1.0, 1.0]
    assert calls == [("by_content", ("a", "b")), ("by_content", ("b",))]
    cache.close()


@pytest.mark.parametrize(
    ("identities", "scored"),
    [(["one", "one"], 1), (["one", "two"], 2), ([None, None], 2), ([ValueError("no"), ValueError("no")], 2)],
)
def test_what_else_decides_is_in_the_key(load, tmp_path: Path, identities: list, scored: int) -> None:
    """A score is found again only where the reward names the same model, image, … as before."""
    cache = ScoreCache(tmp_path)
    for identity in identities:

        def tell(_params, identity=identity) -> str | None:
            if isinstance(identity, ValueError):
                raise identity
            return identity

        load("a: {use: by_content}", cache=cache, known=shared(identity=tell)).score(rows(1))
    assert calls == [("by_content", ("a",))] * scored
    cache.close()


def test_rows_without_a_key_are_scored_each_time(load, tmp_path: Path) -> None:
    """A row that holds an object is scored, is never taken for another one, and is not kept."""
    cache = ScoreCache(tmp_path)
    batch = [Rollout("p", "a", {"v": 1, "x": object()}), Rollout("p", "bb", {"v": 1, "x": object()})]
    for _ in range(2):
        assert rewards(load(CACHED, cache=cache).score(batch)) == [5.0, 7.0]
    assert others() == [("a", "bb")] * 2
    assert cache._connection.execute("SELECT count(*) FROM scores").fetchone() == (0,)
    cache.close()


def test_a_failing_cache_stops_nothing(load, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A cache that breaks while it is used leaves the scores as they are, with a warning."""
    cache = ScoreCache(tmp_path)
    engine = load(CACHED, cache=cache)
    engine.score(rows(1))
    cache._connection.execute("DROP TABLE scores")
    with caplog.at_level(logging.WARNING):
        assert rewards(engine.score(rows(1, 2))) == [5.0, 6.0]
    assert "can't be used, so scores are not cached" in caplog.text


def test_an_error_in_the_callback_reaches_the_caller(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If keeping scores fails in a way that nobody foresaw the caller gets the error, and doesn't wait for ever."""
    cache = ScoreCache(tmp_path)
    engine = load("a: {use: other}", cache=cache)
    monkeypatch.setattr(cache, "put", lambda scores: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.score(rows(1))
    cache.close()


# Worker processes, through the engine.

PLUGIN = '''
    import os, time
    from pathlib import Path
    from rewardkit import reward


    @reward("run", executor="process", deterministic=True, timeout_s=60)
    def run(rollout, *, note: str = ""):
        """Runs the completion."""
        scope = {"result": 1.0, "fields": rollout.fields}
        exec(rollout.completion, globals(), scope)
        if note:
            with open(note, "a") as file:
                file.write("called\\n")
        return scope["result"]


    @reward("never", executor="process")
    class Never:
        def __init__(self):
            raise RuntimeError("no licence")

        def __call__(self, rollouts):
            return []
'''


def test_process_components_run_at_the_same_time(load, load_plugin, tmp_path: Path) -> None:
    """Two process components of one rollout each wait until the other has begun."""
    folder = tmp_path / "meet"
    folder.mkdir()
    meet = (
        "(Path(fields['folder']) / str(os.getpid())).touch()\n"
        "while len(os.listdir(fields['folder'])) < 2: time.sleep(0.005)"
    )
    engine = load("a: {use: run}\nb: {use: run}", known=load_plugin(PLUGIN))
    assert rewards(engine.score([Rollout("p", meet, {"folder": str(folder)})])) == [2.0]


def test_process_components_have_the_deadline_of_the_file(load, load_plugin) -> None:
    """The file's timeout overrides the plugin's, and each rollout has its own."""
    engine = load("a: {use: run, timeout: 0.3}", known=load_plugin(PLUGIN))
    scored = engine.score([Rollout("p", "result = 2"), Rollout("p", "time.sleep(1000)"), Rollout("p", "os._exit(1)")])
    assert rewards(scored) == [2.0, None, None]
    assert scored[1].unscored == Unscored("timeout", "run (acme 1.0) took longer than 0.3 s")
    assert scored[2].unscored.kind == "plugin"


def test_process_scores_are_cached(load, load_plugin, tmp_path: Path) -> None:
    """A deterministic process reward is not called again for what it has scored."""
    note = tmp_path / "note"
    cache = ScoreCache(tmp_path)
    known = load_plugin(PLUGIN)
    for weight in (1, 2):
        engine = load(f"a: {{use: run, weight: {weight}, with: {{note: {note}}}}}", cache=cache, known=known)
        scored = engine.score([Rollout("p", "result = 2"), Rollout("p", "result = 3"), Rollout("p", "1 / 0")])
        assert rewards(scored) == [2.0 * weight, 3.0 * weight, None]
        engine.close()
    assert note.read_text() == "called\n" * 2
    cache.close()


def test_a_process_reward_that_cannot_be_built(load, load_plugin) -> None:
    """A reward that fails to be built in its worker is an error of the run, with the cause."""
    engine = load("a: {use: never}", known=load_plugin(PLUGIN))
    with pytest.raises(WorkerError, match="RuntimeError: no licence"):
        engine.score(rows(1))


def test_rewards_of_this_program_reach_workers(load, install_plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process reward that a program registers from its own module is found by the workers, and by its name alone."""
    import importlib

    module = importlib.import_module(install_plugin(PLUGIN))
    monkeypatch.setenv("REWARDKIT_DISABLE_PLUGINS", "acme")
    own = Registry()
    own.register(module.run)
    assert rewards(load("a: {use: run}", known=own).score([Rollout("p", "result = 0.5")])) == [0.5]


# Observers.


class Observer:
    """Sees what was scored."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    @hookimpl
    def rollouts_scored(self, rollouts, step):
        """Remember."""
        self.seen.append((len(rollouts), step))
        if step == 13:
            raise ValueError("unlucky")


def test_observers_see_every_batch(load, registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    """rollouts_scored is called with each batch and step; that it raises is told and changes nothing."""
    own = Registry(rewards=dict(registry.rewards))
    observer = Observer()
    own.register(observer)
    engine = load("a: {use: value}", known=own)
    engine.score(rows(1, 2), step=7)
    assert rewards(engine.score(rows(1), step=13)) == [1.0]
    assert observer.seen == [(2, 7), (1, 13)]
    assert "a plugin's rollouts_scored failed" in caplog.messages


def test_load_reward_reads_files_and_texts(registry: Registry, tmp_path: Path) -> None:
    """A path and a text with a newline both make a reward, with the same id."""
    text = "version: 1\ncomponents: {a: {use: value}}\n"
    (tmp_path / "reward.yaml").write_text(text)
    with load_reward(tmp_path / "reward.yaml", registry=registry) as one, load_reward(text, registry=registry) as two:
        assert one.reward_id == two.reward_id
        assert rewards(two.score(rows(3))) == [3.0]
        assert two.is_inline
