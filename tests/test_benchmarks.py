"""The benchmarks that the README shows can be run by anybody."""

import csv
import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_loading_compares_everybody_and_draws_it(tmp_path):
    command = [sys.executable, BENCHMARKS / "loading.py", "--sizes", "200x8", "--rounds", "1", "--out", tmp_path]
    finished = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    assert finished.returncode == 0, finished.stderr
    for contender in (
        "bulk_load",
        "write_row",
        "asyncpg",
        "executemany",
        "single INSERTs",
        "read_embeddings",
        "upsert",
    ):
        assert contender in finished.stdout
    with (tmp_path / "loading.csv").open(encoding="utf-8") as lines:
        assert all(float(row["seconds"]) > 0 for row in csv.DictReader(lines))
    assert (tmp_path / "loading.png").stat().st_size > 10_000


def test_search_compares_everybody_and_draws_it(tmp_path):
    sizes = ["--documents", "600", "--load", "100", "--rounds", "1", "--inserts", "5"]
    command = [sys.executable, BENCHMARKS / "search.py", *sizes, "--out", tmp_path]
    finished = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    assert finished.returncode == 0, finished.stderr
    for method in (
        "OR, ts_rank",
        "AND (websearch)",
        "nearest",
        "full_text_search",
        "hybrid_search, adaptive",
        "hybrid_search, rrf",
        "hybrid_search, weighted",
        "the usual recipe",
        "words and GIN alone",
        "add_full_text",
    ):
        assert method in finished.stdout
    with (tmp_path / "search.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["task"] for row in rows} == {"searches", "bulk_load", "single INSERTs"}
    assert all(float(row["milliseconds"]) > 0 for row in rows)
    assert (tmp_path / "search.png").stat().st_size > 10_000


def test_grading_compares_both(tmp_path):
    sizes = ["--learners", "2", "--rounds", "1", "--exercises", "plain"]
    command = [sys.executable, BENCHMARKS / "grading.py", *sizes, "--out", tmp_path]
    finished = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("pgv grade") == finished.stdout.count("nbgrader autograde") == 2
    with (tmp_path / "grading.csv").open(encoding="utf-8") as lines:
        assert all(float(row["seconds"]) > 0 for row in csv.DictReader(lines))
