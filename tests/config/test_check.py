"""The tree against signatures, at any depth; the verdicts are jsonargparse's."""

import copy
import functools
import shlex
from pathlib import Path

import pytest

from lit_rlhf.config import ConfigErrors, check, compose, load_parts

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
FILE = ["--config", str(CONFIGS / "recipes" / "alpaca_scored" / "pra.yaml")]

ACCEPTED = """
--model.loss.tau=1
--model.loss.tau='"0.5"'
--model.loss.link=Logistic
--model.loss=Scaled --model.loss.head=RDA --model.loss.coefficient=2
--model.loss=Sum --model.loss.terms=[PRA,RDA] --model.loss.terms.0.tau=2
--model.reference=null
--model.reference=Cached --model.reference.reference=AdapterOff --model.reference.path=x
--model.optimizer=AdamW
--model.optimizer=SGD --model.optimizer.lr=1
--model.optimizer.betas=[0.9,0.99]
--model.schedule=TorchSchedule --model.schedule.scheduler='{class_path: StepLR, step_size: 3}'
--model.max_grad_norm=null
--model.learned='[LearnedTemperature, {class_path: LogPartition, model: x}]'
--model.metrics='[{class_path: torchmetrics.MeanMetric, nan_strategy: ignore}]'
--model.actor.model=runs/x
--model.actor.model.config='{model_type: llama, hidden_size: 8}'
--model.actor.model.lora=LoRA --model.actor.model.lora.target_modules=[q_proj,v_proj]
--model=BradleyTerry --model.reward.model=x --model.max_grad_norm=3
--data.columns.reward=null
--data.source_clip=[0,1]
--data.train='[a, {path: b, weight: 2}]'
--data.reward_transform+=Scale
--data=Reviews --data.responses=3
--trainer.devices=[0,1]
--trainer.precision=32
--trainer.callbacks+='{class_path: EarlyStopping, monitor: x, mode: max}'
--trainer.callbacks+='{class_path: Timer, duration: "00:00:01:00"}'
--trainer.logger='[{class_path: CSVLogger, save_dir: x}]'
--trainer.strategy='{class_path: DDPStrategy, find_unused_parameters: true}'
--trainer.plugins=[AsyncCheckpointIO]
--trainer.max_time='{hours: 1}'
--trainer.val_check_interval=0.5
--seed_everything=true
--ckpt_path=last
"""
REFUSED = """
--model.lossx.tau=1 :: did you mean loss?
--model.loss.beta=1 :: did you mean tau?
--model.loss.tau=[1] :: expected a number
--model.loss.tau=true :: expected a number, found true
--model.loss.reduce=summ :: did you mean sum?
--model.loss.link=Logistik :: did you mean Logistic?
--model.loss=RDAA :: did you mean RDA?
--model.loss=rda :: did you mean RDA?
--model.loss=lit_rlhf.losses.pra.PRAA :: did you mean lit_rlhf.losses.pra.PRA?
--model.loss=lit_rlhf.loss.pra.PRA :: did you mean lit_rlhf.losses.pra.PRA?
--model.loss=lit_rlhf.components.actor.Actor :: Actor is no LossHead
--model.loss=LossHead :: LossHead is abstract
--model.loss=Prior :: Prior needs head
--model.loss=3 :: expected a LossHead, found 3
--model.loss=Sum --model.loss.terms=PRA :: expected a list
--model.learning_rate=1 :: did you mean model.optimizer.lr?
--model.batch_size=1 :: did you mean data.batch_size?
--model.tau=1 :: did you mean model.loss.tau?
--model.reference=FromCheckpoint :: FromCheckpoint needs model
--model.reference.dtype=fp32 :: expected one of float32
--model.optimizer=SGD --model.optimizer.betas=1 :: SGD has no argument betas
--model.optimizer=torch.optim.Adamw :: did you mean torch.optim.AdamW?
--model.optimizer.betas=[0.9] :: expected 2 values, found 1
--model.optimizer.params=3 :: AdamW has no argument params
--model.schedule=Cosin :: did you mean Cosine?
--model.schedule=TorchSchedule --model.schedule.scheduler='{class_path: StepLR, step_siz: 3}' :: did you mean step_size?
--model.learned=[LogPartition] :: LogPartition needs model
--model.actor.model=3 :: expected a LanguageModel or text, found 3
--model.actor.model.lora.rank=4.5 :: expected a whole number, found 4.5
--model.actor=null :: expected an Actor, found null
--model=DPOO :: did you mean DPO?
--model=BradleyTerry --model.reward.model=x --model.actor.model=3 :: BradleyTerry has no argument actor
--data.batch_sze=3 :: did you mean batch_size?
--data.batch_size=3.0 :: expected a whole number, found 3.0
--data.overflow=dropp :: did you mean drop?
--data.columns.reward=3 :: quote it to make it text
--data.reward_transform.1.hi=3 :: did you mean high?
--data=Reviews --data.train=x :: Reviews has no argument train
--trainer.max_step=3 :: did you mean max_steps?
--trainer.precision=bf17 :: expected one of
--trainer.devices=1.5 :: expected
--trainer.callbacks=[DeviceStatMonitor] :: did you mean DeviceStatsMonitor?
--trainer.callbacks+='{class_path: EarlyStopping, moniter: x}' :: did you mean monitor?
--trainer.callbacks+='{class_path: EarlyStopping, monitor: x, patience: few}' :: trainer.callbacks.0.patience
--trainer.logger=CSVLogger :: CSVLogger needs save_dir
--trainer.strategy='{class_path: ModelParallelStrategy, data_parallel_size: x}' :: expected
--trainer.plugins='{class_path: MixedPrecision, precision: bf16, device: cuda}' :: expected one of 16-mixed, bf16-mixed
--trainer.default_root_dir=3 :: found 3
--seed_everything=x :: found the text 'x'
--trainer.callbacks='[{EarlyStopping: {monitor: x}}]' :: Callback (there is no class_path) has no argument EarlyStopping
--foo=3 :: there is no key foo
--lr=3 :: did you mean model.optimizer.lr?
"""
NESTED = """
--model.loss.terms.1.head.estimatr=k3 :: --model.loss.terms.1.head.estimatr=k3: KLPenalty has no argument estimatr
--model.loss.terms.1.head=KLPenlty :: did you mean KLPenalty?
--model.loss.terms.1.head.estimator=k9 :: expected one of k2, k3
--model.loss.terms.1.coefficient=x :: expected a number
--model.loss.terms+='{class_path: PRA, beta: 1}' :: model.loss.terms.2.beta: PRA has no argument beta; did you mean tau?
"""


