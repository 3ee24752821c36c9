"""Pictures: what they show, and names that do not cover one another."""

import io
import math

from matplotlib.figure import Figure
from matplotlib.image import imread

from lit_rlhf.commands.evaluation.labels import label
from lit_rlhf.commands.evaluation.plots import bars, frontier
from lit_rlhf.functional.statistics import Estimate

FOUND = {
    "base": {"reward": Estimate(0.0, -0.1, 0.1, 9), "kl": Estimate(0.0, 0.0, 0.0, 9)},
    "runs/ppo": {
        "reward": Estimate(1.0, 0.9, 1.2, 9), "kl": Estimate(3.0, 2.5, 3.5, 9), "win_rate": Estimate(0.8, 0.7, 0.9, 9),
    },
    "other/tokens": {"reward": Estimate(0.5, math.nan, math.nan, 1)},
}



def width(figure):
    """Of the picture that is saved, in dots."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    return imread(file).shape[1]


def test_bars_of_every_measure_in_the_order_of_reward():
    figure = bars(FOUND, "base")
    reward, win, kl = (axes for axes in figure.axes if axes.get_visible())
    assert (reward.get_title(), win.get_title()) == ("reward", "win rate against the baseline")
    assert [text.get_text() for text in reward.get_yticklabels()] == ["runs/ppo", "other/tokens", "base *"]
    assert [bar.get_width() for bar in reward.patches] == [1.0, 0.5, 0.0]
    assert [bar.get_width() for bar in win.patches] == [0.8] and [bar.get_width() for bar in kl.patches] == [3.0, 0.0]
    assert width(figure) == 900


def test_the_frontier_has_every_policy_with_a_kl():
    figure = frontier(FOUND, "base", "reviews")
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == {"base", "runs/ppo"}
    assert axes.get_xlabel() == "KL(policy || base), nats per completion"
    assert axes.get_ylabel() == "mean reward (reviews)"
    assert width(figure) == 900


def test_no_frontier_without_kl():
    assert frontier({"a": FOUND["other/tokens"], "base": FOUND["base"]}, "base", "r") is None


def test_names_of_near_points_are_apart():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = Figure(figsize=(9, 5), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    points = {f"runs/policy-{n}": (1.0 + 0.01 * n, 1.0 + 0.005 * n) for n in range(5)} | {"far": (5.0, 4.0)}
    axes.scatter(*zip(*points.values(), strict=True))
    label(axes, points)
    figure.canvas.draw()
    texts = [text for text in axes.texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    assert sorted(text.get_text() for text in texts) == sorted(points)
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)
