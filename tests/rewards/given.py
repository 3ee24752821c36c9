"""Responses made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lit_rlhf.rewards.base import Response
from lit_rlhf.types import PromptRecord


def response(text: str = "", prompt: Any = "why?", answer: str | None = None, group: int = 0, **rest: Any) -> Response:
    """One response; `extra` are the columns of its row, `row` where that is, and `ids` and `finished` its own."""
    extra: Mapping[str, Any] = rest.pop("extra", {})
    record = PromptRecord(prompt, answer, extra, rest.pop("row", "rows.jsonl:1"))
    ids = tuple(rest.pop("ids", range(len(text.split()) + 1)))
    return Response(record, text, ids, rest.pop("finished", True), group)


def texts(*found: str, size: int = 1) -> list[Response]:
    """A response of each text, in groups of `size`, every one of a row of its own number."""
    return [response(text, group=place // size, row=f"rows.jsonl:{place + 1}") for place, text in enumerate(found)]