def rows(table):
    return [tuple(part.strip() for part in line.split(" :: ")) for line in table.strip().splitlines()]


def composed(overrides, files=FILE):
    return compose([*files, *shlex.split(overrides)])


def lines_of(overrides, files=FILE):
    with pytest.raises(ConfigErrors) as refused:
        check(composed(overrides, files))
    return refused.value.lines


@functools.cache
def parser():
    """The parser that LightningCLI makes for `fit`, which has the last word."""
    load_parts()
    from lightning.pytorch import LightningDataModule, LightningModule, Trainer
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

    made = LightningArgumentParser(exit_on_error=False)
    made.add_argument("--seed_everything", type=bool | int, default=True)
    made.add_lightning_class_args(Trainer, "trainer")
    made.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    made.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    made.add_method_arguments(Trainer, "fit", skip=LightningCLI.subcommands()["fit"])
    return made


@pytest.mark.parametrize("overrides", [overrides for (overrides,) in rows(ACCEPTED)])
def test_what_jsonargparse_accepts_is_accepted(overrides):
    tree = composed(overrides)
    check(tree)
    parser().parse_object(copy.deepcopy(tree.tree))


@pytest.mark.parametrize("overrides, said", rows(REFUSED))
def test_what_is_refused_is_refused_by_jsonargparse_too(overrides, said):
    from argparse import ArgumentError

    (line,) = lines_of(overrides)
    assert said in line and line.startswith("--")
    with pytest.raises(ArgumentError):
        parser().parse_object(copy.deepcopy(composed(overrides).tree))


@pytest.mark.parametrize("overrides, said", rows(NESTED))
def test_nested_heads_are_checked_by_index(overrides, said):
    terms = "--model.loss.terms=[PRA,{class_path: Scaled, head: {class_path: KLPenalty}}]"
    (line,) = lines_of(overrides, [*FILE, "--model.loss=Sum", terms])
    assert said in line


