"""`python -m lit_rlhf export RUN OUT`: a run's model as a plain Hugging Face folder."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_rlhf.components.language_model import Dtype, LanguageModel
from lit_rlhf.components.origin import Origin, with_adapters
from lit_rlhf.components.reading import described, quiet
from lit_rlhf.components.reward import RewardModel, is_classifier
from lit_rlhf.components.runs import find_checkpoint, is_run, model_part, part_description, read_checkpoint, split_run
from lit_rlhf.components.saving import CARD, card, new_folder, origin_of, write_tokenizer
from lit_rlhf.errors import InputError
from lit_rlhf.types import Sequences

DTYPES = ("float32", "bfloat16", "float16")
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.05}
"""Nats by which the exported model may differ from the run's, by the dtype of its weights."""


def main(arguments: Sequence[str]) -> None:
    """Writes the folder and says how near its log-probs or scores are to the run's.

    Args:
        arguments: RUN, OUT and options.

    Raises:
        InputError: no such run, no checkpoint, or OUT has files.
    """
    parser = argparse.ArgumentParser(
        prog="python -m lit_rlhf export",
        description="Writes the actor or the reward model of a run as a folder that from_pretrained loads: "
        "safetensors, tokenizer, generation settings and a card. Adapters are merged unless --adapter is given.",
    )
    parser.add_argument("run", metavar="RUN", help="a run directory; RUN:last and RUN:best name a checkpoint of it")
    parser.add_argument("out", metavar="OUT", help="a new folder")
    parser.add_argument("--adapter", action="store_true", help="write the adapters alone")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights (default: float32)")
    given = parser.parse_args(arguments)
    apart = export(given.run, given.out, given.adapter, given.dtype)
    print(f"{given.out}: written, read again and compared with {find_checkpoint(given.run)}: at most {apart:.1g} apart")


def export(run: str, out: str | Path, adapter: bool = False, dtype: Dtype = "float32") -> float:
    """Writes the folder whole or not at all.

    Args:
        run: a run directory, with or without `:last` or `:best`.
        out: a new folder.
        adapter: write the adapters alone.
        dtype: of the weights.

    Returns:
        The largest difference of a log-prob or a score, on a few tokens, between the folder read again and the run.

    Raises:
        InputError: no such run, no checkpoint, `out` has files, or adapters are asked for where there are none.
        RuntimeError: the folder does not give the run's numbers; nothing is left behind.
    """
    if not is_run(run):
        raise InputError(
            f"{run}: no run; `export` takes a run directory (runs/NAME), and a folder with a model is one already"
        )
    reward, out = model_part(run) == "reward", Path(out)
    if adapter and dtype != "float32":
        raise InputError("--adapter: adapters are float32; leave out --dtype")
    with new_folder(out) as folder:
        part = RewardModel(run) if reward else LanguageModel(run)
        part.build(frozen=True)
        few = _few_sequences(part.model if reward else part)
        with torch.no_grad():
            expected = part.score(few) if reward else part.token_logps(few).values
        if adapter:
            _write_adapters(run, folder)
            write_tokenizer(part, folder)
            (folder / CARD).write_text(run_card(run, out.name), encoding="utf-8")
        else:
            part.to(getattr(torch, dtype)).save(folder, run_card(run, out.name))
        found = _scores(folder, few) if reward else [_logps(folder, few)]
        apart = max(float(((values - expected).abs() / expected.abs().clamp_min(1.0)).max()) for values in found)
        if not apart <= TOLERANCE[dtype]:
            raise RuntimeError(
                f"{out}: read again, the model is {apart:.3g} from {find_checkpoint(run)}; nothing was written"
            )
    return apart


