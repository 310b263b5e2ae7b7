"""The engine: calling a learner's functions, progress, hints, solutions, and how it looks in a notebook."""

import asyncio
import json
import subprocess
import sys
import textwrap
import threading
import time

import nbformat
import numpy as np
import psycopg2
import pytest
from nbclient import NotebookClient
from psycopg2.extras import RealDictCursor, execute_values

from pgv_helpers import hint, query, solution
from pgv_helpers.course import progress
from pgv_helpers.course.judge import judge, scratch_schema
from pgv_helpers.course.learner import NotebookLearner
from pgv_helpers.course.question import Question, find_question, questions_of
from pgv_helpers.course.verdict import CheckFailed, NotSolved, Outcome, Wrong
from pgv_helpers.errors import CourseError


@pytest.fixture
def learn():
    """A function that makes a learner from code."""
    with scratch_schema() as (db, schema):
        learners = []

        def make(code, seconds=2.0):
            namespace = {"np": np, "execute_values": execute_values, "RealDictCursor": RealDictCursor}
            exec(compile(textwrap.dedent(code), "<cell>", "exec"), namespace)
            learners.append(NotebookLearner(namespace, schema, seconds))
            return learners[-1]

        make.db = db
        yield make
        for learner in learners:
            learner.close()


# -- calls ----------------------------------------------------------------------


def test_a_call_returns_what_the_function_returns(learn):
    assert learn("def f(a, b): return a + b").call("f", 1, 2) == 3


def test_settings_are_those_of_the_learners_connection(learn):
    learner = learn("""
        def local(conn):
            conn.cursor().execute("SET LOCAL hnsw.ef_search = 7")
        def lasting(conn):
            with conn: conn.cursor().execute("SET hnsw.ef_search = 8")
        def failing(conn):
            try: conn.cursor().execute("SELECT 1 / 0")
            except Exception: pass
    """)
    assert learner.settings["hnsw.ef_search"] == "40", "pgvector's settings are there before it was used"
    assert not learner.in_transaction
    learner.call("local", learner.conn)
    assert learner.settings["hnsw.ef_search"] == "7" and learner.in_transaction and len(learner.statements) == 1
    learner.conn.rollback()
    assert learner.settings["hnsw.ef_search"] == "40"
    learner.call("lasting", learner.conn)
    assert learner.settings["hnsw.ef_search"] == "8"
    learner.call("failing", learner.conn)
    assert learner.settings["hnsw.ef_search"] == "8"


def test_a_connection_left_in_autocommit_mode_shows_in_the_settings(learn):
    learner = learn("def f(conn): conn.autocommit = True")
    before = learner.settings
    learner.call("f", learner.conn)
    assert {name for name, value in learner.settings.items() if value != before[name]} == {"conn.autocommit"}


def test_a_create_index_remembers_what_was_set_when_it_was_sent(learn):
    learner = learn("""
        def f(conn):
            with conn, conn.cursor() as cur:
                cur.execute("CREATE TABLE t (id integer); SET LOCAL maintenance_work_mem = '77MB'")
                cur.execute("CREATE INDEX first ON t (id)")
            with conn, conn.cursor() as cur:
                cur.execute("CREATE INDEX second ON t (id)")
    """)
    learner.call("f", learner.conn)
    table, first, second = learner.statements
    assert first.session["maintenance_work_mem"] == str(77 * 1024)
    assert "maintenance_work_mem" not in {**table.session, **second.session}


def test_a_stub_that_another_function_calls_is_named(learn):
    learner = learn("""
        def stub():
            raise NotImplementedError()
        def f():
            return stub()
    """)
    with pytest.raises(Wrong, match="`stub` is still to be written, and f calls it"):
        learner.call("f")


def test_a_function_cannot_change_the_checks_own_data(learn):
    data = [np.zeros(2)]
    learn("def f(data): data[0][:] = 9; data.clear()").call("f", data)
    assert data[0].tolist() == [0, 0]


