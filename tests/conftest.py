"""One thread: a pool of threads does not survive the forks of the tests with several processes."""

import torch

torch.set_num_threads(1)
