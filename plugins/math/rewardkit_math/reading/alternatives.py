r"""Second readings of an answer whose first reading differs from the other side: `12,50` as a decimal, `FF_{16}`, `P(10,3)`, `a + b = 7`.

A reading is tried only if the other side is of the kind that it would give, so that no list becomes a decimal on its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rewardkit_math.errors import MathError
from rewardkit_math.expr import Expr
from rewardkit_math.parsing import parse
from rewardkit_math.parsing import vocabulary as words
from rewardkit_math.units import words_behind

_NUMBERS = frozenset(("num", "base", "unit", "pct", "mul", "div", "fn"))
"""Heads of expressions that are one value."""


def alternatives(content: str, other: Expr | None, *, prediction: bool) -> Iterator[Expr]:
    """Yield other readings of an answer.

    Args:
        content: The answer as it is written.
        other: What it is compared with.
        prediction: True if the answer is the prediction's, of which an equation may be replaced by its right side.
    """
    if len(content) > 200:
        return
    if other is not None and other.head in _NUMBERS:
        for reader, marks in ((_decimal_comma, ","), (_thousands, "k"), (_arranged, "CPA")):
            if any(mark in content for mark in marks):
                found = reader(content)
                if found is not None:
                    yield found
    based = based_numeral(content) or (
        _digits_in(content, other.args[1]) if other is not None and other.head == "base" else None
    )
    if based is not None and (other is None or other.head in _NUMBERS):
        yield based
    if prediction and "=" in content and other is not None and other.head not in ("rel", "cond", "phrase", "seq"):
        right = _right_side(content)
        if right is not None:
            yield right
    if prediction and other is not None and other.head == "seq" and "\\text" in content:
        values = _labelled(content)
        if values is not None:
            yield values


_DECIMAL_COMMA = re.compile(
    r"(?P<before>[^\d,]{0,12}?)(?P<whole>\d+|\d{1,3}(?:[ .]\d{3})+),"
    r"(?P<decimals>\d{2}|\d{4,9}|(?<=\b0,)\d{1,3}|\d(?=\s*(?:\\?%|\\text|\\mathrm|\\[, ]|[A-Za-zμΩ°])|\D*[€£]))"
    r"(?P<behind>(?:[^\d,(){}\[\]].{0,30})?)",
    re.DOTALL,
)
_MONEY = re.compile(r"\s*(?:R\s*\\?\$|\\?\$|[€£¥₹]|\\euro|Rs\.?|EUR|USD|CHF)?\s*(-?)\s*")


def _decimal_comma(content: str) -> Expr | None:
    match = _DECIMAL_COMMA.fullmatch(content.strip())
    if match is None:
        return None
    before = _MONEY.fullmatch(match["before"])
    if before is None:
        return None
    try:
        return parse(
            f"{before[1]}{match['whole'].replace(' ', '').replace('.', '')}.{match['decimals']}{match['behind']}"
        )
    except MathError:
        return None


_THOUSANDS = re.compile(r"\\?\$?\s*(\d+(?:\.\d+)?)\s*k")


def _thousands(content: str) -> Expr | None:
    match = _THOUSANDS.fullmatch(content.strip())
    if match is None:
        return None
    return Expr("mul", parse(match[1]), Expr("num", 1000, None))


_CALLED = re.compile(
    r"(?:\\(?:mathrm|text|operatorname)\s*\{)?\s*(?P<kind>nCr|nPr|C|P|A)\s*\}?\s*\(\s*(?P<total>\d{1,6})\s*,\s*(?P<chosen>\d{1,6})\s*\)"
)
_INDEXED = re.compile(
    r"\{?\s*(?:\\(?:mathrm|text|rm)\s*\{?)?\s*(?P<kind>[APC])\s*\}?\s*(?:_\s*\{?\s*(?P<total>\d{1,6})\s*\}?\s*\^\s*\{?\s*(?P<chosen>\d{1,6})\s*\}?)"
)


def _arranged(content: str) -> Expr | None:
    """Return the number of combinations or permutations that `nCr(10,3)`, `P(10,3)` or `A_{10}^3` names."""
    match = _CALLED.fullmatch(content.strip()) or _INDEXED.fullmatch(content.strip())
    if match is None or int(match["chosen"]) > int(match["total"]) or int(match["total"]) > 1000:
        return None
    total, chosen = Expr("num", int(match["total"]), None), Expr("num", int(match["chosen"]), None)
    combinations = Expr("fn", "binom", total, chosen)
    return combinations if "C" in match["kind"] else Expr("mul", combinations, Expr("fn", "fact", chosen))


_BASE_WORD = "|".join(word for word in words.NUMBER_WORDS if " " not in word)
_SUBSCRIPTED = re.compile(
    rf"(?:\\(?:overline|mathrm|text|mathtt)\s*\{{)?\(?\s*(?P<digits>[0-9A-Z]+)\s*\)?\s*\}}?\s*(?:_\s*\{{?\s*\(?\s*(?:\\text\s*\{{)?\s*|\s*(?:\(|\\text\s*\{{)?\s*"
    rf"(?:in\s+)?base(?:\s*\}})?[\s-]*)(?P<base>\d{{1,2}}|{_BASE_WORD})\s*[)}}]*"
)
_PREFIXED = re.compile(r"0(?:x(?P<x>[0-9A-Fa-f]+)|b(?P<b>[01]+)|o(?P<o>[0-7]+))")


def based_numeral(content: str) -> Expr | None:
    """Return a numeral in another base: `FF_{16}`, `101 (base 2)`, `0xFF`."""
    if "_" not in content and "base" not in content and content[:1] != "0":
        return None
    content = content.strip()
    match = _PREFIXED.fullmatch(content)
    if match is not None:
        digits, base = next((match[name], base) for name, base in (("x", 16), ("b", 2), ("o", 8)) if match[name])
        return Expr("base", int(digits, base), base)
    match = _SUBSCRIPTED.fullmatch(content)
    if match is None or (len(match["digits"]) < 2 and not match["digits"].isdigit()):
        return None
    base = int(match["base"]) if match["base"].isdigit() else int(words.NUMBER_WORDS[match["base"]])
    return _numeral(match["digits"], base)


_LETTER_DIGITS = re.compile(r"[0-9A-F]*[A-F][0-9A-F]*")


def same_digits(content: str, reference: str) -> bool:
    """Return whether a numeral with letters among its digits is that of the reference without its base: `FF` for `FF_{16}`."""
    wanted = based_numeral(reference)
    return wanted is not None and _digits_in(content, wanted.args[1]) == wanted


def _digits_in(content: str, base: int) -> Expr | None:
    """Return digits of which some are letters, in the base of the other side."""
    content = content.strip()
    return _numeral(content, base) if len(content) < 40 and _LETTER_DIGITS.fullmatch(content) else None


def _numeral(digits: str, base: int) -> Expr | None:
    try:
        return Expr("base", int(digits, base), base) if 2 <= base <= 36 else None
    except ValueError:
        return None


_ITEM = re.compile(
    r"\s*\\text\s*\{(?P<label>[A-Za-z .:=]+)\}\s*[:=]?\s*"
    r"(?P<value>[-+\d\\][^,;{}]*(?:\{[^{}]*\}[^,;{}]*)*)(?:[,;]|\Z)(?:\s|\\[ ,;:])*"
)


def _labelled(content: str) -> Expr | None:
    r"""Return the values of `\text{Maximum } 5, \text{minimum } -3` in their order; None unless every item has a label."""
    values: list[Expr] = []
    at = 0
    while at < len(content):
        match = _ITEM.match(content, at)
        if (
            match is None
            or words_behind(match["label"]).changing
            or tuple(match["label"].casefold().split()) in words.BOUNDS
        ):
            return None
        try:
            values.append(parse(match["value"]))
        except MathError:
            return None
        at = match.end()
    return Expr("seq", "()", *values) if len(values) > 1 else None


_SUBSCRIPT = re.compile(r"_(?:\{[^{}]*\}|\\?\w)")
_RANGE = re.compile(r"(\\(?:sum|prod|int|lim)(?![A-Za-z])(?:\\limits)?\s*)(?:[_^](?:\{[^{}]*\}|\\?\w+)\s*)*")


_PROBABILITY = re.compile(
    r"(?:\\mathbb\s*\{\s*[PE]\s*\}|\\mathbb\s*[PE]|\\(?:mathrm|operatorname|text)\s*\{\s*(?:P|E|Pr|Var|Cov)\s*\}|\\Pr|\b(?:P|E|Var|Cov))"
    r"\s*(?:\\left)?(?:\([^()]*\)|\[[^\[\]]*\])"
)
_COMBINED = re.compile(r"\s*\d*\s*[a-wA-Z]\s*(?:[+-]\s*\d*\s*[a-wA-Z]\s*)+")
_COEFFICIENT = re.compile(r"\d+")
_VARIANCE = re.compile(r"(?:\\sigma|[sS])(?:_\{?\w\}?)?\^\{?2\}?")
_POWER_OF_INDEXED = re.compile(r"(_(?:\{[^{}]*\}|\w))\^\{?\d\}?")


def _right_side(content: str) -> Expr | None:
    r"""Return what an equation says of a quantity without numbers in it: `a + b = 7`, `P(A \mid B) = 0.6`, `\lim_{n\to\infty} a_n = 3`."""
    left, equals, right = _PROBABILITY.sub("P", content).rpartition("=")
    left = left.strip()
    if not equals or "=" in _RANGE.sub("", left) or left.endswith(("\\", "!", "<", ">", ":")) or not left:
        return None
    if _VARIANCE.fullmatch(left):
        left = "s"
    indexed = left.count("_") > 1
    if indexed:  # x_1^2 + x_2^2, the value of a symmetric expression
        left = _POWER_OF_INDEXED.sub(r"\1", left)
    bare = _SUBSCRIPT.sub("", _RANGE.sub(r"\1", left))
    big = left.startswith(("\\sum", "\\prod", "\\int", "\\lim"))
    if not indexed and _COMBINED.fullmatch(bare) and len({c for c in bare if c.isalpha()} - set("xyz")) > 1:
        bare = _COEFFICIENT.sub("", bare)  # 100m + n, the value that many competitions ask for
    if (
        any(c.isdigit() for c in bare)
        or not any(c.isalpha() for c in bare)
        or any(s in bare for s in ("<", ">", "\\le", "\\ge", ",", ";", "\\text"))
    ):
        return None
    if not indexed and ("+" in bare or "-" in bare) and {c for c in bare if c.isalpha()} <= set("xyz"):
        return None  # x + y = 3 is a line
    try:
        value = parse(right)
    except MathError:
        return None
    return value if big or value.features.isdisjoint(("sym", "word", "rel", "seq", "call", "text")) else None
