"""The terminal table."""

import math

from lit_rlhf.commands.evaluation.table import number, ranked, table
from lit_rlhf.functional.statistics import Estimate


def row(reward, **more):
    return {"reward": Estimate(reward, reward - 0.1, reward + 0.1, 9)} | {
        name.replace("at", "@"): Estimate(value, math.nan, math.nan, 9) for name, value in more.items()
    }


def test_the_highest_reward_comes_first_and_one_without_last():
    assert ranked({"none": {}, "low": row(1.0), "high": row(2.0)}) == ["high", "low", "none"]


def test_columns_that_someone_has():
    lines = table({"runs/a": row(1.0, kl=2.0, passat2=0.5, passat10=1.0), "base": row(0.25)}, "base").splitlines()
    assert lines[0].split() == ["policy", "reward", "KL", "pass@2", "pass@10"]
    assert lines[1].split() == ["runs/a", "1.000", "[0.900,", "1.100]", "2.000", "0.500", "1.000"]
    assert lines[2].split() == ["base", "*", "0.250", "[0.150,", "0.350]", "-", "-", "-"]
    assert len({len(line) for line in lines}) == 1


def test_parts_have_a_table_of_their_own():
    text = table({"a": row(1.0) | {"reward/format": Estimate(0.5, 0.4, 0.6, 9)}}, "a")
    assert text.split("\n\n")[1].splitlines() == ["policy  reward/format", "a *             0.500"]


def test_numbers():
    shown = [number(value) for value in (0.12345, -12.3456, 123.456, 123456.0)]
    assert shown == ["0.123", "-12.346", "123.5", "1.235e+05"]
