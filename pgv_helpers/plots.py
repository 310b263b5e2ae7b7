"""Every figure of the course, so that they look alike.

Each function returns a matplotlib Figure, which a notebook shows when it is the
last value of a cell. The colours are those of Okabe and Ito (Color Universal
Design, 2008), which readers with colour-blindness can tell apart.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath
from matplotlib.ticker import LogLocator, NullLocator, PercentFormatter

from pgv_helpers.distances import MetricName, find_metric

if TYPE_CHECKING:
    import pandas

    from pgv_helpers.indexes import Plan

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, BLACK = OKABE_ITO
GREY = "#767676"
MARKERS = "osD^vPXh"
OUTLINE = [withStroke(linewidth=3, foreground="white")]
"""For words that may lie on a line."""

STYLE = {
    "figure.dpi": 110,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
}


@contextmanager
def _figure(width: float, height: float, columns: int = 1):
    """A figure of this many inches in the course's style, closed so that a notebook shows it once."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(width, height))
        yield figure, axes
        figure.draw_without_rendering()  # settles the layout while the style is in force
        plt.close(figure)


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


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


def plot_shares(counts: "pandas.DataFrame", *, label: str = "questions") -> Figure:
    """How each group divides into outcomes: a bar for each row, as long as the others, in parts with their counts.

    Args:
        counts: a row for each group, a column for each outcome, as from `pandas.crosstab`. The columns' order is
            that of the parts.
        label: what is counted, for the axis.
    """
    shares = counts.div(counts.sum(axis=1).replace(0, 1), axis=0)
    with _figure(7.5, 1.2 + 0.45 * len(counts)) as (figure, axes):
        starts = shares.cumsum(axis=1) - shares
        for colour, outcome in zip(cycle(OKABE_ITO), counts):
            bars = axes.barh(
                counts.index.astype(str), shares[outcome], left=starts[outcome], color=colour, height=0.68,
                label=str(outcome), edgecolor="white",
            )  # fmt: skip
            written = [f"{count:g}" if share > 0.02 else "" for count, share in zip(counts[outcome], shares[outcome])]
            axes.bar_label(bars, written, label_type="center", path_effects=OUTLINE, fontweight="bold")
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"share of the {label}; in the bars, their number")
        figure.legend(loc="outside upper center", ncols=counts.shape[1], frameon=False, title=counts.columns.name)
        return figure


def plot_neighbours(
    points: Mapping[str, Sequence[float]], question: Sequence[float], metrics: Sequence[MetricName]
) -> Figure:
    """The nearest of some points by several distances: a plane for each, darker where it is nearer.

    Args:
        points: name -> (x, y).
        question: (x, y), drawn as a star.
        metrics: the distances, side by side; the nearest point of each is ringed.
    """
    names, places, star = list(points), np.array(list(points.values()), float), np.array([question], float)
    low, high = np.minimum(np.vstack([places, star]).min(0), 0) - 0.5, np.vstack([places, star]).max(0) + 0.8
    grid = np.stack(np.meshgrid(*(np.linspace(*ends, 161) for ends in zip(low, high))), axis=-1)
    with _figure(3.4 * len(metrics), 2.5, len(metrics)) as (figure, axes):
        for panel, name in zip(np.atleast_1d(axes), metrics):
            metric = find_metric(name)
            shade = metric.distances(star, grid.reshape(-1, 2)).reshape(grid.shape[:2])
            # Bands of equal area, whatever the distance's scale.
            bands = np.searchsorted(np.nanquantile(shade, np.linspace(0, 1, 15)[1:-1]), shade)
            panel.contourf(grid[..., 0], grid[..., 1], bands, levels=14, cmap="Blues_r", alpha=0.8)
            nearest = int(np.nanargmin(metric.distances(star, places)))  # to (0, 0) there is no cosine distance
            panel.scatter(*places[nearest], s=330, facecolor="none", edgecolor=RED, linewidth=2.2, zorder=3)
            panel.scatter(*places.T, s=70, color="white", edgecolor=BLACK, zorder=4)
            panel.scatter(*star[0], s=230, marker="*", color=YELLOW, edgecolor=BLACK, zorder=4)
            for label, place in zip(names, places):
                panel.annotate(
                    label, place, xytext=(0, 12), textcoords="offset points", ha="center", fontweight="bold",
                    bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
                )  # fmt: skip
            panel.set(title=f"{metric.operator}  {name.replace('_', ' ')}: {names[nearest]}", aspect="equal")
            panel.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="first number")
        np.atleast_1d(axes)[0].set_ylabel("second number")
        return figure


