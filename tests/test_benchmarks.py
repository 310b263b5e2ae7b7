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
