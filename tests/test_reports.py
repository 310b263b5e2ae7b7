"""The reports of a class: what teachers, learners, spreadsheets, Canvas and Moodle get to see."""

import csv
import json
import random
from html.parser import HTMLParser

import pandas as pd
import pytest

from pgv_helpers.course.question import questions_of
from pgv_helpers.course.verdict import Outcome
from pgv_helpers.errors import CourseError
from pgv_helpers.grading.marks import Mark
from pgv_helpers.grading.reports import LONGEST_CODE, LONGEST_MESSAGE, read_marks, write_reports

MAXIMUM = {exercise: sum(q.points for q in questions_of(exercise)) for exercise in ("02_crud", "04_indexes")}
SCRIPT = "<script>alert(1)</script>"
OVERRIDE = "\u202e"
CODE = "def insert_notes(conn, rows):\n    return len(rows)\n"


def outcome(question, state="passed", message=""):
    return Outcome(question.name, state, question.points, ["there is a table notes"], message)


def graded(learner, exercise="02_crud", *, wrong=None, unsolved=(), **details):
    """A mark of which every question passed but these; `wrong` maps a question's name to its message."""
    wrong = wrong or {}
    outcomes = [
        outcome(q, "wrong", wrong[q.name])
        if q.name in wrong
        else outcome(q, "unsolved" if q.name in unsolved else "passed")
        for q in questions_of(exercise)
    ]
    where = details.pop("where", f"{learner}/{exercise}.ipynb")
    return Mark(learner, exercise, where, "graded", outcomes, **details)


def unreadable(learner, exercise="02_crud", reason="The file is empty.", **details):
    return Mark(learner, exercise, f"{learner}/{exercise}.ipynb", "unreadable", reason=reason, **details)


@pytest.fixture
def write(tmp_path):
    """Writes the reports of these marks and returns their folder."""

    def write(*marks, seed=7):
        write_reports(marks, tmp_path, seed=seed)
        return tmp_path

    return write


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pages(folder):
    return sorted((folder / "feedback").iterdir())


def the_page(folder):
    [page] = pages(folder)
    return page.read_text(encoding="utf-8")