def test_a_stub_is_not_solved(learn):
    with pytest.raises(NotSolved):
        learn("def f(): raise NotImplementedError()").call("f")


@pytest.mark.parametrize(
    "code, words",
    [
        ("", "There is no function f yet. Run the cell that defines it"),
        ("f = 3", "f is no function: the name stands for a int. Define it again."),
        ("def f(): exit()", r"f ends the whole program \(exit or quit\). Return instead."),
        ("def f(a): pass", r"f raised TypeError: f\(\) missing 1 required positional argument"),
        ("def f(): return {}['key']", "f raised KeyError: 'key'\nin f, line 1"),
        ("def f(): return np.zeros(2).reshape(3)", "f raised ValueError: cannot reshape(.|\n)*in f, line 1$"),
    ],
)
def test_what_goes_wrong_in_a_function_is_told_with_its_own_lines_only(learn, code, words):
    with pytest.raises(Wrong, match=words):
        learn(code).call("f")


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "while True:\n        try: x = 1\n        except Exception: pass",
        "import time\n    while True:\n        try:\n            time.sleep(1)\n        except:\n            pass",
        "import time\n    while True:\n        try: time.sleep(0.1)\n        except: continue",
    ],
)
def test_an_endless_loop_ends_with_a_message(learn, body):
    learner = learn(f"def f():\n    {body}\ndef g(): return 1", seconds=0.5)
    began = time.monotonic()
    with pytest.raises(Wrong, match="f did not finish within 0.5 seconds.\nIs there a loop that never ends"):
        learner.call("f")
    assert time.monotonic() - began < 5
    assert learner.call("g") == 1


def test_an_endless_loop_ends_where_the_system_has_no_timer(learn, monkeypatch):
    monkeypatch.delattr("signal.setitimer")
    learner = learn("def f():\n    while True: pass\ndef g(): return 1", seconds=0.5)
    with pytest.raises(Wrong, match="f did not finish within 0.5 seconds"):
        learner.call("f")
    assert learner.call("g") == 1


def test_a_statement_that_never_ends_ends_with_a_message(learn):
    learner = learn("def f(conn): conn.cursor().execute('SELECT pg_sleep(60)')", seconds=0.5)
    with pytest.raises(Wrong, match="f did not finish within 0.5 seconds"):
        learner.call("f", learner.conn)


def test_an_async_function_is_awaited(learn):
    learner = learn(
        "import asyncio\nasync def f(n):\n    await asyncio.sleep(0.01)\n    return n + 1\n"
        "async def stub():\n    raise NotImplementedError()\n"
        "async def fails():\n    return [][1]\nasync def ends():\n    exit()"
    )

    async def in_a_loop():  # as a notebook's cell is
        return learner.call("f", 1)

    assert learner.call("f", 1) == asyncio.run(in_a_loop()) == 2
    with pytest.raises(NotSolved):
        learner.call("stub")
    with pytest.raises(Wrong, match="fails raised IndexError: (.|\n)*in fails, line 8"):
        learner.call("fails")
    with pytest.raises(Wrong, match="ends the whole program"):
        learner.call("ends")


def test_an_async_function_may_leave_no_task_behind(learn):
    learner = learn(
        "import asyncio\nasync def left():\n    asyncio.create_task(asyncio.sleep(60))\n"
        "async def awaited():\n    return await asyncio.create_task(asyncio.sleep(0, 3))"
    )
    with pytest.raises(Wrong, match="tasks that it began go on"):
        learner.call("left")
    assert learner.call("awaited") == 3


