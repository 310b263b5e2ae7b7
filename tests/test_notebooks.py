"""The form of the notebooks; nbval runs their cells."""

import re

import nbformat
import pytest

from pgv_helpers.settings import COURSE_DIR

LESSONS = sorted((COURSE_DIR / "notebooks").glob("*.ipynb"))


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_it_is_valid_and_its_cells_have_ids_of_their_own(notebook):
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


def test_it_was_run_from_a_clean_kernel_from_top_to_bottom(notebook):
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))


def test_its_outputs_show_no_path_of_a_machine_and_no_warning(notebook):
    for cell in code_cells(notebook):
        shown = nbformat.v4.new_notebook(cells=[cell]).cells[0].outputs
        for output in shown:
            text = str({name: value for name, value in output.get("data", output).items() if name != "image/png"})
            assert not re.search(r"/home/|/root/|/tmp/|/work/|/Users/|/var/|site-packages", text), cell.id
            assert "Warning" not in text, cell.id


def test_no_progress_bar_is_left_in_an_output(notebook):
    for cell in code_cells(notebook):
        assert not [output for output in cell.outputs if output.get("name") == "stderr"], cell.id


def test_only_cells_that_are_meant_to_fail_fail(notebook):
    for cell in code_cells(notebook):
        failed = any(output.output_type == "error" for output in cell.outputs)
        assert failed == ("raises-exception" in cell.metadata.get("tags", [])), cell.id


def test_its_links_lead_somewhere(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (COURSE_DIR / "notebooks" / target).exists(), target


def test_every_lesson_is_in_the_readme_and_in_the_first_notebook():
    readme = (COURSE_DIR / "README.md").read_text()
    first = LESSONS[0].read_text()
    for path in LESSONS:
        assert f"(notebooks/{path.name})" in readme
        assert path == LESSONS[0] or f"({path.name})" in first
