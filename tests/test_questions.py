"""Every question of the course, in both directions."""

import linecache
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from functools import cache
from importlib import import_module
from itertools import takewhile

import nbformat
import pytest

from pgv_helpers.course.build import EXERCISES, SOLUTIONS
from pgv_helpers.course.judge import scratch_schema
from pgv_helpers.course.notebook import outcome_of, solution_code
from pgv_helpers.course.question import all_questions, questions_of
from pgv_helpers.course.questions import filtering
from pgv_helpers.course.verdict import Wrong
from pgv_helpers.db import query
from pgv_helpers.settings import COURSE_DIR

QUESTIONS = all_questions()
IMPORTS = """
import hashlib
import re
import textwrap
import time
import numpy as np
import pandas as pd
import psycopg2
from psycopg2 import sql
from psycopg2.extras import Json, execute_values
from pgv_helpers import (
    bulk_load, chat_model, compare, create_documents_table, create_index, describe_indexes, drop_index, embed,
    embedded_text, embedding_dimension, embedding_model, exact_neighbours, get_embedding, ndcg_at_k, nearest,
    openai_client, query, read_embeddings, score_rankings, search_settings, summarise, sweep,
)
"""
MORE_IMPORTS = {
    "08_drivers": """
import asyncio
from contextlib import contextmanager
import psycopg
from alembic.migration import MigrationContext
from alembic.operations import Operations
from pgvector.psycopg import register_vector, register_vector_async
from pgvector.sqlalchemy import VECTOR
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from sqlalchemy import Column, Index, MetaData, Table, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from pgv_helpers import database_url
""",
    "09_alternatives": """
import chromadb
import faiss
faiss.omp_set_num_threads(1)
""",
}
"""What an exercise needs beyond that, by its name."""


def wrong_answers(question):
    module = import_module(f"tests.wrong_answers.{question.name.split('.')[0]}")
    return module.WRONG_ANSWERS.get(question.name, {})


def other_right_answers(question):
    module = import_module(f"tests.wrong_answers.{question.name.split('.')[0]}")
    return getattr(module, "OTHER_RIGHT_ANSWERS", {}).get(question.name, {})


solved = cache(solution_code)


def namespace(question, code):
    """The global names after the questions before this one were solved, and a cell with this code was run."""
    names = {}
    imports = IMPORTS + MORE_IMPORTS.get(question.exercise, "")
    for earlier in takewhile(lambda other: other != question, questions_of(question.exercise)):
        exec(imports + solved(earlier), names)
    text = imports + code
    file = f"<cell {hash(text)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    exec(compile(text, file, "exec"), names)
    return names


EACH_WRONG = [
    pytest.param(question, *answer, id=f"{question.name}: {label}")
    for question in QUESTIONS.values()
    for label, answer in wrong_answers(question).items()
]

EACH_OTHER_RIGHT = [
    pytest.param(question, code, id=f"{question.name}: {label}")
    for question in QUESTIONS.values()
    for label, code in other_right_answers(question).items()
]


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_question_has_all_that_it_needs(question):
    assert question.points > 0 and question.objective and question.check
    assert 1 <= len(question.hints) <= 3
    answers = wrong_answers(question)
    assert len(answers) >= 3, "at least three typical wrong answers"
    assert len({words for _, words in answers.values()}) >= 3, "each with a message of its own"
    for folder, call in ((SOLUTIONS, "### BEGIN SOLUTION"), (EXERCISES, "raise NotImplementedError()")):
        cells = nbformat.read(folder / f"{question.exercise}.ipynb", as_version=4).cells
        metadata = [cell.metadata.nbgrader for cell in cells if "nbgrader" in cell.metadata]
        assert {"grade_id": f"check-{question.grade_id}", "points": question.points}.items() <= {
            key: value
            for item in metadata
            if item.grade_id == f"check-{question.grade_id}"
            for key, value in item.items()
        }.items()
        assert any(call in cell.source for cell in cells if cell.metadata.get("nbgrader", {}).get("solution"))


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_the_solution_passes_whatever_the_random_inputs_are(question):
    for _ in range(3):
        outcome = outcome_of(question, namespace(question, solved(question)))
        assert outcome.state == "passed", outcome.message


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_missing_function_is_named(question):
    outcome = outcome_of(question, {})
    assert outcome.state == "wrong" and "There is no function" in outcome.message


@pytest.mark.parametrize("question, code, words", EACH_WRONG)
def test_a_wrong_answer_gets_its_own_message(question, code, words):
    outcome = outcome_of(question, namespace(question, code))
    assert outcome.state == "wrong"
    assert re.search(words, outcome.message), outcome.message


@pytest.mark.parametrize("question, code", EACH_OTHER_RIGHT)
def test_another_right_answer_passes(question, code):
    outcome = outcome_of(question, namespace(question, code))
    assert outcome.state == "passed", outcome.message


@pytest.fixture(params=sorted({question.exercise for question in QUESTIONS.values()}))
def exercise(request):
    return request.param


# That a solved notebook passes every check is tested where nbval runs solutions/.


def through_nbval(notebook, tmp_path):
    """Run a notebook through nbval; the sources of the cells that failed."""
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-n", "0", "-q"]
    subprocess.run(
        [*command, "-p", "no:cacheprovider", f"--junitxml={report}", "--noconftest", notebook],
        cwd=COURSE_DIR, capture_output=True, timeout=300,
    )  # fmt: skip
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    cases = xml.parse(report).getroot().findall(".//testcase")
    assert len(cases) == len(cells)
    return [cell.source for cell, case in zip(cells, cases) if case.find("failure") is not None]


def test_the_unsolved_notebook_fails_every_check_and_nothing_else(exercise, tmp_path):
    checks = [f'check("{question.name}")' for question in QUESTIONS.values() if question.exercise == exercise]
    assert through_nbval(EXERCISES / f"{exercise}.ipynb", tmp_path) == checks


@pytest.mark.parametrize("rights, seen", [("NOBYPASSRLS", {1}), ("BYPASSRLS", "may not create another")])
def test_row_security_is_checked_by_a_role_that_may_not_create_others(rights, seen):
    with scratch_schema() as (db, schema):
        query(db, f"CREATE ROLE {schema} {rights}; ALTER SCHEMA {schema} OWNER TO {schema}")
        try:
            query(db, f"SET SESSION AUTHORIZATION {schema}; CREATE TABLE documents AS SELECT 1 AS id, 7 AS tenant")
            query(db, "CREATE POLICY own ON documents USING (tenant = current_setting('course.tenant')::int)")
            query(db, "ALTER TABLE documents ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
            try:
                with filtering._as_reader(db):
                    assert filtering._seen(db, None) == filtering._seen(db, 8) == set()
                    assert filtering._seen(db, 7) == seen
            except Wrong as wrong:
                assert str(seen) in str(wrong)
        finally:
            query(db, f"RESET SESSION AUTHORIZATION; DROP OWNED BY {schema} CASCADE; DROP ROLE {schema}")