@pytest.mark.parametrize("body", ["await asyncio.sleep(60)", "while True: pass"])
def test_an_async_function_that_never_ends_ends_with_a_message(learn, body):
    before = threading.active_count()
    learner = learn(f"import asyncio\nasync def f():\n    {body}\ndef g(): return 1", seconds=0.5)
    with pytest.raises(Wrong, match="did not finish within 0.5 seconds(.|\n)*Its `configure` has to be async, too"):
        learner.call("f")
    assert learner.call("g") == 1
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_exit_in_a_function_leaves_the_kernel_alive(learn):
    learner = learn("def f(): exit()")
    own = learner.namespace["exit"] = object()
    with pytest.raises(Wrong, match="ends the whole program"):
        learner.call("f")
    assert learner.namespace["exit"] is own


def test_an_endless_recursion_is_told_in_few_lines(learn):
    with pytest.raises(Wrong, match="f raised RecursionError") as raised:
        learn("def f(): return f()").call("f")
    assert len(str(raised.value).splitlines()) < 10


def test_an_error_of_which_the_kernel_knows_no_stub_is_an_error(learn):
    with pytest.raises(Wrong, match="f raised UnsupportedOperation|f raised Stdin"):
        learn("import io\ndef f(): raise io.UnsupportedOperation('input')").call("f")
    with pytest.raises(Wrong, match="is still in f. Delete that line"):
        learn("def f():\n    x = len([])\n    raise NotImplementedError()").call("f")


def test_an_expected_error_is_returned(learn):
    learner = learn(
        "def fails(conn):\n with conn, conn.cursor() as cur: cur.execute('SELECT 1/0')\n"
        "def returns(conn): return 1\ndef stub(conn): raise NotImplementedError()"
    )
    assert issubclass(learner.error("fails", learner.conn), psycopg2.errors.DivisionByZero)
    assert learner.error("returns", learner.conn) is None
    with pytest.raises(NotSolved):
        learner.error("stub", learner.conn)


def test_the_statements_of_a_call_are_known_however_they_were_sent(learn):
    learn.db.cursor().execute("CREATE TABLE t (a int)")
    learner = learn("""
        import io
        def f(conn):
            with conn, conn.cursor() as cur:
                cur.execute("SELECT %s", ["it's"])
                cur.executemany("INSERT INTO t VALUES (%s)", [[1], [2]])
                execute_values(cur, "INSERT INTO t VALUES %s", [[3], [4]])
                cur.copy_expert("COPY t FROM STDIN", io.StringIO("5\\n"))
            with conn, conn.cursor(cursor_factory=RealDictCursor) as cur:
                cur.execute("SELECT 2 AS two")
                return cur.fetchone()["two"]
        def g(conn): pass
    """)
    assert learner.call("f", learner.conn) == 2
    assert [sent.text for sent in learner.statements] == [
        "SELECT 'it''s'",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t VALUES (2)",
        "INSERT INTO t VALUES (3),(4)",
        "COPY t FROM STDIN",
        "SELECT 2 AS two",
    ]
    assert {sent.status.split()[0] for sent in learner.statements} == {"SELECT", "INSERT", "COPY"}
    assert query(learn.db, "SELECT sum(a) AS sum FROM t")["sum"][0] == 15
    learner.call("g", learner.conn)
    assert learner.statements == []


# -- verdicts -------------------------------------------------------------------


def a_question(check):
    return Question("test.question", "00_test", 2, "objective", ("hint",), check)


def outcome(learn, code, check):
    return judge(a_question(check), learn(code), learn.db, np.random.default_rng(0))


def test_the_first_thing_that_is_wrong_ends_the_check(learn):
    def check(learner, db, rng):
        yield "one"
        raise Wrong("two is wrong")
        yield "three"

    assert outcome(learn, "", check) == Outcome("test.question", "wrong", 2, ["one"], "two is wrong")


