"""What a teacher's folder holds is found, told apart and read, whatever learners and their systems put there."""

import io
import json
import os
import pickle
import shutil
import unicodedata
import zipfile

import nbformat
import pytest

from pgv_helpers.course.build import EXERCISES, SOLUTIONS
from pgv_helpers.course.question import all_questions, questions_of
from pgv_helpers.grading import submissions
from pgv_helpers.grading.submissions import (
    Cell,
    NothingHandedIn,
    answers,
    code_cells,
    find_submissions,
    functions_of,
    read,
)


def notebook(*sources, **more):
    """The bytes of a notebook with these code cells."""
    cells = [{"cell_type": "code", "metadata": {}, "source": source, "outputs": []} for source in sources]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells} | more).encode()


def put(root, files, *, age=0):
    """Write files by their paths; None stands for a notebook."""
    for path, data in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(notebook("x = 1") if data is None else data)
        os.utime(file, (1_700_000_000 - age, 1_700_000_000 - age))
    return root


def zipped(files, **options):
    """The bytes of a zip."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", **options) as archive:
        for path, data in files.items():
            archive.writestr(path, notebook("x = 1") if data is None else data)
    return target.getvalue()


def paths(*names):
    return dict.fromkeys(names)


def graded(root):
    """(learner, exercise) of what will be graded."""
    return [(place.learner, place.exercise) for place in find_submissions(root) if not place.problem]


def problems(root):
    """The problems by place, those that only reading shows as well."""
    read_ones = map(read, find_submissions(root))
    return {submission.where: submission.problem for submission in read_ones if submission.problem}


def only(root):
    (place,) = find_submissions(root)
    return read(place)


# ------------------------------------------------------------------------------ layouts


def test_a_folder_for_each_learner(tmp_path):
    put(tmp_path, paths("bob/02_crud.ipynb", "anna/02_crud.ipynb", "anna/03_distance_operators.ipynb"))
    assert graded(tmp_path) == [("anna", "02_crud"), ("anna", "03_distance_operators"), ("bob", "02_crud")]
    assert [place.where for place in find_submissions(tmp_path)][0] == "anna/02_crud.ipynb"


@pytest.mark.parametrize("root", ["course", "course/submitted"])
def test_what_nbgrader_collected(tmp_path, root):
    names = [f"submitted/{who}/02_crud/02_crud.ipynb" for who in ("anna", "bob")]
    names += ["submitted/anna/capstone_hybrid_search/capstone_hybrid_search.ipynb"]
    names += ["source/02_crud/02_crud.ipynb", "release/02_crud/02_crud.ipynb", "autograded/anna/02_crud/02_crud.ipynb"]
    put(tmp_path / "course", paths(*names) | {"submitted/anna/02_crud/timestamp.txt": b"2026-01-01"})
    found = [("anna", "02_crud"), ("anna", "capstone_hybrid_search"), ("bob", "02_crud")]
    assert graded(tmp_path / root) == found
    assert not problems(tmp_path / root)


def test_one_learner_of_nbgrader(tmp_path):
    put(tmp_path, paths("submitted/anna/02_crud/02_crud.ipynb"))
    assert graded(tmp_path) == [("anna", "02_crud")]
    assert graded(tmp_path / "submitted/anna") == [("anna", "02_crud")]


@pytest.mark.parametrize(
    "name",
    [
        "anna_02_crud", "anna-02_crud", "02_crud_anna", "02 crud anna", "Anna_02_CRUD", "anna_02_crud (1)",
        "anna_02_crud-1", "anna_02_crud - Copy", "anna_02_crud - Copy (2)", "anna_02_crud-Copy1", "anna_02_crud-final",
        "02_crud_anna (1)", "Copy of anna_02_crud", "anna.02-crud_solved_v2",
    ],
)  # fmt: skip
def test_a_flat_folder(tmp_path, name):
    put(tmp_path, paths(f"{name}.ipynb", "02_crud_student-07.ipynb", "Zoë Smith-Jones 02_crud.ipynb"))
    ((learner, exercise),) = [row for row in graded(tmp_path) if row[0].lower().startswith("anna")]
    assert (learner.lower(), exercise) == ("anna", "02_crud")
    assert {"student-07", "Zoë Smith-Jones"} < {learner for learner, _ in graded(tmp_path)}


def test_the_notebooks_of_one_learner_have_the_name_of_their_folder(tmp_path):
    put(tmp_path / "anna", paths("02_crud.ipynb", "07 rag (1).ipynb", "scratch.ipynb"))
    assert graded(tmp_path / "anna") == [("anna", "02_crud"), ("anna", "07_rag")]
    assert {place.learner for place in find_submissions(tmp_path / "anna")} == {"anna"}
    assert graded(tmp_path / "anna" / "02_crud.ipynb") == [("anna", "02_crud")]


def test_a_folder_for_each_exercise(tmp_path):
    put(tmp_path, paths("02_crud/anna.ipynb", "02_crud/bob_02_crud.ipynb", "07_rag/anna.ipynb", "07_rag/bob/x.ipynb"))
    both = [(who, what) for who in ("anna", "bob") for what in ("02_crud", "07_rag")]
    assert graded(tmp_path) == both
    assert graded(tmp_path / "07_rag") == [("anna", "07_rag"), ("bob", "07_rag")]


def test_canvas(tmp_path):
    put(tmp_path, {
        "submissions.zip": zipped(paths(
            "doeanna_4711_90001_02_crud.ipynb", "leebob_LATE_4712_90002_02_crud-2.ipynb",
            "anon_aB3xZ_90003_02_crud.ipynb",
        ) | {"oheva_4713_90004_work.zip": zipped(paths("doeanna_4711_99999_02_crud.ipynb"))})
    })  # fmt: skip
    found = [(place.learner, place.exercise, place.lms_id, place.problem) for place in find_submissions(tmp_path)]
    assert found == [
        ("anon_aB3xZ", "02_crud", "", ""),
        ("doeanna", "02_crud", "4711", ""),
        ("leebob", "02_crud", "4712", ""),
        ("oheva", "02_crud", "4713", ""),
    ], "what lies in a learner's zip is theirs, whatever it is called"
    assert find_submissions(tmp_path / "submissions.zip")[1].where == "submissions.zip/doeanna_4711_90001_02_crud.ipynb"


def test_several_exports_of_canvas_in_one_folder(tmp_path):
    put(tmp_path, {
        "one submissions.zip": zipped(paths("doeanna_4711_90001_02_crud.ipynb")),
        "two submissions.zip": zipped(paths("doeanna_4711_90005_07_rag.ipynb", "leebob_4712_90006_07_rag.ipynb")),
    })  # fmt: skip
    assert graded(tmp_path) == [("doeanna", "02_crud"), ("doeanna", "07_rag"), ("leebob", "07_rag")]


def test_the_exercise_may_stand_in_the_name_of_the_export_only(tmp_path):
    put(tmp_path, {"pgv-02-crud submissions.zip": zipped(paths("doeanna_4711_90001_Untitled.ipynb"))})
    assert graded(tmp_path) == [("doeanna", "02_crud")]


def test_a_date_is_no_id(tmp_path):
    put(tmp_path, paths("anna_2026_11_02_crud.ipynb", "bob_2026_11_02_crud.ipynb"))
    assert {place.lms_id for place in find_submissions(tmp_path)} == {""}


@pytest.mark.parametrize("end", ["file_/02_crud.ipynb", "file/02_crud.ipynb", "file_02_crud.ipynb"])
def test_moodle(tmp_path, end):
    names = [f"Anna Lena Doe_101_assignsubmission_{end}", f"Иван Петров_102_assignsubmission_{end}"]
    texts = {"Bob Lee_103_assignsubmission_onlinetext/onlinetext.html": b"<p>done</p>"}
    (tmp_path / "PGV-02_crud-77.zip").write_bytes(zipped(paths(*names) | texts))
    found = {place.learner: (place.exercise, place.lms_id, bool(place.problem)) for place in find_submissions(tmp_path)}
    assert found == {
        "Anna Lena Doe": ("02_crud", "101", False),
        "Bob Lee": ("02_crud", "103", True),
        "Иван Петров": ("02_crud", "102", False),
    }


def test_learners_of_one_name_stay_apart(tmp_path):
    names = [f"Participant_{number}_assignsubmission_file_/02_crud.ipynb" for number in (7, 8)]
    put(tmp_path, paths(*names))
    assert [place.learner for place in find_submissions(tmp_path)] == ["Participant (7)", "Participant (8)"]


def test_zips_of_learners_in_a_folder(tmp_path):
    put(tmp_path, {
        "anna.zip": zipped(paths("02_crud.ipynb")),
        "bob_02_crud.zip": zipped(paths("bob/notebook.ipynb", "__MACOSX/bob/._notebook.ipynb")),
        "eva/work.zip": zipped(paths("deep/down/02_crud.ipynb")),
        "mallory.zip": zipped(paths("anna/02_crud.ipynb", "doeanna_1_2_02_crud.ipynb")),
    })  # fmt: skip
    assert graded(tmp_path) == [(who, "02_crud") for who in ("anna", "bob", "eva", "mallory")]


def test_a_zip_of_the_whole_folder(tmp_path):
    names = paths("handed in/anna/02_crud.ipynb", "handed in/bob/02_crud.ipynb", "handed in/notes.txt")
    (tmp_path / "class.zip").write_bytes(zipped(names))
    assert graded(tmp_path / "class.zip") == [("anna", "02_crud"), ("bob", "02_crud")]
    assert not problems(tmp_path)


def test_the_only_learner(tmp_path):
    put(tmp_path, {"eva/work.zip": zipped(paths("02_crud.ipynb"))})
    assert graded(tmp_path) == [("eva", "02_crud")]
    put(tmp_path, paths("eva/07_rag/notebook.ipynb"))
    assert graded(tmp_path) == [("eva", "02_crud"), ("eva", "07_rag")]


def test_what_systems_leave_behind_is_passed_over(tmp_path):
    left = ["anna/.ipynb_checkpoints/02_crud-checkpoint.ipynb", "__MACOSX/anna/._02_crud.ipynb", "anna/._02_crud.ipynb"]
    put(tmp_path, paths("anna/02_crud.ipynb", *left, "anna/.venv/lib/07_rag.ipynb") | {"anna/.DS_Store": b"\0"})
    assert [place.where for place in find_submissions(tmp_path)] == ["anna/02_crud.ipynb"]
    assert only(tmp_path).files == ()


def test_nothing_handed_in(tmp_path):
    with pytest.raises(NothingHandedIn, match="There is no .*nowhere. Name the folder"):
        find_submissions(tmp_path / "nowhere")
    put(tmp_path, {"README.md": b"hello"})
    with pytest.raises(NothingHandedIn, match="no notebooks"):
        find_submissions(tmp_path)


# ------------------------------------------------------------------------------ which one, and what is none


def test_the_newest_is_graded_and_the_others_are_told_of(tmp_path):
    put(tmp_path, paths("anna/02_crud.ipynb", "anna/02_crud-Copy1.ipynb", "anna/02_crud-Copy10.ipynb"))
    put(tmp_path, paths("bob/02_crud.ipynb"))
    put(tmp_path, paths("bob/02_crud (1).ipynb"), age=86400)
    put(tmp_path, paths("eva/02_crud/02_crud.ipynb"), age=86400)
    put(tmp_path, paths("eva/02_crud/scratch.ipynb"))
    chosen = [place.where for place in find_submissions(tmp_path) if not place.problem]
    assert chosen == ["anna/02_crud-Copy10.ipynb", "bob/02_crud.ipynb", "eva/02_crud/02_crud.ipynb"]
    assert problems(tmp_path)["anna/02_crud.ipynb"] == (
        "02_crud was handed in more than once. The newest was graded, anna/02_crud-Copy10.ipynb; not this one."
    )


def test_of_canvas_the_last_upload_is_graded(tmp_path):
    names = paths("doeanna_4711_90001_02_crud-1.ipynb", "doeanna_4711_90009_02_crud.ipynb")
    (tmp_path / "export.zip").write_bytes(zipped(names))
    chosen = [place.where for place in find_submissions(tmp_path) if not place.problem]
    assert chosen == ["export.zip/doeanna_4711_90009_02_crud.ipynb"]


def test_an_unknown_exercise_names_what_is_like_it(tmp_path):
    put(tmp_path, paths("anna/02_crdu.ipynb", "anna/notes.ipynb"))
    found = problems(tmp_path)
    assert found["anna/02_crdu.ipynb"].startswith("There is no exercise '02_crdu'. Did you mean 02_crud?")
    assert "The exercises are: 02_crud, 03_distance_operators" in found["anna/notes.ipynb"]


def test_another_file_has_a_row_only_where_there_is_no_notebook(tmp_path):
    stray = ["README.md", "anna/README.md", "anna/02_crud.py", "anna/data/words.csv", "bob/solution.py", "bob/data.csv"]
    put(tmp_path, paths("anna/02_crud.ipynb") | dict.fromkeys(stray, b"x"))
    assert problems(tmp_path) == {
        "bob/solution.py": "solution.py is no notebook, and no notebook lies beside it. "
        "Have the notebook (.ipynb) handed in."
    }
    put(tmp_path, {"anna/07_rag.pdf": b"%PDF"})
    assert [(place.learner, place.exercise) for place in find_submissions(tmp_path) if place.problem] == [
        ("anna", "07_rag"),
        ("bob", ""),
    ]


@pytest.mark.parametrize("ending", [".ipynb.txt", ".ipynb.json", ".IPYNB"])
def test_endings_that_browsers_add(tmp_path, ending):
    put(tmp_path, paths(f"anna/02_crud{ending}"))
    assert graded(tmp_path) == [("anna", "02_crud")]


def test_a_link_is_not_followed(tmp_path):
    put(tmp_path / "elsewhere", paths("02_crud.ipynb"))
    put(tmp_path / "class", paths("anna/02_crud.ipynb", "bob/07_rag.ipynb"))
    (tmp_path / "class/bob/02_crud.ipynb").symlink_to(tmp_path / "elsewhere/02_crud.ipynb")
    (tmp_path / "class/eva").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "class/anna/secret.txt").symlink_to("/etc/passwd")
    assert graded(tmp_path / "class") == [("anna", "02_crud"), ("bob", "07_rag")]
    assert set(problems(tmp_path / "class")) == {"bob/02_crud.ipynb", "eva"}
    assert "symbolic link" in problems(tmp_path / "class")["eva"]
    assert read(find_submissions(tmp_path / "class")[0]).files == ()


def test_a_pipe_does_not_stop_the_grader(tmp_path):
    put(tmp_path, paths("anna/02_crud.ipynb"))
    os.mkfifo(tmp_path / "anna/07_rag.ipynb")
    assert list(problems(tmp_path)) == ["anna/07_rag.ipynb"]


def test_a_notebook_that_cannot_be_opened(tmp_path):
    put(tmp_path, paths("anna/02_crud.ipynb"))
    (place,) = find_submissions(tmp_path)
    (tmp_path / "anna/02_crud.ipynb").unlink()
    assert read(place).problem.startswith("It cannot be opened: No such file")


# ------------------------------------------------------------------------------ names are data


def test_names_keep_any_script_and_lose_what_turns_the_line(tmp_path):
    put(tmp_path, paths("山田 太郎/02_crud.ipynb", "O'Brien; DROP/02_crud.ipynb", "an\u202ena\x07/02_crud.ipynb"))
    assert {learner for learner, _ in graded(tmp_path)} == {"山田 太郎", "O'Brien; DROP", "anna"}
    assert all("\u202e" not in place.where for place in find_submissions(tmp_path))


def test_who_looks_like_another_learner_is_another(tmp_path):
    put(
        tmp_path,
        paths("anna/02_crud.ipynb", "an\u202ena/02_crud.ipynb", "Anna/02_crud.ipynb", f"{'x' * 250}/07_rag.ipynb"),
    )
    found = [place for place in find_submissions(tmp_path) if not place.problem]
    assert [place.learner for place in found] == ["Anna", "anna", "anna (2)", "x" * 200]
    assert found[1].where == "anna/02_crud.ipynb" and "\u202e" not in found[1].entry.parts[0]


def test_a_name_is_one_however_its_accents_are_written(tmp_path):
    for form, exercise in (("NFC", "02_crud"), ("NFD", "07_rag")):
        put(tmp_path, paths(f"{unicodedata.normalize(form, 'Zoë')}/{exercise}.ipynb"))
    assert graded(tmp_path) == [("Zoë", "02_crud"), ("Zoë", "07_rag")]


def test_a_name_that_is_no_text(tmp_path):
    os.makedirs(os.fsencode(tmp_path) + b"/anna\xff")
    (tmp_path / os.fsdecode(b"anna\xff") / "02_crud.ipynb").write_bytes(notebook("x"))
    place = find_submissions(tmp_path)[0]
    assert read(place).cells and f"{place.learner} {place.where}".encode() == b"anna? anna?/02_crud.ipynb"


# ------------------------------------------------------------------------------ zips that mean harm


def test_names_in_a_zip_lead_nowhere(tmp_path):
    names = ["../../anna/02_crud.ipynb", "/bob/02_crud.ipynb", "C:\\eva\\02_crud.ipynb"]
    (tmp_path / "class.zip").write_bytes(zipped(paths(*names) | {"/bob/../../etc/data.txt": b"x"}))
    assert graded(tmp_path / "class.zip") == [(who, "02_crud") for who in ("anna", "bob", "eva")]
    beside = {name for place in find_submissions(tmp_path) for name, _ in read(place).files}
    assert beside == {"etc/data.txt"}
    assert [path.name for path in tmp_path.rglob("*")] == ["class.zip"]


def test_a_notebook_in_a_zip_that_is_larger_than_the_limit(tmp_path):
    options = {"compression": zipfile.ZIP_DEFLATED}
    bomb = zipped({"02_crud.ipynb": b" " * 3 * 2**20, "inner.zip": os.urandom(3 * 2**20)}, **options)
    put(tmp_path, {"anna.zip": bomb, "bob/02_crud.ipynb": b" " * 3 * 2**20})
    places = find_submissions(tmp_path, most_bytes=2**20)
    found = {place.where: read(place, most_bytes=2**20).problem for place in places}
    assert set(found) == {"anna.zip/02_crud.ipynb", "anna.zip/inner.zip", "bob/02_crud.ipynb"}
    assert set(found.values()) == {"It has 3 MB, and up to 1 MB are read. Have it handed in again without outputs."}


def test_a_zip_that_lies_about_its_sizes(tmp_path):
    data = bytearray(zipped({"02_crud.ipynb": notebook("x = 1" * 1000)}, compression=zipfile.ZIP_DEFLATED))
    place = data.index(b"PK\x01\x02") + 24
    data[place : place + 4] = (10).to_bytes(4, "little")
    put(tmp_path, {"anna.zip": bytes(data), "bob.zip": zipped(paths("02_crud.ipynb"))})
    assert problems(tmp_path)["anna.zip/02_crud.ipynb"].startswith("The zip is broken")


@pytest.mark.parametrize(
    "name", [" " * 60_000, "02" + "_" * 60_000, "- " * 30_000, "a_1" * 20_000, "a/" * 30_000 + "x"]
)
def test_names_that_would_keep_a_pattern_busy(tmp_path, name):
    (tmp_path / "class.zip").write_bytes(zipped(paths(f"{name}.ipynb", f"02_crud/{name}.ipynb")))
    assert len(find_submissions(tmp_path)) == 2


def test_a_zip_that_grows_without_end_is_not_read(tmp_path):
    inner = {f"{number}.zip": b"\0" * 2**23 for number in range(3)}
    put(tmp_path, {"anna.zip": zipped(inner, compression=zipfile.ZIP_DEFLATED), "bob/02_crud.ipynb": None})
    assert all("grows more than a zip does" in problem for problem in problems(tmp_path).values())
    assert len(problems(tmp_path)) == 3


def test_zips_that_cannot_be_opened_have_a_row_each(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "MOST_MEMBERS", 100)
    encrypted = bytearray(zipped(paths("02_crud.ipynb")))
    for header, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(header) + place] |= 1
    whole = zipped(paths("02_crud.ipynb"))
    put(tmp_path, {
        "broken.zip": whole[:-30], "empty.zip": b"", "encrypted.zip": bytes(encrypted), "many.zip":
        zipped({f"{number}.txt": b"" for number in range(101)}), "none.zip": b"<html>Please sign in</html>",
        "deep.zip": zipped({"a.zip": zipped({"b.zip": zipped(paths("02_crud.ipynb"))})}), "good.zip": whole,
        "unusual.zip": zipped(paths("02_crud.ipynb"), compression=zipfile.ZIP_LZMA),
    })  # fmt: skip
    assert graded(tmp_path)[0][0] == "encrypted" and ("good", "02_crud") in graded(tmp_path)
    found = problems(tmp_path)
    assert {where.split("/")[0] for where in found} == {
        "broken.zip", "empty.zip", "encrypted.zip", "many.zip", "none.zip", "deep.zip", "unusual.zip"
    }  # fmt: skip
    assert "is broken" in found["broken.zip"]
    assert "encrypted" in found["encrypted.zip/02_crud.ipynb"]
    assert "101 files, more than the 100" in found["many.zip"]
    assert "zip in a zip in a zip" in found["deep.zip/a.zip/b.zip"]


# ------------------------------------------------------------------------------ reading


@pytest.mark.parametrize("name", ["02_crud", "capstone_knowledge_base"])
def test_our_own_notebooks(tmp_path, name):
    (tmp_path / "anna").mkdir()
    shutil.copy(SOLUTIONS / f"{name}.ipynb", tmp_path / "anna")
    stored = nbformat.read(SOLUTIONS / f"{name}.ipynb", as_version=4)
    wanted = [
        Cell(number, cell.source)
        for number, cell in enumerate(stored.cells, 1)
        if cell.cell_type == "code" and "skip-execution" not in cell.metadata.get("tags", [])
    ]
    assert list(only(tmp_path).cells) == wanted


def test_what_other_programs_write():
    cell = {"cell_type": "code", "source": ["a = 1\r\n", "b = 2"], "attachments": {}, "id": "same", "unknown": [1]}
    texts = {"cell_type": "markdown", "source": "# Title", "id": "same"}
    without = {"cells": [texts, cell, cell | {"metadata": {"tags": "none", "vscode": {"languageId": "python"}}}]}
    skipped = cell | {"metadata": {"tags": ["skip-execution"]}}
    for minor in range(6):
        book = without | {"nbformat": 4, "nbformat_minor": minor, "metadata": {"colab": {"provenance": []}}}
        assert [c.number for c in code_cells(json.dumps(book).encode())] == [2, 3]
    assert code_cells(json.dumps({"cells": [*without["cells"], skipped]}).encode())[0] == Cell(2, "a = 1\nb = 2")
    odd = [
        None,
        7,
        {"cell_type": "code"},
        {"cell_type": "code", "source": [1, "c"]},
        {"cell_type": "code", "source": {}},
    ]
    assert [c.source for c in code_cells(json.dumps({"cells": odd, "metadata": []}).encode())] == ["", "c", ""]


def test_format_3_as_nbformat_writes_it():
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("x"), nbformat.v4.new_code_cell("a = 1\nb = 2")]
    )
    old = nbformat.writes(nbformat.convert(book, 3), version=3)
    assert "worksheets" in old
    assert code_cells(old.encode()) == (Cell(2, "a = 1\nb = 2"),)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings(encoding):
    text = notebook("print('größer')").decode().replace("\\u00f6", "ö").replace(", ", ",\r\n")
    assert code_cells(text.encode(encoding)) == (Cell(1, "print('größer')"),)


def test_half_a_character_can_be_sent_on():
    assert code_cells(notebook("x = '\ud83d'"))[0].source.encode() == b"x = '?'"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "The file is empty"),
        (b" \n ", "The file is empty"),
        (b"import numpy as np", "no JSON, as a notebook is: Expecting value in line 1"),
        (notebook("x = 1")[:-40], "It may have been cut off"),
        (b"<<<<<<< HEAD\n{}", "The file is no JSON"),
        (b'{"cells": "\xff"}', "its text is not UTF-8"),
        (b"[1, 2]", "JSON, but no notebook: it has no cells"),
        (b'{"type": "FeatureCollection"}', "JSON, but no notebook"),
        (b'{"cells": {}}', "JSON, but no notebook"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"cells": [' + b"1" * 5000 + b"]}", "The file is no JSON"),
        (notebook("x", metadata={"kernelspec": {"language": "R", "name": "ir"}}), "written for R"),
        (notebook("x", metadata={"kernelspec": {"display_name": "R", "name": "ir"}}), "written for R"),
        (notebook("x", metadata={"language_info": {"name": "julia"}}), "written for julia"),
        (notebook("x" * 5_000_000), "The code has 5,000,000 characters"),
    ],
)
def test_what_is_no_notebook_is_told_in_plain_words(tmp_path, data, said):
    put(tmp_path, {"anna/02_crud.ipynb": data})
    submission = only(tmp_path)
    assert said in submission.problem and submission.cells == ()
    assert (submission.learner, submission.exercise) == ("anna", "02_crud")


def test_a_notebook_of_millions_of_values_is_not_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "MOST_VALUES", 1000)
    put(tmp_path, {"anna/02_crud.ipynb": notebook("x", outputs=[[]] * 1000)})
    assert "millions of values" in only(tmp_path).problem


def test_a_place_and_a_submission_go_to_other_processes(tmp_path):
    put(tmp_path, {"anna/02_crud.ipynb": None, "anna/data.txt": b"1"})
    (place,) = find_submissions(tmp_path)
    submission = read(pickle.loads(pickle.dumps(place)))
    assert pickle.loads(pickle.dumps(submission)) == submission == read(place)


# ------------------------------------------------------------------------------ files beside the notebook


def test_files_beside_the_notebook(tmp_path):
    put(tmp_path / "disk", {
        "anna/capstone_knowledge_base.ipynb": None, "anna/recipes.txt": b"flour", "anna/data/more.txt": b"salt",
        "anna/07_rag/07_rag.ipynb": None, "bob/02_crud.ipynb": None, "bob/own.py": b"x", "class list.csv": b"secret",
    })  # fmt: skip
    (tmp_path / "class.zip").write_bytes(
        zipped({str(p.relative_to(tmp_path / "disk")): p.read_bytes() for p in (tmp_path / "disk").rglob("*.*")})
    )
    for root in (tmp_path / "disk", tmp_path / "class.zip"):
        found = {(s.learner, s.exercise): dict(s.files) for s in map(read, find_submissions(root))}
        assert found == {
            ("anna", "07_rag"): {},
            ("anna", "capstone_knowledge_base"): {"recipes.txt": b"flour", "data/more.txt": b"salt"},
            ("bob", "02_crud"): {"own.py": b"x"},
        }


def test_in_a_flat_folder_the_neighbours_are_others(tmp_path):
    put(
        tmp_path,
        {"anna_02_crud.ipynb": None, "bob_02_crud.ipynb": None, "anna_02_crud_data.txt": b"x", "bob.txt": b"x"},
    )
    assert all(read(place).files == () for place in find_submissions(tmp_path))


def test_what_was_uploaded_to_canvas_beside_the_notebook(tmp_path):
    names = {
        "doeanna_11_500_07_rag.ipynb": None,
        "doeanna_11_501_recipes.txt": b"flour",
        "leebob_12_502_x.txt": b"other",
    }
    (tmp_path / "export.zip").write_bytes(zipped(names))
    assert read(find_submissions(tmp_path)[0]).files == (("recipes.txt", b"flour"),)


def test_too_much_beside_the_notebook_is_left_out_with_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "MOST_FILE_BYTES", 2**20)
    put(tmp_path, {"anna/02_crud.ipynb": None, "anna/large.bin": b"0" * 2**21, "anna/small.txt": b"1"})
    submission = only(tmp_path)
    assert submission.files == (("small.txt", b"1"),) and submission.cells and not submission.problem
    assert submission.notes == (
        "1 of the 2 files beside the notebook were left out: together they have 2 MB, "
        "and up to 200 files of 1 MB together are taken along.",
    )


# ------------------------------------------------------------------------------ answers


def test_every_question_asks_for_functions():
    found = {name: functions_of(question) for name, question in all_questions().items()}
    assert all(found.values())
    assert found["indexes.mend_library"] == ("build_library", "search_library")
    assert found["distances.mend"] == ("recommend",)


@pytest.mark.parametrize("folder", [SOLUTIONS, EXERCISES])
def test_the_answers_of_our_own_notebooks_are_their_answer_cells(folder):
    for path in folder.glob("[0-9c]*.ipynb"):
        questions = questions_of(path.stem)
        cells = {c.metadata.get("nbgrader", {}).get("grade_id"): c.source for c in nbformat.read(path, 4).cells}
        found = answers(code_cells(path.read_bytes()), questions)
        assert found == {question.name: cells[question.grade_id].strip("\n") for question in questions}


def answered(*sources):
    return answers([Cell(*item) for item in enumerate(sources, 1)], questions_of("04_indexes"))


def test_the_last_definition_is_the_answer():
    found = answered(
        "def create_hnsw(conn):\n    old", "x = create_hnsw", "def create_hnsw(conn):\n    new", "create_hnsw(1)"
    )
    assert found["indexes.create_hnsw"] == "def create_hnsw(conn):\n    new"
    assert found["indexes.rerank"] == ""


def test_functions_of_one_question_in_two_cells():
    found = answered("def search_library(a): ...", "y = 1", "def build_library(a): ...\n")
    assert found["indexes.mend_library"] == "def search_library(a): ...\n\n\ndef build_library(a): ..."


@pytest.mark.parametrize(
    "source",
    [
        "%%time\ndef create_hnsw(conn):\n    return 1",
        "!pip install x\n%matplotlib inline\ndef create_hnsw(conn):\n    return 1",
        "if True:\n    def create_hnsw(conn):\n        return 1",
        "try:\n    pass\nexcept Exception:\n    async def create_hnsw(conn): ...",
        "create_hnsw = lambda conn: 1",
        "from helper import create_hnsw",
        "def create_hnsw(conn):\n    return (",
    ],
)
def test_answers_in_other_forms(source):
    assert answered(source)["indexes.create_hnsw"] == source


def test_a_cell_that_is_no_python_does_not_hide_the_one_that_ran():
    found = answered("def create_hnsw(conn):\n    return 1", "def create_hnsw(conn):\n    return (")
    assert found["indexes.create_hnsw"].endswith("return 1")


def test_code_that_would_overwhelm_the_parser():
    found = answered(
        "create_hnsw = " + "(" * 50_000, "create_hnsw = " + "-" * 150_000 + "1", "def create_hnsw(conn): ..."
    )
    assert found["indexes.create_hnsw"] == "def create_hnsw(conn): ..."
