"""Names beside the points of a plot, where they cover neither a point nor one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

_DISTANCES = (9, 22, 36, 52)
_SIDES = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1.5), (0, -1.5))
"""Right and left above, right and left below, above, below."""


def label(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Writes every name at the nearest free place; a thin line leads to its point where that is not beside it.

    The limits of the axes are fixed by it: call it last.
    """
    from matplotlib.transforms import Bbox

    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    axes.figure.canvas.draw()
    centres = axes.transData.transform(list(points.values()))
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in centres]
    for name, point in sorted(points.items(), key=lambda item: item[1]):
        taken.append(_placed(axes, name, point, taken))


def _placed(axes: Axes, name: str, point: tuple[float, float], taken: list[Bbox]) -> Bbox:
    """Writes one name at the first free place, or the least covered one, and gives the box it takes, in dots."""
    text = axes.annotate(name, point, xytext=(0, 0), textcoords="offset points", fontsize=10, va="center")
    text.set_in_layout(False)
    places = [(distance, *side) for distance in _DISTANCES for side in _SIDES]
    best, least = places[0], float("inf")
    for place in places:
        _move(text, *place)
        covered = _covered(text.get_window_extent(), taken, axes.bbox)
        if covered < least:
            best, least = place, covered
        if covered == 0:
            break
    _move(text, *best)
    if best[0] > _DISTANCES[1]:
        axes.annotate("", point, xytext=text.get_position(), textcoords="offset points", arrowprops=_LINE)
    return text.get_window_extent()


_LINE = {"arrowstyle": "-", "color": "0.5", "linewidth": 0.8}


def _move(text: object, distance: float, right: float, up: float) -> None:
    text.set_position((distance * right, distance * up))
    text.set_horizontalalignment({1: "left", -1: "right", 0: "center"}[right])


def _covered(box: Bbox, taken: list[Bbox], room: Bbox) -> float:
    """Square dots that lie on other boxes or outside of the axes."""
    from matplotlib.transforms import Bbox

    shared = [Bbox.intersection(box, other) for other in taken]
    inside = Bbox.intersection(box, room)
    outside = box.width * box.height - (inside.width * inside.height if inside else 0.0)
    return outside + sum(found.width * found.height for found in shared if found)