def plot_distributions(distances: Mapping[str, np.ndarray], *, label: str, bins: int = 80) -> Figure:
    """How some sets of distances are spread: a curve of their frequency for each, with its name.

    Args:
        distances: name -> distances, of any number; NaN and infinity are left out.
        label: what they are, for the axis.
        bins: into how many the axis is divided; fewer suit fewer distances.
    """
    distances = {name: np.ravel(values)[np.isfinite(np.ravel(values))] for name, values in distances.items()}
    spread = np.concatenate(list(distances.values()))
    bins = np.linspace(spread.min(), spread.max(), bins)
    with _figure(7.5, 3.6) as (figure, axes):
        for colour, (name, values) in zip(cycle(OKABE_ITO), distances.items()):
            heights, edges = np.histogram(values, bins, density=True)
            middles = (edges[:-1] + edges[1:]) / 2
            axes.fill_between(middles, heights, alpha=0.35, color=colour, linewidth=0)
            axes.plot(middles, heights, color=colour, linewidth=1.6)
            top = heights.argmax()
            axes.annotate(
                name, (middles[top], heights[top]), xytext=(0, 5), textcoords="offset points",
                ha="left" if top < len(heights) / 10 else "center", color=colour, fontweight="bold",
                path_effects=OUTLINE,
            )  # fmt: skip
        axes.set(xlabel=label, ylabel="frequency", yticks=[])
        axes.set_ylim(0, axes.get_ylim()[1] * 1.1)
        return figure


def plot_lines(
    frame: "pandas.DataFrame",
    *,
    x: str,
    y: str | Sequence[str],
    by: str | None = None,
    point: str | None = None,
    log: str = "",
) -> Figure:
    """One column against another, a line for each value of a third, named at its end.

    Args:
        frame: the columns named by the other arguments.
        y: one column, or several for as many panels; the lines are named in the last one.
        by: the column that tells the lines apart; without it there is one line.
        point: a column whose value is written beside each point where there is room, such as the setting that gave it.
        log: `"x"`, `"y"` or `"xy"`, the axes that are logarithmic.
    """
    lines = list(frame.groupby(by, sort=False)) if by else [("", frame)]
    columns = [y] if isinstance(y, str) else list(y)
    with _figure(*((7.5, 4.2) if len(columns) == 1 else (3.7 * len(columns), 3.6)), len(columns)) as (figure, panels):
        for axes, column in zip(np.atleast_1d(panels), columns):
            for colour, marker, (_, line) in zip(cycle(OKABE_ITO), cycle(MARKERS), lines):
                axes.plot(line[x], line[column], color=colour, marker=marker, markersize=5)
            for axis in log:
                axes.set(**{f"{axis}scale": "log"})
            if "y" in log:
                axes.yaxis.set(
                    major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator(), major_formatter="{x:g}"
                )
            if "x" in log:  # the values that were measured say more than powers of ten
                axes.set_xticks(sorted(set(frame[x])), [f"{value:g}" for value in sorted(set(frame[x]))])
                axes.minorticks_off()
            axes.set(xlabel=x, ylabel=column)
            axes.margins(x=0.08, y=0.1)
            axes.grid(color="#E5E5E5", linewidth=0.8)
            if point:
                _label_points(axes, lines, x, column, point)
        if by:
            _name_ends(axes, lines, x, column)
        return figure


