"""alpaca_scored.jsonl.gz from a checkout of the public alpaca_eval repository (tatsu-lab/alpaca_eval; data CC BY-NC 4.0).

    python tools/make_alpaca_scored.py CHECKOUT OUT [--models NAME ...]

A line is an instruction with the responses of several models and the probability with which the judge
`weighted_alpaca_eval_gpt4_turbo` prefers each to one fixed baseline:

    {"prompt": ..., "responses": [{"generator": ..., "text": ..., "win_probability": ...}]}

Read are `CHECKOUT/results/<model>/weighted_alpaca_eval_gpt4_turbo/annotations.json`, joined on `instruction`; the text is
`output_2`, the probability `preference` - 1, clipped to [1e-6, 1 - 1e-6]. Rows without a preference are left out and counted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

JUDGE = "weighted_alpaca_eval_gpt4_turbo"
CLIP = 1e-6
MODELS = (
    "alpaca-7b", "alpaca-farm-ppo-human", "gemma-2b-it", "falcon-7b-instruct", "vicuna-7b-v1.5", "text_davinci_001",
    "text_davinci_003", "phi-2-sft", "oasst-sft-pythia-12b", "gpt35_turbo_instruct", "gpt-3.5-turbo-1106_concise", "minichat-3b",
)
"""From weak to middling: a judge that always prefers the baseline says nothing."""


def annotations(checkout: Path, model: str) -> list[dict[str, Any]]:
    """What the judge said of one model.

    Raises:
        ValueError: the file is missing, or is no list.
    """
    file = checkout / "results" / model / JUDGE / "annotations.json"
    if not file.is_file():
        there = sorted(path.parent.parent.name for path in checkout.glob(f"results/*/{JUDGE}/annotations.json"))
        found = f"the checkout has {len(there)} judged models{': ' + ', '.join(there[:10]) if there else ''}"
        raise ValueError(f"{file}: no such file; {found}")
    rows = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(rows, list):
        raise ValueError(f"{file}: found {type(rows).__name__}, expected a list of rows")
    return rows


def response(row: Mapping[str, Any], model: str, place: str) -> dict[str, Any] | None:
    """A model's response with its win probability; None where the judge gave no preference.

    Raises:
        ValueError: the row lacks its response, or the preference is not between 1 and 2.
    """
    preference = row.get("preference")
    if preference is None or math.isnan(preference):
        return None
    if "output_2" not in row or not 1 <= preference <= 2:
        raise ValueError(f"{place}: preference {preference}, expected output_2 and a number from 1 (baseline) to 2 (the model)")
    return {"generator": model, "text": row["output_2"], "win_probability": min(max(preference - 1, CLIP), 1 - CLIP)}


def joined(checkout: Path, models: Sequence[str]) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Instructions in the order of the first model, each with its responses; how many rows have no preference."""
    found: dict[str, list[dict[str, Any]]] = {}
    without = 0
    for model in models:
        for number, row in enumerate(annotations(checkout, model)):
            one = response(row, model, f"{model}, row {number}")
            responses = found.setdefault(row["instruction"], [])
            without += one is None
            responses.extend([] if one is None or any(other["generator"] == model for other in responses) else [one])
    return {prompt: responses for prompt, responses in found.items() if responses}, without


def lines(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """The lines of the file."""
    for prompt, responses in found.items():
        yield json.dumps({"prompt": prompt, "responses": responses}, ensure_ascii=False) + "\n"


def write(out: Path, content: Iterator[str]) -> None:
    """A compressed file, whole or not at all, the same bytes for the same content."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".") as folder:
        made = Path(folder) / out.name
        with open(made, "wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
            for line in content:
                packed.write(line.encode("utf-8"))
        os.replace(made, out)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python tools/make_alpaca_scored.py", description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", metavar="CHECKOUT", type=Path, help="of github.com/tatsu-lab/alpaca_eval")
    parser.add_argument("out", metavar="OUT", type=Path, help="a .jsonl.gz file")
    parser.add_argument("--models", metavar="NAME", nargs="+", default=MODELS, help="folders of results/ (default: 12 of them)")
    given = parser.parse_args(arguments)
    try:
        found, without = joined(given.checkout, given.models)
        write(given.out, lines(found))
    except (OSError, ValueError, KeyError) as error:
        parser.exit(2, f"{error}\n")
    responses = [one for several in found.values() for one in several]
    clipped = sum(not CLIP < one["win_probability"] < 1 - CLIP for one in responses)
    print(
        f"{given.out}: {len(found)} prompts, {len(responses)} responses of {len(given.models)} models, {clipped} at the clip; "
        f"{without} rows without a preference left out"
    )


if __name__ == "__main__":
    main()