class Parser(HTMLParser):
    """The text that a reader sees, the names of the tags, and whether they nest."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.seen, self.attributes = [], [], [], []
        self.feed(page)
        self.close()
        self.text = "".join(self.seen)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.seen.append(data)


# -- marks ----------------------------------------------------------------------


def test_points_are_those_of_the_passed_questions_of_all_questions():
    mark = graded("anna", wrong={"crud.search_notes": "No."}, unsolved=["crud.delete_notes"])
    assert mark.points == MAXIMUM["02_crud"] - 3 - 2
    assert mark.maximum == MAXIMUM["02_crud"]


def test_an_unreadable_notebook_has_the_exercise_s_maximum_where_the_exercise_is_known():
    assert (unreadable("anna").points, unreadable("anna").maximum) == (0, MAXIMUM["02_crud"])
    assert unreadable("anna", "homework").maximum == 0


def test_marks_survive_json():
    mark = graded(
        "Zoë", wrong={"crud.insert_notes": "Wrong:\nline 2"}, notes=["Cell 5 failed"], tampering=["It read a file"],
        answers={"crud.insert_notes": CODE}, seconds=1.25, lms_id="77",
    )  # fmt: skip
    assert Mark.from_dict(json.loads(json.dumps(mark.as_dict()))) == mark


def test_marks_json_gives_the_marks_back_with_the_seed_and_the_course(write):
    marks = [graded("anna"), unreadable("béla"), Mark("chidi", "02_crud", "c.ipynb", "failed", reason="Disk full.")]
    folder = write(*marks, seed=42)
    assert read_marks(folder / "marks.json") == marks
    state = json.loads((folder / "marks.json").read_text(encoding="utf-8"))
    assert state["seed"] == 42 and state["course"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"marks": [{"learner": "anna"}]}', '{"marks": 1}', "\xff"])
def test_a_file_without_marks_is_an_error_that_says_which_file(tmp_path, text):
    path = tmp_path / "marks.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CourseError, match="marks.json holds no marks"):
        read_marks(path)


def test_an_unknown_status_is_no_mark():
    with pytest.raises(ValueError, match="perfect"):
        Mark.from_dict(graded("anna").as_dict() | {"status": "perfect"})


# -- spreadsheets ---------------------------------------------------------------


def test_marks_csv_has_a_row_for_each_mark_and_a_column_for_each_question(write):
    folder = write(
        graded("Zoë, \"Z\"", wrong={"crud.search_notes": "No."}, seconds=2.0),
        graded("Zoë, \"Z\"", "04_indexes"),
        unreadable("béla", reason="Two lines:\nempty"),
    )  # fmt: skip
    table = pd.read_csv(folder / "marks.csv")
    assert list(table["learner"]) == ["béla", 'Zoë, "Z"', 'Zoë, "Z"']
    assert list(table["points"]) == [0, MAXIMUM["02_crud"] - 3, MAXIMUM["04_indexes"]]
    assert list(table["maximum"]) == [MAXIMUM["02_crud"], MAXIMUM["02_crud"], MAXIMUM["04_indexes"]]
    questions = [q.name for exercise in MAXIMUM for q in questions_of(exercise)]
    assert list(table.columns[5:-5]) == questions
    crud = table[table["exercise"] == "02_crud"].iloc[1]
    assert crud["crud.search_notes"] == 0 and crud["crud.insert_notes"] == 2
    assert pd.isna(crud["indexes.rerank"])
    assert table["reason"][0] == "Two lines:\nempty"
    assert pd.isna(table.iloc[0][questions].astype(float)).all()


@pytest.mark.parametrize("start", list("=+-@\t\r＝"))
def test_no_cell_of_any_csv_is_a_formula(write, start):
    evil = f"{start}HYPERLINK(1)"
    folder = write(
        graded(evil, lms_id=evil, tampering=[evil], where=evil),
        graded("x", wrong={"crud.insert_notes": evil}),
        unreadable(evil, evil, evil),
    )
    for path in folder.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert cells and not [cell for cell in cells if cell.startswith(tuple("=+-@\t\r＝"))]


def test_canvas_finds_the_learner_the_assignment_and_the_maximum(write):
    folder = write(
        graded("schmidtanna", lms_id="5423", wrong={"crud.create_notes": "No."}),
        graded("schmidtanna", "04_indexes", lms_id="5423"),
        unreadable("béla"),
    )
    possible, bela, anna = rows(folder / "canvas.csv")
    columns = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "02_crud", "04_indexes"]
    assert list(anna) == columns
    assert possible["Student"].strip() == "Points Possible"
    assert [possible["02_crud"], possible["04_indexes"]] == [str(points) for points in MAXIMUM.values()]
    assert (anna["Student"], anna["ID"]) == ("schmidtanna", "5423")
    assert (anna["02_crud"], anna["04_indexes"]) == (str(MAXIMUM["02_crud"] - 1), str(MAXIMUM["04_indexes"]))
    assert (bela["ID"], bela["02_crud"], bela["04_indexes"]) == ("", "", "")


def test_a_learner_cannot_be_canvas_s_row_of_maxima(write):
    possible, learner = rows(write(graded("My Points Possible")) / "canvas.csv")
    assert "Points Possible" in possible["Student"] and "Points Possible" not in learner["Student"]


def test_moodle_finds_the_participant_and_gets_feedback_as_html(write):
    folder = write(
        graded("Anna Schmidt", lms_id="4711", wrong={"crud.insert_notes": "1 < 2\nand <b>"}, notes=["Cell 5 failed"]),
        graded("Béla"),
        graded("Béla", "04_indexes"),
        unreadable("Chidi", reason="The file is empty."),
    )
    anna, bela, chidi = rows(folder / "moodle-02_crud.csv")
    assert {"Identifier", "Full name", "Grade", "Maximum grade", "Last modified (grade)", "Feedback comments"} == set(
        anna
    )
    assert (anna["Identifier"], anna["Full name"]) == ("Participant 4711", "Anna Schmidt")
    assert (anna["Grade"], anna["Maximum grade"]) == (str(MAXIMUM["02_crud"] - 2), str(MAXIMUM["02_crud"]))
    assert "✗ crud.insert_notes: wrong<br>1 &lt; 2<br>and &lt;b&gt;" in anna["Feedback comments"]
    assert "Cell 5 failed" in anna["Feedback comments"]
    assert bela["Identifier"] == ""
    assert (chidi["Grade"], chidi["Feedback comments"]) == ("", "The file is empty.")
    assert [row["Full name"] for row in rows(folder / "moodle-04_indexes.csv")] == ["Béla"]


def test_of_two_notebooks_the_graded_one_counts(write):
    folder = write(
        unreadable("anna", reason="The newer one was graded."), graded("anna"), unreadable("anna", reason="Another.")
    )
    assert rows(folder / "canvas.csv")[1]["02_crud"] == str(MAXIMUM["02_crud"])
    assert [row["Grade"] for row in rows(folder / "moodle-02_crud.csv")] == [str(MAXIMUM["02_crud"])]
    assert len(rows(folder / "marks.csv")) == 3


def test_an_exercise_that_a_stranger_made_up_is_no_column_and_no_file(write):
    folder = write(unreadable("anna", "../../escaped"), graded("béla"))
    assert list(rows(folder / "canvas.csv")[0])[5:] == ["02_crud"]
    assert [path.name for path in folder.glob("moodle*")] == ["moodle-02_crud.csv"]
    assert rows(folder / "marks.csv")[0]["exercise"] == "../../escaped"


# -- the learner's page ---------------------------------------------------------


def test_a_learner_reads_what_was_right_what_was_wrong_a_hint_and_their_code(write):
    page = the_page(
        write(
            graded(
                "anna", wrong={"crud.insert_notes": "First line.\n  Second line."}, unsolved=["crud.delete_notes"],
                answers={"crud.insert_notes": CODE}, notes=["Cell 5 failed: NameError: name 'x' is not defined"],
            )
        )
    )  # fmt: skip
    text = Parser(page).text
    assert f"{MAXIMUM['02_crud'] - 4} of {MAXIMUM['02_crud']} points" in text
    assert "First line.\n  Second line." in text
    assert "there is a table notes" in text
    assert "A hint: execute_values writes many rows into one INSERT." in text
    assert "A hint: A DELETE can return columns" in text
    assert "Bind the category" not in text  # the hint of a question that passed
    assert CODE in text
    assert "Cell 5 failed: NameError: name 'x' is not defined" in text
    assert all(sign in text for sign in "✓✗·")


def test_one_page_holds_all_exercises_of_a_learner(write):
    text = Parser(the_page(write(graded("anna"), graded("anna", "04_indexes"), unreadable("anna", "homework")))).text
    assert "crud.insert_notes" in text and "indexes.rerank" in text
    assert "This submission could not be read.\nThe file is empty." in text


def test_the_grader_s_own_failure_is_not_called_the_learner_s(write):
    text = Parser(the_page(write(Mark("anna", "02_crud", "anna", "failed", reason="The disk is full.")))).text
    assert "could not be graded" in text and "The disk is full." in text


def test_tampering_is_for_the_teacher_alone(write):
    folder = write(graded("anna", tampering=["It read /etc/passwd"]))
    assert "/etc/passwd" not in the_page(folder)
    assert "/etc/passwd" in (folder / "overview.html").read_text(encoding="utf-8")


def test_a_question_that_this_version_of_the_course_does_not_have(write):
    mark = graded("anna")
    mark.outcomes.append(Outcome("crud.gone", "wrong", 90, [], "It was wrong."))
    mark.outcomes.append(Outcome("crud.gone_too", "passed", 90))
    folder = write(mark)
    assert "It was wrong." in the_page(folder)


# -- strangers ------------------------------------------------------------------

HOSTILE = [
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "</pre></code></style></title>" + SCRIPT,
    "{{ 7 * 7 }}{% raw %}",
    f"{OVERRIDE}exe.gnp\u2066\u200f\u061c",
    "a\x00b\x1b[31m\x85c",
    "half a pair: \ud83d",
    "&lt;b&gt;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_submission_holds_becomes_html_or_stays_invisible(write, text):
    answers = {"crud.insert_notes": f"x = 1  # {text}", "crud.search_notes": f'"""{text}"""'}
    mark = graded(text, wrong={"crud.insert_notes": text}, answers=answers, notes=[text], tampering=[text], where=text)
    mark.outcomes[0].right.append(text)
    folder = write(mark, unreadable(text, text, text), Mark(text, text, text, "failed", reason=text))
    for path in [*pages(folder), folder / "overview.html"]:
        page = Parser(path.read_text(encoding="utf-8"))
        assert not page.open
        assert not {"script", "img", "b", "iframe"} & set(page.tags)
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert not [char for char in page.text if ord(char) < 32 and char not in "\n\t"]
        assert not set("\u202e\u2066\u200f\u061c\x7f\x85") & set(page.text)
        shown = text.replace(OVERRIDE, "⟨U+202E⟩").replace("\u2066", "⟨U+2066⟩").replace("\u200f", "⟨U+200F⟩")
        shown = shown.replace("\u061c", "⟨U+061C⟩").replace("\x00", "⟨U+0000⟩").replace("\x1b", "⟨U+001B⟩")
        assert shown.replace("\x85", "⟨U+0085⟩").replace("\ud83d", "⟨U+D83D⟩") in page.text
    assert len(rows(folder / "marks.csv")) == 3
    assert read_marks(folder / "marks.json")[0].learner == text


def test_pages_allow_no_scripts_and_load_nothing(write):
    folder = write(graded("anna"))
    for path in [*pages(folder), folder / "overview.html"]:
        page = path.read_text(encoding="utf-8")
        assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
        assert "http://" not in page and "https://" not in page and "url(" not in page


def test_long_texts_are_cut_with_a_note(write):
    code, message = "y" * (LONGEST_CODE + 5_000), "m" * (LONGEST_MESSAGE + 1_000)
    text = Parser(
        the_page(write(graded("a", wrong={"crud.insert_notes": message}, answers={"crud.insert_notes": code})))
    ).text
    assert "cut: 25,000 characters in all" in text and "cut: 5,000 characters in all" in text
    assert text.count("y") < LONGEST_CODE + 200 and text.count("m") < LONGEST_MESSAGE + 200


NAMES = [
    "anna", "Anna", "ANNA", "anna ", "änna", "anna-schmidt", "anna_schmidt", "anna schmidt", "../anna", "..", ".",
    "/etc/passwd", "con", "CON", "nul", "com1", "", "王小明", "نور", "a" * 200, "a" * 199, "b/c", "b\\c", "b:c",
    "x\x00y", "-",
]  # fmt: skip


def test_every_learner_has_a_page_of_their_own_on_every_disk(write):
    taken = pages(write(graded("Anna")))[0].stem  # the name that "Anna" gets is another learner's own
    names = [*NAMES, taken]
    folder = write(*(graded(name) for name in names), graded("anna", lms_id="1"), graded("anna", lms_id="2"))
    found = [path.name for path in pages(folder)]
    assert len({name.lower() for name in found}) == len(names) + 2
    assert "anna.html" in found
    assert all(name.isascii() and len(name) < 90 for name in found)
    assert not {"con.html", "nul.html", "com1.html"} & set(found)
    assert [path for path in folder.rglob("*") if path.is_dir()] == [folder / "feedback"]


def test_a_page_s_name_does_not_depend_on_the_others(write):
    [alone] = pages(write(graded("Zoë")))
    assert alone in pages(write(graded("Zoë"), graded("zoe"), graded("ZOË")))


def test_the_overview_leads_to_every_page(write):
    folder = write(*(graded(name) for name in NAMES))
    page = Parser((folder / "overview.html").read_text(encoding="utf-8"))
    links = {value for name, value in page.attributes if name == "href"}
    assert {f"feedback/{path.name}" for path in pages(folder)} <= links


# -- the teacher's page ---------------------------------------------------------


def overview(folder):
    """The words of the teacher's page."""
    return " ".join(" ".join(Parser((folder / "overview.html").read_text(encoding="utf-8")).seen).split())


