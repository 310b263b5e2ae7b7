"""The command line, as a user types it."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

PGV = Path(sys.executable).with_name("pgv")


@pytest.fixture
def environment(short_tmp_path):
    """An environment with a `PGV_HOME` of its own; the server is stopped afterwards."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PGV_DATABASE_URL", "DATABASE_URL")}
    variables |= {"PGV_HOME": str(short_tmp_path / "home"), "COLUMNS": "200"}
    yield variables
    subprocess.run([PGV, "down"], env=variables, capture_output=True)


def pgv(environment, *arguments, keyboard="", **more):
    finished = subprocess.run(
        [PGV, *arguments], env=environment | more, input=keyboard, capture_output=True, text=True, timeout=120
    )
    return finished.returncode, re.sub(r"\s+", " ", finished.stdout + finished.stderr)


def test_up_status_down(environment):
    assert "stopped" in pgv(environment, "status")[1]
    code, shown = pgv(environment, "up")
    assert code == 0 and "running, process" in shown
    assert "running, process" in pgv(environment, "status")[1]
    assert "is stopped" in pgv(environment, "down")[1]
    assert "was not running" in pgv(environment, "down")[1]


def test_status_hides_the_password_and_url_shows_it(environment):
    pgv(environment, "up")
    password = Path(environment["PGV_HOME"], "password").read_text()
    assert password not in pgv(environment, "status")[1]
    assert password in pgv(environment, "url")[1]


def test_status_of_another_server_hides_its_password(environment):
    _, shown = pgv(environment, "status", PGV_DATABASE_URL="postgresql://me:secret@db.invalid/x")
    assert "PGV_DATABASE_URL" in shown and "me:***@db.invalid" in shown and "secret" not in shown


def test_reset_asks_first(environment):
    pgv(environment, "up")
    data = Path(environment["PGV_HOME"], "data")
    code, shown = pgv(environment, "reset", keyboard="n\n")
    assert code == 1 and str(data) in shown and data.exists()
    assert pgv(environment, "reset", keyboard="y\n")[0] == 0
    assert not data.exists()
    pgv(environment, "up")
    assert pgv(environment, "reset", "--yes")[0] == 0
    assert not data.exists()


def test_doctor_finds_everything_well(environment):
    code, shown = pgv(environment, "doctor")
    assert code == 0, shown
    for found in (
        "Python",
        "as locked",
        "free for",
        "PostgreSQL 18.",
        "embedded",
        "pgvector",
        "all-MiniLM-L6-v2",
        "384",
    ):
        assert found in shown
    assert "broken" not in shown


def test_doctor_says_what_to_do(environment):
    wrong = dict(PGV_DATABASE_URL="postgresql://me:secret@no-such-host.invalid/x")
    code, shown = pgv(
        environment, "doctor", **wrong, OPENAI_BASE_URL="http://127.0.0.1:9/v1", OPENAI_API_KEY="sk-secret"
    )
    assert code == 1
    assert "name of the host is wrong" in shown and "Unset PGV_DATABASE_URL" in shown
    assert "No connection to http://127.0.0.1:9/v1" in shown
    assert "secret" not in shown


def test_doctor_sees_a_package_that_differs_from_the_lock(environment, tmp_path):
    folder = tmp_path / "matplotlib-0.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: matplotlib\nVersion: 0.1\n")
    code, shown = pgv(environment, "doctor", PYTHONPATH=str(tmp_path))
    assert code == 0 and re.search(
        r"warning.*matplotlib 0.1 instead of .*pip install -c requirements.lock -e \.", shown
    )


def test_an_error_is_a_message_without_a_traceback(environment):
    code, shown = pgv(environment, "lab", PGV_DATABASE_URL="nonsense")
    assert code == 1 and "is not a URL of PostgreSQL" in shown and "Traceback" not in shown


def test_lab_serves_the_first_notebook_with_postgresql_ready(environment):
    environment |= {"JUPYTER_TOKEN": "t", "JUPYTER_PREFER_ENV_PATH": "1"}
    lab = subprocess.Popen(
        [PGV, "lab", "--no-browser", "--port", "0"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        shown = ""
        for line in lab.stdout:
            shown += line
            if found := re.search(r"http://127\.0\.0\.1:(\d+)(/lab/tree/notebooks/00_start_here\.ipynb)", line):
                break
        port, path = found.groups()
        assert "running, process" in pgv(environment, "status")[1]

        def fetch(path):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": "token t"})
            return urllib.request.urlopen(request, timeout=30).read().decode()

        deadline = time.monotonic() + 60
        while True:
            try:
                page = fetch(path)
                break
            except OSError:
                assert time.monotonic() < deadline, shown
                time.sleep(0.2)
        assert "JupyterLab" in page
        config = json.loads(re.search(r'(?s)id="jupyter-config-data"[^>]*>(.*?)</script>', page)[1])
        assert config["news"] == {"disabled": True}, "no news feed is asked for"
        assert "@jupyterlab/apputils-extension:announcements" in config["disabledExtensions"]
        assert "Start here" in fetch("/api/contents/notebooks/00_start_here.ipynb")
    finally:
        lab.terminate()
        lab.wait(30)
    assert "running, process" in pgv(environment, "status")[1], "PostgreSQL goes on when JupyterLab ends"


def test_evaluate_measures_what_the_readme_says(environment):
    """Python's own documentation differs a little with the version of Python; the passages do not."""
    _, said = pgv(environment, "evaluate")
    readme = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
    rows = [("passages", "passages", "128", 0), ("python_docs", "Python's documentation", "112", 0.05)]
    for name, called, questions, tolerance in rows:
        measured = re.search(rf" {name} (.*?) {questions} ", said)[1]
        claimed = re.search(rf"^\| {called}, {questions} questions (.*)$", readme, re.MULTILINE)[1]
        figures = [[float(number) for number in re.findall(r"\d\.\d\d", text)] for text in (measured, claimed)]
        assert len(figures[0]) == 8 and figures[0] == pytest.approx(figures[1], abs=tolerance)
    assert re.search(r" conceptual 0\.04 .*? 48 exact ", said)
