"""Figures: each is shown once, and says what it must."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from pgv_helpers import (
    plot_bars,
    plot_cells,
    plot_distributions,
    plot_fusion,
    plot_lines,
    plot_map,
    plot_matrix,
    plot_neighbours,
    plot_scores,
    plot_shares,
    plot_vectors,
    plot_walk,
)
from pgv_helpers.indexes import Plan
from pgv_helpers.plots import plot_plan, png

SUMMARY = pd.DataFrame(
    [("easy", "words", 0.9, 0.85, 0.93), ("easy", "vectors", 0.5, 0.4, 0.6), ("hard", "words", 0.1, 0, 0.2),
     ("hard", "vectors", 0.3, 0.2, 0.4)],
    columns=["kind", "method", "mean", "low", "high"],
)  # fmt: skip
SWEPT = pd.DataFrame({
    "index": ["hnsw", "hnsw", "ivfflat", "ivfflat"], "setting": [10, 40, 1, 10], "scan": ["off", "relaxed_order"] * 2,
    "recall@10": [0.8, 0.95, 0.5, 0.9], "median (ms)": [0.2, 0.5, 0.1, 0.7],
})  # fmt: skip


def node(kind, milliseconds, rows=1.0, loops=1, below=(), **others):
    ran = {"Actual Total Time": milliseconds, "Actual Rows": rows, "Actual Loops": loops, "Plans": list(below)}
    pages = {f"{kind} {how} Blocks": 3 for kind in ("Shared", "Local") for how in ("Hit", "Read")}
    return {"Node Type": kind, **ran, **pages, **others}


def scan(milliseconds, rows=5.0, loops=1, **others):
    return node(
        "Index Scan", milliseconds, rows, loops, **{"Relation Name": "items", "Index Name": "items_hnsw", **others}
    )


PLAN = Plan(node("Limit", 2.5, 5.0, below=[scan(2)]), 3.0)
COUNTS = pd.DataFrame({"right": [30, 0], "wrong": [10, 0], "declined": [0, 4]}, index=["answerable", "not"])
RANDOM = np.random.default_rng(0).normal(size=(12, 20))
EACH = {
    "map": lambda: plot_map(RANDOM, ["a", "b", "c"] * 4, question=RANDOM[0], nearest={3: "third"}),
    "vectors": lambda: plot_vectors(RANDOM[:2], ["first", "second"]),
    "bars": lambda: plot_bars({"slow": 300.0, "fast": 0.25}, label="to load", unit="ms"),
    "matrix": lambda: plot_matrix(np.array([[np.nan, 0.25], [0.75, np.nan]]), ["first", "second"], label="distance"),
    "scores": lambda: plot_scores(SUMMARY, group="kind"),
    "shares": lambda: plot_shares(COUNTS),
    "neighbours": lambda: plot_neighbours({"A": (3, 0.5), "B": (0.8, 0.9), "C": (3, 3.1)}, (1, 1.03), ["l2", "cosine"]),
    "distributions": lambda: plot_distributions({"random": RANDOM, "real": RANDOM / 2}, label="cosine distance"),
    "fusion": lambda: plot_fusion(("words", "ab"), ("both", "acb"), ("vectors", "ca"), marked="a"),
    "panels": lambda: plot_lines(SWEPT, x="recall@10", y=["recall@10", "median (ms)"], by="index", log="x"),
    "lines": lambda: plot_lines(SWEPT, x="recall@10", y="median (ms)", by="index", point="setting", log="y"),
    "plan": lambda: plot_plan(PLAN),
    "planned": lambda: plot_plan(Plan(PLAN.tree)),
    "cells": lambda: plot_cells(RANDOM[:, :2], RANDOM[:3, 2:4], (0, 0), k=4),
    "walk": lambda: plot_walk(RANDOM[:, :2], [{0: [1], 1: [0]}, {0: [1, 2], 1: [0], 2: [0]}], [[0], [0, 1]], (0, 0)),
}
WORDS = {
    "map": {"a", "b", "c", "third", "your question", "first principal component"},
    "vectors": {"first", "second", "position in the vector (the first 20 of 20)"},
    "bars": {"slow", "fast", "300 ms", "0.25 ms", "to load (ms)"},
    "matrix": {"first", "second", "0.25", "0.75", "distance"},
    "shares": {"answerable", "not", "right", "wrong", "declined", "30", "4"},
    "neighbours": {"A", "B", "C", "<->  l2: B", "<=>  cosine: C", "first number", "second number"},
    "distributions": {"random", "real", "cosine distance", "frequency"},
    "panels": {"hnsw", "ivfflat", "recall@10", "median (ms)"},
    "fusion": {"words", "vectors", "both", "1  a", "a  1", "2  c"},
    "lines": {"hnsw", "ivfflat", "10", "40", "1", "recall@10", "median (ms)"},
    "plan": {
        "Limit",
        "Index Scan on items using items_hnsw",
        "5 rows",
        "0.50 ms",
        "2.00 ms",
        "5 rows read, 12 pages, 3.00 ms",
    },
    "planned": {"Limit", "Index Scan on items using items_hnsw"},
    "cells": {"centre of a list", "question"},
    "walk": {"layer 1: 2 points, 0 steps", "layer 0: 3 points, 1 step"},
    "scores": {"easy", "hard", "words 0.90", "vectors 0.50", "words 0.10", "vectors 0.30"},
}


@pytest.mark.parametrize("name", EACH)
def test_a_figure_says_what_it_must_and_leaves_nothing_open(name):
    figure = EACH[name]()
    words = {text.get_text() for text in figure.findobj(plt.Text)}
    assert WORDS[name] <= words
    assert not plt.get_fignums(), "an open figure would be shown a second time by the notebook"


def test_points_of_a_map_stand_where_their_vectors_differ_most():
    line = np.outer([0, 1, 5], [3.0, 4, 0])
    figure = plot_map(line, ["x"] * 3)
    points = figure.axes[0].collections[0].get_offsets()
    assert np.allclose(np.abs(np.diff(points[:, 0])), [5, 20])
    assert np.allclose(points[:, 1], 0)


def test_a_zero_vector_is_nobodys_nearest_by_cosine():
    figure = plot_neighbours({"zero": (0, 0), "far": (-3, 1)}, (1, 1), ["cosine"])
    assert figure.axes[0].get_title() == "<=>  cosine: far"


def test_distances_that_are_none_do_not_blank_the_figure():
    figure = plot_distributions({"a": [0.1, 0.2, np.nan], "b": [0.5, np.inf]}, label="distance")
    low, high = figure.axes[0].get_xlim()
    assert low < 0.1 < 0.5 < high < 1


def test_every_line_and_every_distribution_is_drawn():
    frame = pd.DataFrame({"name": np.arange(10), "x": 1.0, "y": np.arange(10.0)})
    assert len(plot_lines(frame, x="x", y="y", by="name").axes[0].lines) == 10
    many = {str(i): [i, i + 1.0] for i in range(10)}
    assert len(plot_distributions(many, label="distance").axes[0].lines) == 10


def test_words_beside_the_points_of_a_line():
    figure = plot_lines(SWEPT, x="recall@10", y="median (ms)", point="scan")
    assert {"off", "relaxed_order"} <= {text.get_text() for text in figure.findobj(plt.Text)}


def test_cells_tell_what_was_probed_and_what_was_missed():
    points = np.array([[0, 0], [1, 0], [4, 0], [6, 0], [10, 0.5]])
    figure = plot_cells(points, points[[0, 4]], (4, 0), probes=1, k=3)
    words = {text.get_text() for text in figure.findobj(plt.Text)}
    assert {"2 of the 3 nearest: found", "1 of the 3 nearest: missed"} <= words
    assert "1 of 2 lists probed, 3 of 5 points compared" in words


def inside(figure):
    """Every text lies within the figure, and no two overlap."""
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.findobj(plt.Text) if text.get_text() and text.get_visible()]
    page = figure.bbox
    apart = all(not a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    return apart and all(
        page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 <= box.y1 <= page.y1 for box in boxes
    )


def test_a_deep_plan_with_long_names_stays_legible():
    long = {"Relation Name": "passages_" * 7, "Index Name": "W" * 40}
    tree = scan(0.01, 123_456_789.0, **long)
    for _ in range(14):
        tree = node("Incremental Sort", 12_345.678, 123_456_789.0, below=[tree])
    assert inside(plot_plan(Plan(tree, 12_345.678)))
    assert inside(plot_plan(PLAN))
    assert PLAN._repr_png_() == png(plot_plan(PLAN)) and PLAN._repr_png_().startswith(b"\x89PNG")


def milliseconds(plan):
    words = [text.get_text() for text in plot_plan(plan).findobj(plt.Text)]
    return [float(word.split()[0]) for word in words if word.endswith(" ms") and "read" not in word]


def test_the_time_of_a_node_is_its_own():
    assert milliseconds(PLAN) == [0.5, 2]
    looped = node("Nested Loop", 10, below=[node("Seq Scan", 1, 100.0), scan(0.05, 1.0, 100)])
    assert milliseconds(Plan(looped, 10.0)) == [4, 1, 5]
    never = node("Nested Loop", 1, 0.0, below=[node("Seq Scan", 1, 0.0), scan(0, 0.0, 0)])
    assert milliseconds(Plan(never, 1.0)) == [0, 1, 0]


def test_workers_work_at_the_same_time():
    gather = node("Gather", 10, 9.0, below=[node("Seq Scan", 8, 3.33, 3)], **{"Workers Launched": 2})
    assert milliseconds(Plan(gather, 10.0)) == [2, 8]


def test_the_time_of_a_common_table_expression_counts_once():
    cte = node("Limit", 6, below=[scan(5)], **{"Parent Relationship": "InitPlan", "Subplan Name": "CTE hits"})
    tree = node("Sort", 10, below=[cte, node("CTE Scan", 7, **{"CTE Name": "hits"})])
    assert milliseconds(Plan(tree, 10.0)) == [3, 1, 5, 1]


def test_shares_are_of_each_group_and_empty_parts_are_not_labelled():
    axes = plot_shares(COUNTS).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.75, 0, 0.25, 0, 0, 1]
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["30", "10", "4"]
    assert np.isfinite([bar.get_x() for bar in plot_shares(COUNTS * 0).axes[0].patches]).all()