def test_the_overview_counts_and_names_the_hardest_question_first(write):
    hard, easier = {"crud.search_notes": "No."}, {"crud.search_notes": "No.", "crud.upsert_notes": "No."}
    words = overview(
        write(
            graded("a", wrong=hard), graded("b", wrong=easier), graded("c"), unreadable("d", reason="It is empty."),
            Mark("e", "02_crud", "e", "failed", reason="Disk full."), graded("f", tampering=["It opened a socket"]),
        )
    )  # fmt: skip
    assert "Learners 6 Graded 4 Unreadable 1 Failed to grade 1 Flagged 1" in words
    hardest = words[words.index("The hardest questions") :]
    assert hardest.index("crud.search_notes") < hardest.index("crud.upsert_notes") < hardest.index("crud.create_notes")
    assert "crud.search_notes 2 of 4 (50 %)" in words
    assert "It is empty." in words and "Disk full." in words and "It opened a socket" in words


def test_messages_that_differ_only_in_random_inputs_count_as_one(write):
    answers = [
        "vector(3) and 'amber 1'",
        "vector(99) and 'cedar 5'",
        "vector(7) and 'kelp 2.5'",
        "A transaction is open.",
    ]
    words = overview(write(*(graded(str(n), wrong={"crud.insert_notes": m}) for n, m in enumerate(answers))))
    assert "3 × vector(3) and 'amber 1'" in words and "1 × A transaction is open." in words
    assert "cedar" not in words


