"""A lesson with models behind a real HTTP API, which stumbles now and then."""

import nbformat
from nbclient import NotebookClient

from pgv_helpers.settings import COURSE_DIR
from tests.api_server import FAILED, RATE_LIMITED, Turn


def test_lesson_07b_runs_against_an_api_that_is_slow_busy_fails_and_hangs_up(online, tmp_path):
    online.script = [RATE_LIMITED, Turn(delay=1), FAILED, Turn(cut=0), Turn(cut=0.5)]
    notebook = nbformat.read(COURSE_DIR / "notebooks" / "07b_rag.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()

    assert not online.script, "all of it happened, and the lesson went on"
    assert {request.path for request in online.requests} == {"/v1/embeddings", "/v1/chat/completions"}
    assert {request.key for request in online.requests} == {f"Bearer {online.key}"}
    [asked] = next(cell.outputs for cell in notebook.cells if cell.id == "ask")
    assert asked.text.startswith("gpt-5.4-mini answers: With hardly any air to hold the heat")