def _label_points(axes: Axes, lines: Iterable[tuple[str, "pandas.DataFrame"]], x: str, y: str, label: str) -> None:
    """A label above each point, or below for every second line; none where it would cover another."""
    taken = []
    for number, (colour, (_, line)) in enumerate(zip(cycle(OKABE_ITO), lines)):
        side = -13 if number % 2 else 7
        for *point, value in line[[x, y, label]].itertuples(index=False):
            place = axes.transData.transform(point) * 72 / axes.figure.dpi + (0, side)
            if all(np.abs(place - other).max() > 10 for other in taken):
                taken.append(place)
                axes.annotate(
                    value if isinstance(value, str) else f"{value:g}", point, xytext=(0, side), ha="center",
                    textcoords="offset points", fontsize=8, color=colour, path_effects=OUTLINE,
                )  # fmt: skip


def _name_ends(axes: Axes, lines: Iterable[tuple[str, "pandas.DataFrame"]], x: str, y: str) -> None:
    """The name of each line beside its last point, moved down where it would cover another name."""
    ends = [(name, colour, line[x].iloc[-1], line[y].iloc[-1]) for colour, (name, line) in zip(cycle(OKABE_ITO), lines)]
    points_per_pixel, taken = 72 / axes.figure.dpi, []
    for name, colour, *end in sorted(ends, key=lambda end: -end[-1]):
        right, height = axes.transData.transform(end) * points_per_pixel
        shift = min([0, *(other - 12 - height for at, other in taken if abs(at - right) < 60 and other - height < 12)])
        taken.append((right, height + shift))
        axes.annotate(
            str(name), end, xytext=(8, -4 + shift), textcoords="offset points", color=colour, fontweight="bold",
            annotation_clip=False, path_effects=OUTLINE,
        )  # fmt: skip


def plot_fusion(
    left: tuple[str, Sequence[str]],
    fused: tuple[str, Sequence[str]],
    right: tuple[str, Sequence[str]],
    *,
    marked: Iterable[str] = (),
) -> Figure:
    """Two rankings and what became of them: the fused one in the middle, with a line to each place a hit came from.

    Args:
        left, fused, right: a name, and its ranking, the best first.
        marked: what is to stand out, such as the relevant documents; the others are grey.
    """
    marked, rows = set(marked), max(len(ranking) for _, ranking in (left, fused, right))
    with _figure(11, 0.9 + 0.28 * rows) as (figure, axes):
        axes.set(xlim=(0, 1), ylim=(rows - 0.3, -1.4))
        axes.set_axis_off()
        for x, align, colour, (name, ranking) in (
            (0.29, "right", BLUE, left), (0.5, "center", BLACK, fused), (0.71, "left", RED, right),
        ):  # fmt: skip
            axes.text(x, -1, name, ha=align, va="center", color=colour, fontweight="bold")
            for place, hit in enumerate(ranking):
                numbered = f"{hit}  {place + 1}" if align == "right" else f"{place + 1}  {hit}"
                stands_out = {"color": BLACK, "fontweight": "bold"} if hit in marked else {"color": GREY}
                axes.text(x, place, numbered, ha=align, va="center", fontsize=9, **stands_out)
        for start, end, colour, (_, ranking) in ((0.3, 0.36, BLUE, left), (0.7, 0.64, RED, right)):
            for place, hit in enumerate(fused[1]):
                if hit in ranking:
                    thick = 1.8 if hit in marked else 0.8
                    axes.plot([start, end], [list(ranking).index(hit), place], color=colour, linewidth=thick)
        return figure


