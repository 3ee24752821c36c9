import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lit_rlhf.ranks import gather_rows, sum_over_ranks, world_size


def test_one_process_gives_its_argument_back():
    rows = torch.arange(6.0).reshape(3, 2)
    gathered, start = gather_rows(rows)
    assert torch.equal(gathered, rows) and start == 0 and world_size() == 1
    assert torch.equal(sum_over_ranks(rows), rows)


def _rank(rank: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    own = torch.full((rank + 1, 2), float(rank))
    gathered, start = gather_rows(own)
    assert gathered.tolist() == [[0, 0], [1, 1], [1, 1]] and start == rank
    assert sum_over_ranks(torch.tensor([1.0, rank])).tolist() == [2, 1]
    dist.destroy_process_group()


def test_two_processes_gather_rows_of_unequal_number(tmp_path):
    mp.start_processes(_rank, args=(str(tmp_path / "store"),), nprocs=2, start_method="fork")
