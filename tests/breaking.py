"""Callbacks that break a run, named by `class_path` on a command line."""

import os
import signal

import torch
from lightning.pytorch import Callback


class Signalled(Callback):
    """This process gets a signal in its second update."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 1:
            os.kill(os.getpid(), signal.SIGTERM)


class OutOfMemory(Callback):
    """As a GPU would."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class Broken(Callback):
    """An exception that nobody expects, in the second update."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 1:
            raise LookupError("odd")