def test_arguments_of_algorithms_that_sample_are_known_too():
    overrides = "--model.groupsize=3 --model.kl_coef=0.1 --model.batch_size=2"
    lines = lines_of(overrides, ["--config", str(CONFIGS / "ppo.yaml")])
    said = ("did you mean group_size?", "did you mean model.credit.0.tau?", "did you mean data.batch_size?")
    assert len(lines) == 3 and all(any(line.endswith(end) for line in lines) for end in said)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_committed_configuration_passes(path):
    files = ["--config", str(path)]
    check(compose(files if path.parent.name != "base" else [*FILE, *files]))


def test_mistakes_in_a_file_are_told_by_line_all_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(
        "model:\n  loss:\n    taux: 1\n  reference:\n    class_path: FrozenCop\n"
        "trainer:\n  max_epoch: 1\n  callbacks:\n    - Foo\ndata:\n  overflow: cut\n"
    )
    lines = lines_of("--trainer.min_step=1", [*FILE, "--config=mine.yaml"])
    assert sorted(line.partition(": ")[0] for line in lines) == sorted(
        ["mine.yaml:3", "mine.yaml:5", "mine.yaml:7", "mine.yaml:9", "mine.yaml:11", "--trainer.min_step=1"]
    )
    assert "mine.yaml:3: model.loss.taux: PRA has no argument taux; did you mean tau?" in lines


def test_a_configuration_without_model_and_data_says_so():
    lines = lines_of("", ["--config", str(CONFIGS / "base" / "cpu.yaml")])
    assert len(lines) == 2 and ": model: " in lines[0] and ": data: " in lines[1]


def test_what_is_null_at_the_top_is_not_there():
    assert lines_of("--data=null") == ("--data=null: no configuration has data; add one that has, as in --config dpo",)
    check(composed("--trainer=null --ckpt_path=null"))


def test_null_is_refused_where_a_value_is_needed():
    assert lines_of("--model.loss.tau=null") == ("--model.loss.tau=null: expected a number, found null",)


def test_what_an_open_class_takes_is_left_to_jsonargparse():
    check(composed("--model.metrics='[{class_path: torchmetrics.MeanMetric, sync_on_compute: false}]'"))


@pytest.mark.parametrize("source, said", [
    ("import torch\n\nclass Mine(torch.nn.Modul): ...\n", "importing broken fails: AttributeError"),
    ("class Mine(\n", "importing broken fails: SyntaxError"),
    ("import not_there\n", "importing broken fails: ModuleNotFoundError: No module named 'not_there'"),
    ("class Mine: ...\n", "Mine is no LossHead"),
    ("from lit_rlhf.losses.pra import PRA\n\nclass Mein(PRA): ...\n", "did you mean broken.Mein?"),
])
def test_a_file_of_the_user_that_fails_is_told_in_one_line(tmp_path, monkeypatch, source, said):
    import sys

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken.py").write_text(source)
    (line,) = lines_of("--model.loss=broken.Mine")
    sys.modules.pop("broken", None)
    assert said in line and "\n" not in line


def test_a_head_of_the_user_is_checked_like_ours(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_heads.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom lit_rlhf.losses.pra import PRA\n\n"
        "@dataclass(frozen=True)\nclass Own(PRA):\n    power: int = 2\n"
    )
    check(composed("--model.loss=own_heads.Own --model.loss.power=3 --model.loss.link=Logistic"))
    (line,) = lines_of("--model.loss=own_heads.Own --model.loss.powr=3")
    assert "did you mean power?" in line
    (line,) = lines_of("--model.loss=own_heads.Own --model.loss.link=Logistik")
    assert "did you mean Logistic?" in line


def test_the_command_line_says_it_in_a_line_and_exits_with_2(capsys):
    from lit_rlhf.cli import main

    assert main(["fit", "--config", str(CONFIGS / "dpo.yaml"), "--model.lossx.tau=1"]) == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["--model.lossx.tau=1: DPO has no argument lossx; did you mean loss?"]
    assert printed.out == ""
