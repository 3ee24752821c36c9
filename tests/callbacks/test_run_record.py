"""What a run directory says of its data."""

from types import SimpleNamespace

from callbacks.heads import Pairwise
from support import Bigram, FrozenBigram, GivenItems, fit, preferences

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.callbacks.run_record import RunRecord


def test_the_data_report_is_on_disk(tmp_path):
    data = GivenItems([(preferences(0),)])
    fit(Algorithm(Bigram(), Pairwise(), FrozenBigram()), data, callbacks=[RunRecord(tmp_path)])
    assert not (tmp_path / "data.md").exists()
    data.report = SimpleNamespace(markdown=lambda: "| rows |")
    fit(Algorithm(Bigram(), Pairwise(), FrozenBigram()), data, callbacks=[RunRecord(tmp_path)])
    assert (tmp_path / "data.md").read_text() == "| rows |"