def plot_plan(plan: "Plan") -> Figure:
    """A plan as PostgreSQL ran it: its nodes as boxes, rows flowing upwards, with the time that each took by itself.

    Reading through an index is green, reading a whole table orange.
    """
    from pgv_helpers.indexes import node_label

    nodes, taken, ran = plan.nodes, _own_milliseconds(plan.tree), plan.milliseconds is not None
    labels = [node_label(node) for _, node in nodes]
    labels = [label if len(label) < 60 else label.replace(" using ", "\nusing ") for label in labels]
    # The plane is measured in inches, as wide as the labels need it.
    starts = [0.15 + 0.3 * depth for depth, _ in nodes]
    ends = [start + _inches(label) for start, label in zip(starts, labels)]
    width = max(7.5, max(ends) + 0.2 + 3.2 * ran)
    height = 0.3 + 0.55 * len(nodes)
    with _figure(width, height) as (figure, axes):
        figure.set_layout_engine("none")
        axes.set(position=[0, 0, 1, 1], xlim=(0, width), ylim=(0, height))
        axes.axis("off")
        for row, ((_, node), label, start, milliseconds) in enumerate(zip(nodes, labels, starts, taken)):
            middle = 0.3 + 0.55 * (len(nodes) - row - 1)
            kind = node["Node Type"]
            colour = GREEN if "Index" in kind else ORANGE if kind == "Seq Scan" else "#D9D9D9"
            axes.text(
                start, middle, label, va="center", color="white" if colour == GREEN else BLACK,
                bbox={"boxstyle": "round,pad=0.4", "facecolor": colour, "edgecolor": "none"},
            )  # fmt: skip
            if ran:
                rows = node["Actual Rows"] * node["Actual Loops"]
                axes.text(width - 2, middle, f"{rows:,.0f} rows", va="center", ha="right")
                bar = 0.75 * milliseconds / max(sum(taken), 1e-9)
                axes.barh(middle, bar, left=width - 1.85, height=0.25, color=GREY)
                axes.text(width - 1.75 + bar, middle, f"{milliseconds:.2f} ms", va="center")
        if ran:
            summary = f"{plan.rows_read:,} rows read, {plan.buffers:,} pages, {plan.milliseconds:.2f} ms"
            axes.text(0.05, height - 0.12, summary, va="center")
        return figure


def _inches(label: str) -> float:
    """The width of a label as it is drawn."""
    return max(TextPath((0, 0), line, size=STYLE["font.size"]).get_extents().width for line in label.split("\n")) / 72


def _own_milliseconds(tree: dict) -> list[float]:
    """What each node of a plan took without the nodes below it, from the top down."""
    common = {}  # what the nodes read that run once for the whole statement (WITH), by name
    own = []

    def spent(node: dict, processes: int) -> float:
        place, total = len(own), node.get("Actual Total Time", 0) * node.get("Actual Loops", 0) / processes
        own.append(total)
        processes *= 1 + node.get("Workers Launched", 0)  # they work at the same time
        for child in node.get("Plans", []):
            time = spent(child, processes)
            if child.get("Parent Relationship") == "InitPlan":  # runs when a node asks for it, in that node's time
                common[child.get("Subplan Name", "").removeprefix("CTE ")] = time
            else:
                own[place] -= time
        own[place] = max(own[place] - common.pop(node.get("CTE Name"), 0), 0)
        return total

    spent(tree, 1)
    return own


