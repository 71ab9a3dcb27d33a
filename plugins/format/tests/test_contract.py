"""Every reward of this plugin keeps the contract, in each of its main settings."""

# ruff: noqa: RUF012 - the attributes of a contract are only read

from rewardkit import Rollout
from rewardkit.testing import RewardContract


def rollouts(*completions):
    """Return one rollout for each completion."""
    return tuple(Rollout("What is 6 * 7?", completion) for completion in completions)


RIGHT = "<think>6 * 7 = 42</think>\n<answer>42</answer>"


class TestTags(RewardContract):
    """``format.tags`` with its defaults."""

    reward = "format.tags"
    params = {"tags": ["think", "answer"]}
    good = rollouts(RIGHT, f"Well: {RIGHT} Done.")
    bad = rollouts("42", "<think>6 * 7 = 42<answer>42</answer>", RIGHT * 2, "<answer>42</answer><think>.</think>")


class TestTagsWithEverything(RewardContract):
    """``format.tags`` with all options."""

    reward = "format.tags"
    params = {"tags": ["think", "answer"], "anchored": True, "partial": True, "prefilled": True, "repeat": True}
    good = rollouts(RIGHT.removeprefix("<think>"), RIGHT.removeprefix("<think>") + RIGHT)
    bad = rollouts(RIGHT, "42", "42</think>", "x</think> y <answer>42</answer>")


class TestRegex(RewardContract):
    """``format.regex`` with a pattern that backtracks for ever on hostile text."""

    reward = "format.regex"
    params = {"pattern": r"(\w+\s?)+: 42$", "timeout_s": 0.2}
    good = rollouts("The answer is: 42")
    bad = rollouts("42", "is: 43")


class TestRegexCount(RewardContract):
    """``format.regex`` counting."""

    reward = "format.regex"
    params = {"pattern": r"(?m)^Step \d+:", "count": 2}
    good = rollouts("Step 1: a\nStep 2: b", "Step 1:\nStep 2:\nStep 3:")
    bad = rollouts("Step 1: a, Step 2: b", "")


class TestJsonWhole(RewardContract):
    """``format.json`` on the whole completion."""

    reward = "format.json"
    params = {"schema": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}, "parsed": 0.3}
    good = rollouts('{"a": 1}', ' {"a": 2, "b": []}\n')
    bad = rollouts('{"a": "1"}', "{}", "{", "")


class TestJsonFence(RewardContract):
    """``format.json`` in a fenced block."""

    reward = "format.json"
    params = {"source": "fence"}
    good = rollouts("Here:\n```json\n[1]\n```\n", "```\n1\n```")
    bad = rollouts("[1]", "```json\n[1]", "```python\n[1]\n```")


class TestJsonTag(RewardContract):
    """``format.json`` in a tag."""

    reward = "format.json"
    params = {"source": "tag", "tag": "call"}
    good = rollouts("<call>[1]</call>")
    bad = rollouts("[1]", "<call>[1]", "</call>1<call>", "<call></call>")


class TestBoxed(RewardContract):
    """``format.boxed``, exactly one."""

    reward = "format.boxed"
    good = rollouts(r"So \boxed{42}.", r"\boxed{\frac{1}{2}}")
    bad = rollouts("42", r"\boxed{}", r"\boxed{42", r"\boxed{1} \boxed{2}")


class TestBoxedLast(RewardContract):
    """``format.boxed``, the last one."""

    reward = "format.boxed"
    params = {"once": False}
    good = rollouts(r"\boxed{} no, \boxed{42}")
    bad = rollouts(r"\boxed{42} no, \boxed{}")


class TestCodeBlock(RewardContract):
    """``format.code_block`` of any language."""

    reward = "format.code_block"
    good = rollouts("```python\nx\n```", "~~~\nx\n~~~")
    bad = rollouts("x", "```\nx", "```\n\n```")


class TestCodeBlockThatParses(RewardContract):
    """``format.code_block`` of Python that parses."""

    reward = "format.code_block"
    params = {"language": "python", "once": True, "parses": True}
    good = rollouts("```py\nx = 1\n```")
    bad = rollouts("```py\nx =\n```", "```js\nx = 1\n```", "```py\nx = 1\n```\n" * 2)


class TestLanguage(RewardContract):
    """``format.language`` as a share."""

    reward = "format.language"
    params = {"scripts": ["cyrillic"]}
    good = rollouts("Ответ сорок два.", "Ответ: $x = 42$")
    bad = rollouts("Ответ is forty-two", "The answer", "答案是四十二")


class TestLanguageOfSection(RewardContract):
    """``format.language`` of a section, all or nothing."""

    reward = "format.language"
    params = {"scripts": ["latin"], "min_share": 0.9, "tag": "think"}
    good = rollouts("<think>It is 42.</think> 答案", "<think>42</think>")
    bad = rollouts("It is 42.", "<think>答案 is</think>")


LOOP = "and so on " * 50
PROSE = "The quick brown fox jumps over the lazy dog, and nobody in the house wakes up before seven in the morning."


class TestRepetitionOfWords(RewardContract):
    """``format.repetition`` by words."""

    reward = "format.repetition"
    good = rollouts(PROSE, "")
    bad = rollouts(LOOP, PROSE + " " + PROSE)


class TestRepetitionOfCharacters(RewardContract):
    """``format.repetition`` by characters."""

    reward = "format.repetition"
    params = {"measure": "characters", "ngram": 6, "allowed": 0.1}
    good = rollouts(PROSE, "我们先算出答案然后再检查一遍")
    bad = rollouts(LOOP, "我们先算出答案" * 20)


class TestRepetitionByCompression(RewardContract):
    """``format.repetition`` by compression."""

    reward = "format.repetition"
    params = {"measure": "compression"}
    good = rollouts(PROSE, "")
    bad = rollouts(LOOP * 5)
