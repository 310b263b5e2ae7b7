"""Figures: each is shown once, and says what it must."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from pgv_helpers import plot_bars, plot_map, plot_matrix, plot_scores, plot_vectors

SUMMARY = pd.DataFrame(
    [("easy", "words", 0.9, 0.85, 0.93), ("easy", "vectors", 0.5, 0.4, 0.6), ("hard", "words", 0.1, 0, 0.2),
     ("hard", "vectors", 0.3, 0.2, 0.4)],
    columns=["kind", "method", "mean", "low", "high"],
)  # fmt: skip
RANDOM = np.random.default_rng(0).normal(size=(12, 20))
EACH = {
    "map": lambda: plot_map(RANDOM, ["a", "b", "c"] * 4, question=RANDOM[0], nearest={3: "third"}),
    "vectors": lambda: plot_vectors(RANDOM[:2], ["first", "second"]),
    "bars": lambda: plot_bars({"slow": 300.0, "fast": 0.25}, label="to load", unit="ms"),
    "matrix": lambda: plot_matrix(np.array([[np.nan, 0.25], [0.75, np.nan]]), ["first", "second"], label="distance"),
    "scores": lambda: plot_scores(SUMMARY, group="kind"),
}
WORDS = {
    "map": {"a", "b", "c", "third", "your question", "first principal component"},
    "vectors": {"first", "second", "position in the vector (the first 20 of 20)"},
    "bars": {"slow", "fast", "300 ms", "0.25 ms", "to load (ms)"},
    "matrix": {"first", "second", "0.25", "0.75", "distance"},
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