def plot_cells(
    points: np.ndarray, centres: np.ndarray, question: Sequence[float], *, probes: int = 1, k: int = 10
) -> Figure:
    """IVFFlat in the plane: the cell of each list around its centre, those that are probed, and what they miss.

    Args:
        points: shape (n, 2); each belongs to its nearest centre's list.
        centres: shape (lists, 2).
        question: (x, y), drawn as a star.
        probes: how many lists are looked into, the nearest centres' first.
        k: the true nearest neighbours: green dots if a probed list holds them, crosses otherwise.
    """
    l2, star = find_metric("l2").distances, np.array([question], float)
    probed = l2(star, centres)[0].argsort()[:probes]
    cell = l2(points, centres).argmin(1)
    nearest = l2(star, points)[0].argsort()[:k]
    found, missed = nearest[np.isin(cell[nearest], probed)], nearest[~np.isin(cell[nearest], probed)]
    low, high = points.min(0) - 0.05 * np.ptp(points, 0), points.max(0) + 0.05 * np.ptp(points, 0)
    grid = np.stack(np.meshgrid(*(np.linspace(*ends, 400) for ends in zip(low, high))), axis=-1)
    owner = l2(grid.reshape(-1, 2), centres).argmin(1).reshape(grid.shape[:2])
    with _figure(7.5, 5) as (figure, axes):
        axes.contourf(grid[..., 0], grid[..., 1], np.isin(owner, probed), levels=[0.5, 1.5], colors=[SKY], alpha=0.3)
        for own in range(len(centres)):  # the outline of each cell
            axes.contour(grid[..., 0], grid[..., 1], owner == own, levels=[0.5], colors=[GREY], linewidths=0.7)
        axes.scatter(*points.T, s=9, color=GREY, zorder=2)
        axes.scatter(*centres.T, s=45, marker="+", color=BLACK, zorder=3, label="centre of a list")
        axes.scatter(*points[found].T, s=42, color=GREEN, edgecolor=BLACK, linewidth=0.5, zorder=4,
                     label=f"{len(found)} of the {k} nearest: found")  # fmt: skip
        if len(missed):
            axes.scatter(*points[missed].T, s=52, marker="X", color=RED, edgecolor=BLACK, linewidth=0.5, zorder=4,
                         label=f"{len(missed)} of the {k} nearest: missed")  # fmt: skip
        axes.scatter(*star[0], s=230, marker="*", color=YELLOW, edgecolor=BLACK, zorder=5, label="question")
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
        compared = f"{np.isin(cell, probed).sum()} of {len(points)} points compared"
        axes.set_title(f"{probes} of {len(centres)} lists probed, {compared}", fontsize=10)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        return figure


def plot_walk(
    points: np.ndarray,
    layers: Sequence[Mapping[int, Sequence[int]]],
    walks: Sequence[Sequence[int]],
    question: Sequence[float],
) -> Figure:
    """A walk through HNSW's layers in the plane, the sparsest layer first.

    Args:
        points: shape (n, 2).
        layers: for each layer, point -> its neighbours.
        walks: for each layer, the points that the walk came through, in order.
        question: (x, y), drawn as a star.
    """
    with _figure(3.4 * len(layers), 3.6, len(layers)) as (figure, axes):
        for number, (panel, layer, walk) in enumerate(zip(np.atleast_1d(axes), layers, walks)):
            for point, neighbours in layer.items():
                for other in neighbours:
                    panel.plot(*points[[point, other]].T, color="#C8C8C8", linewidth=0.6, zorder=1)
            panel.scatter(*points[list(layer)].T, s=14, color=GREY, zorder=2)
            panel.plot(*points[list(walk)].T, color=BLUE, linewidth=2, marker="o", markersize=5, zorder=3)
            panel.scatter(*points[walk[0]], s=110, facecolor="none", edgecolor=BLUE, linewidth=1.6, zorder=4)
            panel.scatter(*question, s=200, marker="*", color=YELLOW, edgecolor=BLACK, zorder=5)
            panel.scatter(*points[walk[-1]], s=110, facecolor="none", edgecolor=RED, linewidth=2.2, zorder=6)
            steps = len(walk) - 1
            title = f"layer {len(layers) - 1 - number}: {len(layer)} points, {steps} step{'s' * (steps != 1)}"
            panel.set(xticks=[], yticks=[], aspect="equal")
            panel.set_title(title, fontsize=10)
            _same_view(panel, points, question)
        return figure


def _same_view(panel: Axes, points: np.ndarray, question: Sequence[float]) -> None:
    every = np.vstack([points, [question]])
    margin = 0.06 * np.ptp(every, 0)
    (left, bottom), (right, top) = every.min(0) - margin, every.max(0) + margin
    panel.set(xlim=(left, right), ylim=(bottom, top))


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
