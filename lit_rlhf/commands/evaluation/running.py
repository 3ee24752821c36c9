"""An evaluation from beginning to end: what is wrong is refused before a token is sampled; policies come one by one."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lit_rlhf.commands.evaluation.answering import answered, judged, of_baseline
from lit_rlhf.commands.evaluation.asking import Asked
from lit_rlhf.commands.evaluation.measures import Answers
from lit_rlhf.commands.evaluation.parts import Parts
from lit_rlhf.commands.evaluation.policies import apart, chosen_device, loaded, ordered, policy, same_prompts
from lit_rlhf.commands.evaluation.questions import common, questions
from lit_rlhf.commands.evaluation.report import Evaluation
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.runs import find_checkpoint, is_run
from lit_rlhf.types import Prompts

TOKENS = 16_384
"""In one forward pass, where the data module has no `micro_batch_tokens`."""


def evaluation(asked: Asked, parts: Parts, baseline: str, out: Path) -> Evaluation:
    """Samples, scores and compares.

    Args:
        asked: the command line.
        parts: of the configuration.
        baseline: the policy that the others are compared with; it is one of them, or is added to them.
        out: where the reward and the judge may keep what fails.

    Raises:
        InputError: before anything is sampled: a policy, the prompts, the reward or the sampler is wrong.
    """
    device = chosen_device(asked.device)
    names = ordered(asked.policies, baseline)
    policies = {name: policy(name, asked.dtype, asked.named.get(name, "--baseline")) for name in names}
    _check(parts, policies)
    prompts, notes = _prompts(asked, parts, policies)
    for part in parts.judging:
        part.build()
        part.to(device)
        part.write_to(out)
    answers = _answers(asked, parts, policies, prompts, device, notes)
    return Evaluation(
        answers, baseline, parts.reward.name, parts.reward.verifiable,
        {
            "prompts": sum(len(part.records) for part in prompts[baseline]), "samples": asked.samples,
            "sampler": parts.sampler.describe(policies[baseline]), "dtype": asked.dtype,
            "checkpoints": {name: str(find_checkpoint(name)) for name in names if is_run(name)},
            "judge": type(parts.judge).__name__ if parts.judge else "the higher reward wins, a tie is half",
        },
        notes,
    )


def _check(parts: Parts, policies: Mapping[str, LanguageModel]) -> None:
    """Reads tokenizers alone. Completions are no longer than the data know them."""
    most = getattr(parts.data, "max_completion_tokens", parts.sampler.max_new_tokens)
    parts.sampler.max_new_tokens = min(parts.sampler.max_new_tokens, most)
    for part in parts.judging:
        part.check()
    for model in policies.values():
        parts.sampler.check(model)


def _prompts(
    asked: Asked, parts: Parts, policies: Mapping[str, LanguageModel]
) -> tuple[dict[str, list[Prompts]], list[str]]:
    """Every policy's prompts, tokenised once for all that read them alike; and what is to be said of them."""
    kinds: list[LanguageModel] = []
    kind_of = {}
    for name, model in policies.items():
        found = next((n for n, kind in enumerate(kinds) if _alike(kind, model)), None)
        kind_of[name] = len(kinds) if found is None else found
        kinds += [model] if found is None else []
    every, left_out = common([questions(parts.data, kind, parts.sampler, asked.split, asked.limit) for kind in kinds])
    notes = [] if left_out is None else [left_out]
    if not parts.sampler.processing.plain:
        notes.append(
            "KL is between the policies' own distributions, at temperature 1 and without a filter, but along "
            f"completions sampled with {parts.sampler.processing}"
        )
    return {name: every[kind] for name, kind in kind_of.items()}, notes


def _alike(one: LanguageModel, other: LanguageModel) -> bool:
    return same_prompts(one, other) and one.origin.context == other.origin.context


def _answers(
    asked: Asked, parts: Parts, policies: Mapping[str, LanguageModel], prompts: Mapping[str, Sequence[Prompts]],
    device: torch.device, notes: list[str],
) -> dict[str, Answers]:
    """The baseline first, which stays; of the others one at a time."""
    name, *others = policies
    baseline = loaded(policies[name], device)
    budget = getattr(parts.data, "micro_batch_tokens", TOKENS)

    def answer(name: str, reference: LanguageModel | None) -> Answers:
        start = time.perf_counter()
        found = answered(policies[name], prompts[name], parts.sampler, asked.samples, parts.reward, reference, budget)
        print(f"{name}: {len(found.responses)} completions, {time.perf_counter() - start:.1f} s", flush=True)
        return found

    print(parts.sampler.describe(baseline), flush=True)
    answers = {name: of_baseline(answer(name, None))}
    for other in others:
        model = loaded(policies[other], device)
        reason = apart(model, baseline)
        notes += [] if reason is None else [reason]
        answers[other] = judged(answer(other, baseline if reason is None else None), answers[name], parts.judge)
        model.net = model.generation_config = None
        gc.collect()
    return answers