def test_a_table_that_the_learner_locked_or_dropped_is_the_learners_fault(learn):
    def check(learner, db, rng):
        db.cursor().execute("CREATE TABLE IF NOT EXISTS t (a int)")
        learner.call("f", learner.conn)
        db.cursor().execute("SELECT * FROM t")
        yield "looked"

    locks = outcome(learn, "def f(conn): conn.cursor().execute('LOCK TABLE t')", check)
    assert locks.state == "wrong" and "left a transaction open that locks the table" in locks.message
    drops = outcome(learn, "def f(conn):\n with conn: conn.cursor().execute('ROLLBACK; DROP TABLE t')", check)
    assert drops.state == "wrong"


def test_outcomes_in_lines_and_in_a_notebook():
    passed = Outcome("q.<b>", "passed", 1, ["right & proper"])
    assert passed._repr_mimebundle_()["text/plain"] == "✓ q.<b>: 1 point\n  ✓ right & proper"
    assert "q.&lt;b&gt;" in passed._repr_mimebundle_()["text/html"]
    assert "right &amp; proper" in passed._repr_mimebundle_()["text/html"]
    wrong = CheckFailed(Outcome("q.a", "wrong", 1, ["first"], "second\nin f, line 3"))
    lines = wrong._render_traceback_()
    assert len(lines) == 5 and "✓" in lines[1] and "second" in lines[2] and 'hint("q.a")' in lines[4]
    assert isinstance(wrong, AssertionError) and str(wrong) == "second\nin f, line 3"
    assert len(CheckFailed(Outcome("q.a", "unsolved", 1))._render_traceback_()) == 1


def test_names_that_are_not_there_bring_those_that_are_like_them():
    with pytest.raises(CourseError, match="no question 'crud.insert_note'. Did you mean 'crud.insert_notes'"):
        find_question("crud.insert_note")
    with pytest.raises(CourseError, match="no question 'zzz'. The questions are: crud.create_notes, "):
        find_question("zzz")
    with pytest.raises(CourseError, match="no exercise '99_nothing'. There are: 02_crud"):
        questions_of("99_nothing")


# -- progress, hints, solutions ----------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PGV_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def remember(state, question="crud.search_notes"):
    progress.remember(Outcome(question, state, 1))


def test_attempts_are_counted_stubs_are_none_and_passed_stays_passed(home):
    for state in ("unsolved", "wrong", "passed", "wrong"):
        remember(state)
    record = progress.read()["crud.search_notes"]
    assert record["attempts"] == 3 and progress.has_passed("crud.search_notes")


def test_two_processes_at_once_lose_nothing(home):
    code = (
        "from pgv_helpers.course import progress; from pgv_helpers.course.verdict import Outcome\n"
        "for i in range(40): progress.remember(Outcome('q', 'wrong', 1))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert progress.read()["q"]["attempts"] == 120
    assert [file.name for file in home.iterdir() if file.suffix == ".unfinished"] == []


@pytest.mark.parametrize("text", ["{half", "[1, 2]", '{"q": 3}', '{"q": {"attempts": "x"}}', "\udcff"])
def test_a_broken_state_file_is_set_aside_with_a_message(home, text):
    home.mkdir()
    progress.progress_file().write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.warns(UserWarning, match="could not be read. The file was kept as"):
        remember("passed")
    kept = [file for file in home.iterdir() if file.name.startswith("progress.broken-")]
    assert kept[0].read_bytes() == text.encode("utf-8", "surrogateescape")
    assert progress.has_passed("crud.search_notes")


def test_the_state_is_one_readable_file(home):
    remember("passed")
    state = json.loads((home / "progress.json").read_text())
    assert list(state) == ["crud.search_notes"] and set(state["crud.search_notes"]) == {"attempts", "passed"}


def test_hints_come_one_after_the_other_and_stay(home, monkeypatch):
    shown = []
    monkeypatch.setattr("pgv_helpers.course.notebook.display", lambda thing: shown.append(thing.data))
    for _ in range(4):
        hint("crud.search_notes")
    assert [text.count("**Hint") for text in shown] == [1, 2, 3, 3]
    assert shown[2].startswith(shown[1]) and "**Hint 3 of 3.**" in shown[2]


def test_what_cannot_be_saved_changes_nothing_about_the_outcome(home, monkeypatch):
    home.write_text("a file in the place of the folder")
    with pytest.warns(UserWarning, match="could not be saved"):
        remember("passed")


def test_the_solution_is_shown_after_passing_and_not_before(home, monkeypatch):
    shown = []
    monkeypatch.setattr("pgv_helpers.course.notebook.display", lambda thing: shown.append(thing.data))
    with pytest.raises(CourseError, match='Pass the question first; until then there is hint\\("crud.search_notes"\\)'):
        solution("crud.search_notes")
    remember("passed")
    solution("crud.search_notes")
    assert "def search_notes" in shown[0] and "SOLUTION" not in shown[0]


def test_progress_is_a_picture_by_exercise_and_points(home):
    from pgv_helpers import progress as draw

    remember("passed")
    texts = {text.get_text() for text in draw().findobj(lambda artist: hasattr(artist, "get_text"))}
    total = sum(question.points for question in questions_of("02_crud"))
    assert f"3 of {total}" in texts and "02_crud" in texts


# -- in a real kernel ----------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel():
    """Run cells in one kernel, as JupyterLab does: each returns its outputs."""
    notebook = nbformat.v4.new_notebook()
    client = NotebookClient(notebook, allow_errors=True, kernel_name="python3", timeout=60)

    def run(source):
        notebook.cells.append(nbformat.v4.new_code_cell(source))
        return client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1).outputs

    with client.setup_kernel():
        run("import numpy as np\nfrom psycopg2.extras import execute_values\nfrom pgv_helpers import check")
        yield run


