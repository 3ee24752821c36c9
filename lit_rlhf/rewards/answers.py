r"""The final answer of a text, and whether two are the same: numbers as fractions, whatever they are written like.

A final answer follows `####`, stands in `\boxed{...}` or `<answer>...</answer>`, or follows `answer is`, `answer:` and
the like; the last of them counts. What stands before `</think>` is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

_LONGEST, _LARGEST, _MARKS = 64, 400, 16
"""Digits of a number, its greatest power of ten, and marks that are looked at: a policy may write any."""

_PLAIN = r"(?:\d{1,3}(?:,\d{3})++(?!\d)|\d++)(?:\.\d++)?|\.\d++"
_NUMBER = re.compile(
    rf"""(?<![\w.^])(?<!\^\{{)                                  # no exponent, no part of a name
    (?P<sign>(?<![\d)])-\s?)?[$€£¥]?\s?(?P<inner>-)?            # -$5 and $-5
    (?:(?P<whole>\d++)\s++(?=\d++\s?/\s?\d))?                   # of a mixed number
    (?P<number>{_PLAIN})
    (?:\s?/\s?(?P<below>{_PLAIN})
      |[eE](?P<exponent>[-+]?\d{{1,9}})\b
      |\s?(?:[x*×]|\\times|\\cdot)\s?10\s?\^\s?\{{?(?P<power>-?\d{{1,9}})\}}?)?
    (?P<percent>\s?(?:%|percent\b|per\scent\b))?""",
    re.VERBOSE,
)
_MARKER = re.compile(r"####|\\f?boxed\b|<answer>|\banswer\b[^\n.:=]{0,60}?(?:\bis\b|\bequals\b|[:=])", re.IGNORECASE)
_SENTENCE = re.compile(r"[.!?](?=\s|$)")
_SPOKEN = {  # what LaTeX and Markdown put around a number
    r"\\[dtc]frac": r"\\frac", r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox)\s?\{([^{}]*)\}": r" \1 ",
    r"\\frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}": r" \1/\2", r"\\frac\s?(\d)\s?(\d)": r" \1/\2",
    r"\{,\}": ",", r"\\[!,;:]|\\left|\\right|\*\*|__|`": "", r"\\([$%])": r"\1", r"\\[()\[\]]|\\ |~": " ",
    r"[−–](?=\s?[$€£¥]?\d)": "-", r"[\u00a0\u202f\u2009]": " ",
}
_RULES = [(re.compile(pattern), written) for pattern, written in _SPOKEN.items()]


@dataclass(frozen=True)
class Answer:
    """A final answer: a number where it is one, else its text."""

    text: str
    value: Fraction | None = None
    percent: bool = False

    def agrees(self, other: Answer, tolerance: float = 0.0) -> bool:
        """Whether both say the same; a percentage says its number and its share (50 % is 50 and 1/2).

        Args:
            other: the right one.
            tolerance: the greatest relative difference of numbers.
        """
        if self.value is None or other.value is None:
            return self.value is other.value and bool(self.text) and self.text == other.text
        pairs = [(self.value, other.value)]
        if self.percent != other.percent:
            pairs.append((self.share, other.share))
        return any(abs(one - right) <= Fraction(tolerance) * abs(right) for one, right in pairs)

    @property
    def share(self) -> Fraction:
        """The number that a percentage is of one."""
        return self.value / 100 if self.percent else self.value


def final_answer(text: str, last_number: bool = True) -> Answer | None:
    """The final answer of a response or solution; None where there is none.

    Args:
        text: all of it.
        last_number: take the last number where nothing is marked as the answer.
    """
    opened, closed, after = text.rpartition("</think>")
    text = _plain(after)
    if not closed and "<think>" in text:
        return None
    for found in _marked(text):
        if found.value is not None or found.text:
            return found
    numbers = list(_NUMBER.finditer(text)) if last_number else []
    return next((answer for match in reversed(numbers) if (answer := _number(match)).value is not None), None)


def stated_answer(text: str) -> Answer:
    """The answer that a data set states: a solution with a marked answer, or the answer alone."""
    return final_answer(text, last_number=False) or _whole(_plain(text))


def _marked(text: str) -> Iterator[Answer]:
    """What the markers of a text say, the last first."""
    for marker in reversed(list(_MARKER.finditer(text))[-_MARKS:]):
        name, rest = marker.group().lower(), text[marker.end() :]
        if name.endswith("boxed"):
            yield _whole(_braced(rest.lstrip()))
        elif name == "<answer>":
            yield _whole(rest.partition("</answer>")[0])
        else:
            line = rest.lstrip(" :*\n").partition("\n")[0]
            yield _first(_SENTENCE.split(line, maxsplit=1)[0])


def _braced(text: str) -> str:
    """What stands in the braces that a text begins with; nothing where they do not close."""
    if not text.startswith("{"):
        return text.split(maxsplit=1)[0] if text else ""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[1:place]
    return ""


def _whole(text: str) -> Answer:
    """A text that is one number, with a unit at most, or else itself."""
    numbers = list(_NUMBER.finditer(text.rpartition("=")[2]))
    return _number(numbers[0], text) if len(numbers) == 1 else Answer(_bare(text))


def _first(text: str) -> Answer:
    """The first number of a sentence, of what its last equation equals; or else itself."""
    match = _NUMBER.search(text.rpartition("=")[2])
    return Answer(_bare(text)) if match is None else _number(match, text)


def _number(match: re.Match[str], text: str = "") -> Answer:
    parts = {name: value.replace(",", "") for name, value in match.groupdict().items() if value is not None}
    power = int(parts.get("exponent") or parts.get("power") or 0)
    below = Fraction(parts.get("below", "1")) if len(parts.get("below", "")) <= _LONGEST else 0
    if max(len(parts["number"]), len(parts.get("whole", ""))) > _LONGEST or abs(power) > _LARGEST or not below:
        return Answer(_bare(text))
    size = (int(parts.get("whole", 0)) + Fraction(parts["number"]) / below) * Fraction(10) ** power
    return Answer(_bare(text), -size if "sign" in parts or "inner" in parts else size, "percent" in parts)


def _plain(text: str) -> str:
    for pattern, written in _RULES:
        text = pattern.sub(written, text)
    return text


def _bare(text: str) -> str:
    """A text without what no answer differs by: spaces, case, brackets around it, a full stop."""
    return re.sub(r"\s+", "", text).strip("().$").lower()
