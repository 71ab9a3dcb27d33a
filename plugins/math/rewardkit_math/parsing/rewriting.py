"""Notation that is rewritten before it is tokenized: units in commands, combinations, `1.5 x 10^3`."""

from __future__ import annotations

import re

from rewardkit_math.parsing.text import single_backslashes


def rewritten(text: str) -> str:
    r"""Return `text` with doubled backslashes, units in commands and combinations written in the usual way."""
    text = single_backslashes(text)
    if "^" in text and ("\\top" in text or "d}" in text or "t}" in text or "th}" in text):
        text = _ORDINAL.sub(r"\1\\text{\2}", text.replace("\\top", "T"))
    if "\\mu" in text or "\\Omega" in text:
        text = _with_unit_commands(text)
    if "C" in text or "P" in text or "A" in text:
        text = _COUNTING.sub(_counted, text)
    if "10^" in text:
        text = _TIMES.sub(r"\\times ", text)
    return text


_ORDINAL = re.compile(r"(\d)\s*\^\s*\{\s*(?:\\(?:text|mathrm)\s*\{\s*)?(st|nd|rd|th)\s*\}?\s*\}")
"""Ordinal numbers: `3^{\\text{rd}}`."""

_TIMES = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\^)")  # 1.5 x 10^3

_COUNTING = re.compile(
    r"(?:\{\s*\})?(?:\^\s*\{?\s*(?P<upper>\d+)\s*\}?|_\s*\{?\s*(?P<lower>\d+)\s*\}?)\s*(?:\\mathrm\s*\{\s*)?(?P<kind>[CP])(?:\s*\})?"
    r"\s*_\s*\{?\s*(?P<chosen>\d+)\s*\}?(?![\d^])"
)
"""Combinations and permutations with the total before the letter: `{}^{10}C_3`, `_{10}P_3`."""


def _counted(match: re.Match[str]) -> str:
    total, chosen = match["upper"] or match["lower"], match["chosen"]
    if match.start() and match.string[match.start() - 1].isalnum():
        return match[0]
    return f"\\binom{{{total}}}{{{chosen}}}" if match["kind"] == "C" else f"\\frac{{{total}!}}{{({total}-{chosen})!}}"


_UNIT_COMMANDS = re.compile(
    r"\\(?:text|mathrm)\s*\{\s*(?P<prefix>[kMGm])\s*\}\s*\\Omega\b"
    r"|(?<=[\d\s~,;}])(?P<letter>[kMGm]?)\s*\\Omega(?![A-Za-z_^])"
    r"|\\mu\s*\\(?:text|mathrm)\s*\{\s*(?P<unit>[A-Za-zΩ]{1,3})\s*\}"
    r"|(?<=[\s~,;])\\mu\s*(?P<plain>[AFmsgCHVWTL])(?![A-Za-z_^(])"
)


def _with_unit_commands(text: str) -> str:
    r"""Return `text` with `\mu\text{F}`, `k\Omega` and `5\ \Omega` as one word each."""
    if not any(c.isdigit() for c in text):
        return text

    def word(match: re.Match[str]) -> str:
        if match["unit"] or match["plain"]:
            return f"\\text{{μ{match['unit'] or match['plain']}}}"
        return f"\\text{{{match['prefix'] or match['letter'] or ''}Ω}}"

    return _UNIT_COMMANDS.sub(word, text)


_AXIS = re.compile(r"\s*(?:\\(?:mathbf|boldsymbol|bm|mathrm|hat)\s*\{?\s*)?\\?([ijkxyz])(?:math)?\s*\}?\s*")


def axis_of(content: str) -> str | None:
    r"""Return the name of the unit vector that `\hat{…}` or `\mathbf{…}` with this content is; None for other content."""
    match = _AXIS.fullmatch(content.replace("\\imath", "i").replace("\\jmath", "j"))
    return f"\\hat{{{match[1]}}}" if match is not None else None