def run_card(run: str, title: str) -> str:
    """The card of a run's model: where it comes from, its metrics, its data and its configuration."""
    folder, checkpoint = split_run(run)[0], read_checkpoint(run)
    source = origin_of(part_description(run))
    facts = {
        "run": str(folder),
        "checkpoint": f"{find_checkpoint(run).name}, after {checkpoint.get('global_step', 0)} updates",
        "part": model_part(run), "started from": source or "random weights",
    }
    sections = {"Metrics": _metrics(checkpoint.get("callbacks", {}))}
    sections |= {"Data": _text(folder / "data.md"), "Configuration": _fenced(_text(folder / "config.yaml"))}
    return card(title, facts, {heading: text for heading, text in sections.items() if text}, source)


def _metrics(callbacks: Mapping[str, Any]) -> str:
    """First and last values of what the run's summary follows."""
    curves = {name: values for state in callbacks.values() if isinstance(state, Mapping)
              for name, values in state.get("curves", {}).items() if values}
    rows = [f"| {name} | {values[0]:.4g} | {values[-1]:.4g} |" for name, values in sorted(curves.items())]
    return "\n".join(["| | first | at this checkpoint |", "|---|---|---|", *rows]) if rows else ""


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _fenced(text: str) -> str:
    return f"```yaml\n{text}\n```" if text else ""


def _write_adapters(run: str, folder: Path) -> None:
    description = part_description(run)
    source = origin_of(description)
    if not (description / "adapter_config.json").is_file():
        raise InputError(f"{run}: all its weights were trained, so there is no adapter to write; leave out --adapter")
    if source is None or is_run(source) or model_part(run) == "reward":
        raise InputError(
            f"{run}: --adapter needs a policy over a model that from_pretrained finds by name, and this is the "
            f"{model_part(run)} over {source or 'random weights'}; leave out --adapter to write the merged model"
        )
    net = with_adapters(run, Origin(source).network(torch.float32))
    net.peft_config["default"].base_model_name_or_path = described(source)
    with quiet():
        net.save_pretrained(folder, save_embedding_layers=False)  # looking for new tokens would ask the hub


@torch.no_grad()
def _logps(folder: Path, sequences: Sequences) -> Tensor:
    """[T] by transformers alone: one sequence at a time, dense."""
    from transformers import AutoModelForCausalLM

    with quiet():
        net = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    found = []
    for ids, start in zip(_rows(sequences), sequences.prompt_lengths.tolist(), strict=True):
        logps = net(input_ids=ids[None]).logits[0, start - 1 : -1].float().log_softmax(-1)
        found.append(logps.gather(1, ids[start:, None])[:, 0])
    return torch.cat(found)


@torch.no_grad()
def _scores(folder: Path, sequences: Sequences) -> list[Tensor]:
    """[S] by `RewardModel`, and by transformers alone where the folder is a classifier of its own."""
    from transformers import AutoModelForSequenceClassification

    again = RewardModel(str(folder))
    again.build(frozen=True)
    found = [again.score(sequences)]
    if is_classifier(folder):
        with quiet():
            net = AutoModelForSequenceClassification.from_pretrained(folder, dtype="auto").eval()
        found.append(torch.cat([net(input_ids=ids[None]).logits[0].float() for ids in _rows(sequences)]))
    return found


def _rows(sequences: Sequences) -> list[Tensor]:
    """[P + C] the tokens of each row, for one completion per prompt."""
    prompts = sequences.prompt_ids.split(sequences.prompt_lengths.tolist())
    completions = sequences.completion_ids.split(sequences.completion_lengths.tolist())
    return [torch.cat(row) for row in zip(prompts, completions, strict=True)]


def _few_sequences(model: LanguageModel) -> Sequences:
    """Random ones of different lengths that end by a stop id, where the model has one."""
    draw = torch.Generator().manual_seed(0)
    prompts, completions = torch.tensor([3, 5, 2]), torch.tensor([4, 1, 6])
    tokens = model.net.get_input_embeddings().num_embeddings
    ids = [torch.randint(tokens, (int(lengths.sum()),), generator=draw) for lengths in (prompts, completions)]
    if model.stop_ids:
        ids[1][completions.cumsum(0) - 1] = model.stop_ids[0]
    return Sequences(ids[0], prompts, ids[1], completions, torch.arange(3))
