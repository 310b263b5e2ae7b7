"""Every figure of the course, so that they look alike.

Each function returns a matplotlib Figure, which a notebook shows when it is the
last value of a cell. The colours are those of Okabe and Ito (Color Universal
Design, 2008), which readers with colour-blindness can tell apart.
"""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    import pandas

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, BLACK = OKABE_ITO
GREY = "#767676"
MARKERS = "osD^vPXh"

STYLE = {
    "figure.dpi": 110,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}


@contextmanager
def _figure(width: float, height: float):
    """A figure of this many inches in the course's style, closed so that a notebook shows it once."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(width, height))
        yield figure, axes
        figure.draw_without_rendering()  # settles the layout while the style is in force
        plt.close(figure)


def plot_map(
    vectors: np.ndarray,
    categories: Sequence[str],
    *,
    question: np.ndarray | None = None,
    nearest: Mapping[int, str] | None = None,
) -> Figure:
    """Texts as points: the two directions in which their vectors differ most (PCA).

    Args:
        vectors: shape (n, dim), a row for each text.
        categories: n names, drawn as colours and markers.
        question: shape (dim,), drawn as a star in the same plane.
        nearest: row number -> label of the texts to join to the question.
    """
    centre = vectors.mean(axis=0)
    axes_of_most_variance = np.linalg.svd(vectors - centre, full_matrices=False)[2][:2]
    points = (vectors - centre) @ axes_of_most_variance.T
    categories = np.asarray(categories)
    with _figure(7.5, 5) as (figure, axes):
        for colour, marker, category in zip(OKABE_ITO, MARKERS, dict.fromkeys(categories)):
            x, y = points[categories == category].T
            axes.scatter(
                x, y, s=50, color=colour, marker=marker, edgecolor=BLACK, linewidth=0.4, label=category, zorder=3
            )
        if question is not None:
            star = (question - centre) @ axes_of_most_variance.T
            for row, label in (nearest or {}).items():
                axes.plot(*zip(star, points[row]), color=GREY, linewidth=1, zorder=2)
                # To the side that faces away from the star, so that its own label has room.
                left = points[row][0] < star[0]
                axes.annotate(
                    label, points[row], xytext=(-8 if left else 8, -3), textcoords="offset points",
                    horizontalalignment="right" if left else "left", fontsize=9,
                )  # fmt: skip
            axes.scatter(*star, s=220, marker="*", color="white", edgecolor=BLACK, zorder=4)
            axes.annotate(
                "your question", star, xytext=(0, 10), textcoords="offset points",
                horizontalalignment="center", fontweight="bold",
            )  # fmt: skip
            axes.margins(x=0.12)
        axes.set(xticks=[], yticks=[], xlabel="first principal component", ylabel="second principal component")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return figure


def plot_vectors(vectors: np.ndarray, labels: Sequence[str], *, numbers: int = 64) -> Figure:
    """The first numbers of some vectors as strips of colour, a strip for each text.

    Args:
        vectors: shape (n, dim).
        labels: n short texts, written beside the strips.
        numbers: how many of the dim numbers to show.
    """
    shown = np.asarray(vectors)[:, :numbers]
    limit = np.abs(shown).max()
    with _figure(7.5, 0.8 + 0.42 * len(labels)) as (figure, axes):
        image = axes.imshow(shown, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axes.set_yticks(range(len(labels)), labels)
        axes.set_xlabel(f"position in the vector (the first {shown.shape[1]} of {np.shape(vectors)[1]})")
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, label="value", shrink=0.9)
        return figure


def plot_bars(values: Mapping[str, float], *, label: str, unit: str = "") -> Figure:
    """Named values as horizontal bars, each with its value written beside it.

    Args:
        values: name -> value, drawn from top to bottom.
        label: what is measured, for the axis.
        unit: for the axis and behind each value.
    """
    names, numbers = list(values), list(values.values())
    with _figure(7.5, 0.9 + 0.42 * len(names)) as (figure, axes):
        bars = axes.barh(names, numbers, color=BLUE, height=0.65)
        axes.bar_label(bars, [f"{number:.3g} {unit}".strip() for number in numbers], padding=4)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel(f"{label} ({unit})" if unit else label)
        axes.tick_params(axis="y", length=0)
        return figure


def plot_matrix(values: np.ndarray, names: Sequence[str], *, label: str) -> Figure:
    """A value for each pair of names as a coloured square with the number in it.

    Args:
        values: shape (n, n); NaN leaves a square blank.
        names: n names, for the rows and the columns alike.
        label: what the values are, for the colour bar.
    """
    with _figure(7.5, 6) as (figure, axes):
        image = axes.imshow(values, cmap="cividis")
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        middle = (np.nanmin(values) + np.nanmax(values)) / 2
        for row, column in np.argwhere(~np.isnan(values)):
            value = values[row, column]
            colour = BLACK if value > middle else "white"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
        figure.colorbar(image, ax=axes, label=label, shrink=0.8)
        return figure


def plot_scores(summary: "pandas.DataFrame", *, group: str, label: str = "nDCG@10") -> Figure:
    """Methods side by side: a mean with its interval for each group, in rows.

    Args:
        summary: as from `evaluation.summarise`: the column named `group`, and method, mean, low, high.
        group: the column whose values become the rows, such as dataset or kind.
        label: what the mean is of, for the axis.
    """
    groups, methods = list(dict.fromkeys(summary[group])), list(dict.fromkeys(summary["method"]))
    with _figure(7.5, 1.1 + 0.28 * (len(methods) + 0.8) * len(groups)) as (figure, axes):
        for row, method in enumerate(methods):
            values = summary[summary["method"] == method].set_index(group).loc[groups]
            heights = np.arange(len(groups)) * (len(methods) + 0.8) + row
            axes.errorbar(
                values["mean"], heights, xerr=[values["mean"] - values["low"], values["high"] - values["mean"]],
                fmt=MARKERS[row], color=OKABE_ITO[row], ecolor=OKABE_ITO[row], capsize=3, markersize=6,
            )  # fmt: skip
            for height, mean, high in zip(heights, values["mean"], values["high"]):
                axes.annotate(
                    f"{method} {mean:.2f}", (high, height), xytext=(6, 0), textcoords="offset points", va="center",
                    fontsize=9,
                )  # fmt: skip
        axes.set_yticks(np.arange(len(groups)) * (len(methods) + 0.8) + (len(methods) - 1) / 2, groups)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.2)
        axes.set_xticks(np.arange(0, 1.01, 0.2))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"mean {label}, with its 95 % confidence interval")
        return figure


def plot_progress(points: Mapping[str, Sequence[int]]) -> Figure:
    """What a learner has done: a bar for each exercise, filled as far as points were earned.

    Args:
        points: exercise -> (points earned, points there are).
    """
    names = list(points)
    earned, total = (np.array([points[name][i] for name in names]) for i in (0, 1))
    with _figure(7.5, 0.9 + 0.42 * len(names)) as (figure, axes):
        axes.barh(names, total, color="#E5E5E5", height=0.65)
        axes.barh(names, earned, color=GREEN, height=0.65)
        for row, (some, every) in enumerate(zip(earned, total)):
            axes.annotate(f"{some} of {every}", (every, row), xytext=(6, 0), textcoords="offset points", va="center")
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel("points")
        axes.tick_params(axis="y", length=0)
        return figure