def test_no_marks_at_all(write):
    folder = write()
    assert "No submission was found" in overview(folder)
    assert read_marks(folder / "marks.json") == []
    assert rows(folder / "marks.csv") == []
    assert not list(folder.glob("feedback/*"))


def test_nothing_but_unreadable_notebooks(write):
    assert "The file is empty." in overview(write(unreadable("anna"), unreadable("béla")))


# -- files ----------------------------------------------------------------------


def test_the_paths_that_were_written_are_returned(tmp_path):
    written = write_reports([graded("anna")], tmp_path / "new" / "folder", seed=1)
    assert sorted(written) == sorted(path for path in tmp_path.rglob("*") if path.is_file())


def test_the_same_marks_give_the_same_bytes_in_any_order(write):
    marks = [
        graded(name, exercise, wrong={"crud.insert_notes": f"{name} 3"}) for name in "CaBd" for exercise in MAXIMUM
    ]
    before = {path: path.read_bytes() for path in write(*marks).rglob("*") if path.is_file()}
    random.Random(1).shuffle(marks)
    assert {path: path.read_bytes() for path in write(*marks).rglob("*") if path.is_file()} == before


def test_an_interrupted_write_leaves_the_old_file(write, tmp_path):
    write(graded("anna"))
    old = (tmp_path / "marks.json").read_bytes()
    (tmp_path / "marks.json.unfinished").mkdir()  # so that the new one cannot be written
    with pytest.raises(OSError):
        write(graded("anna"), graded("béla"))
    assert (tmp_path / "marks.json").read_bytes() == old
    (tmp_path / "marks.json.unfinished").rmdir()
    assert len(read_marks(write(graded("anna"), graded("béla")) / "marks.json")) == 2


def test_a_half_written_file_of_an_interrupted_run_does_no_harm(write, tmp_path):
    (tmp_path / "overview.html.unfinished").write_text("<ht")
    folder = write(graded("anna"))
    assert not list(folder.rglob("*.unfinished"))
    assert "anna" in overview(folder)
