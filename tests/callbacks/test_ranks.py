"""Two processes: every rank gets its own random numbers back, and a stopped run goes on as if it had not been."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import warnings

import torch
import torch.multiprocessing as multiprocessing
from lightning import Callback, Trainer, seed_everything
from toy import Toy, ToyData

from lit_rlhf.callbacks.checkpointing import RunCheckpoint


class Terminated(Callback):
    """The whole job is asked to end while an item is computed."""

    def on_train_batch_start(self, trainer, module, batch, index):
        if batch == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def _train(rank, port, folder, name, settings, stop):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    os.environ["LOCAL_RANK"] = str(rank)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    seed_everything(rank, verbose=False)
    module, last = Toy(), folder / "last.ckpt"
    callbacks = [*([Terminated()] if stop else []), RunCheckpoint(folder, every_n_updates=3)]
    trainer = Trainer(
        strategy="ddp", devices=2, accelerator="cpu", callbacks=callbacks, logger=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, **settings,
    )
    try:
        trainer.fit(module, datamodule=ToyData(4), ckpt_path=last if last.exists() else None)
    except BaseException as error:
        module.events.append(("stopped", type(error).__name__))
    (folder / f"{name}-{rank}.json").write_text(json.dumps(module.events))
    os._exit(0)


def run(folder, name, settings, stop=False):
    """The events of each rank."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_train, args=(rank, port, folder, name, settings, stop)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]


def test_two_ranks_resume_with_their_own_random_states(tmp_path):
    whole = run(tmp_path / "a", "whole", {"max_epochs": 2})
    first = run(tmp_path / "b", "first", {"max_steps": 6, "max_epochs": -1})
    assert len(torch.load(tmp_path / "b" / "last.ckpt", weights_only=True)["run"]["ranks"]) == 2
    rest = run(tmp_path / "b", "rest", {"max_epochs": 2})
    assert whole[0] != whole[1]
    for rank in range(2):
        items = [[e for e in events if e[0] == "item"] for events in (whole[rank], first[rank] + rest[rank])]
        assert items[0] == items[1]


def test_sigterm_to_all_ranks_keeps_a_checkpoint_of_whole_items(tmp_path):
    whole = run(tmp_path / "a", "whole", {"max_epochs": 2})
    first = run(tmp_path / "b", "first", {"max_epochs": 2}, stop=True)
    rest = run(tmp_path / "b", "rest", {"max_epochs": 2})
    for rank in range(2):
        assert first[rank][-1][0] == "stopped"
        items = [[e for e in events if e[0] == "item"] for events in (whole[rank], first[rank] + rest[rank])]
        assert items[0] == items[1]