def test_a_failure_is_drawn_without_a_traceback_and_counts_as_an_assertion(kernel):
    kernel("def delete_notes(conn, titles):\n    names = sorted(titles)\n    return names[99]")
    [output] = kernel('check("crud.delete_notes")')
    assert output.output_type == "error" and output.ename == "CheckFailed"
    drawn = "\n".join(output.traceback)
    assert "delete_notes raised IndexError" in drawn and "in delete_notes, line 3: return names[99]" in drawn
    assert "pgv_helpers" not in drawn and "Traceback" not in drawn and "site-packages" not in drawn
    [output] = kernel('try: check("crud.delete_notes")\nexcept AssertionError as error: print("seen")')
    assert output.text == "seen\n"


def test_a_stub_gets_one_quiet_line(kernel):
    kernel("def delete_notes(conn, titles):\n    raise NotImplementedError()")
    [output] = kernel('check("crud.delete_notes")')
    assert len(output.traceback) == 1 and "not solved yet" in output.traceback[0]


def test_a_pass_is_displayed_and_is_no_value_of_the_cell(kernel):
    kernel(
        "def create_notes(conn, dimension):\n"
        "  with conn, conn.cursor() as cur:\n"
        "    cur.execute('''CREATE TABLE notes ("
        "id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL UNIQUE, content text NOT NULL, "
        "embedding vector(%s) NOT NULL)''', [dimension])"
    )
    [output] = kernel('check("crud.create_notes")')
    assert output.output_type == "display_data" and "✓ crud.create_notes" in output.data["text/plain"]


def test_an_endless_loop_leaves_the_kernel_alive(kernel):
    kernel("from pgv_helpers.course import learner\nlearner.NotebookLearner.__init__.__defaults__ = (1,)")
    kernel("def delete_notes(conn, titles):\n    while True: pass")
    [output] = kernel('check("crud.delete_notes")')
    assert "did not finish within 1 seconds" in output.evalue
    [output] = kernel("print(1 + 1)")
    assert output.text == "2\n"


def test_an_error_of_the_course_is_its_message(kernel):
    [output] = kernel('check("crud.delete")')
    assert output.traceback == [
        "UnknownQuestion: There is no question 'crud.delete'. Did you mean " + output.evalue.split("Did you mean ")[1]
    ]
