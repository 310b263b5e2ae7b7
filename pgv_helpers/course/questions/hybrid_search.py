"""Exercise 06_hybrid_search: words beside vectors, two rankings made one, typing errors, a weight that was measured."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import psycopg2.errors
from psycopg2.extras import execute_values

from pgv_helpers.course import expect
from pgv_helpers.course.question import question
from pgv_helpers.course.questions.crud import WORDS
from pgv_helpers.db import query
from pgv_helpers.errors import CourseError
from pgv_helpers.evaluation import ndcg_at_k

question = partial(question, exercise="06_hybrid_search")

Row = tuple[int, str | None, str, np.ndarray]
"""A row of documents: id, title, content, embedding."""

DEPTH = 50
"""How many hits of each side are fused."""

LINKS = np.array(list("aeiou"))
SOUNDS = np.array(list("bdfgklmnprstvz"))

WEIGHTED_WORDS = """setweight(to_tsvector('english', coalesce(title, '')), 'A')
                    || setweight(to_tsvector('english', content), 'B')"""

ANY_WORD = """(SELECT string_agg(quote_literal(lexeme), ' | ')::tsquery AS any_word
               FROM unnest(to_tsvector(%(language)s, %(text)s))) AS asked"""

WITHOUT_LENGTH = "ts_rank without its third argument, 1, for the document's length"

HOSTILE_QUESTIONS = {
    "an apostrophe": "O'Hara's {0}",
    "operators": "{0} & | !( <-> {1}:* )) \\ &",
    "a minus and a quotation mark that is never closed": '{0} -{1} or "the',
    "SQL in it": "{0}'); DROP TABLE documents; -- 100 %s %(k)s",
    "an address": "https://example.org/?a=1&b='2' {1}",
    "nothing but stop words": "what is it that you have in the",
    "nothing but signs": "?! ''' & (",
    "nothing at all": "",
}
"""What users type, by what is in it; two words of the table come into the brackets."""


def documents(rng: np.random.Generator, number: int, dimension: int = 4) -> list[Row]:
    """Rows in no order of their ids, one in five without a title; a few words are in most, the others are rare."""
    ids = rng.permutation(3 * number)[:number] + 1
    share = rng.permutation(1 / np.arange(1, len(WORDS) + 1) ** 1.5)

    def text(most: int) -> str:
        return " ".join(rng.choice(WORDS, size=rng.integers(2, most), p=share / share.sum()))

    titles = [None if place % 5 == 0 else text(5) for place in range(number)]
    vectors = rng.normal(size=(number, dimension)).astype(np.float32)
    return [(int(id), title, text(20), vector) for id, title, vector in zip(ids, titles, vectors)]


def make_table(db, rows: list[Row], *, words: bool = True) -> None:
    """The table as the exercise describes it, filled with rows."""
    column = f"words tsvector GENERATED ALWAYS AS ({WEIGHTED_WORDS}) STORED," if words else ""
    query(
        db,
        f"""CREATE TABLE documents (
                id integer PRIMARY KEY,
                title text,
                content text NOT NULL,
                {column}
                embedding vector({len(rows[0][3])}) NOT NULL)""",
    )
    add_rows(db, rows)


def add_rows(db, rows: list[Row]) -> None:
    """Add rows to the table."""
    with db.cursor() as cur:
        execute_values(cur, "INSERT INTO documents (id, title, content, embedding) VALUES %s", rows, page_size=1000)


def by_frequency(db) -> list[str]:
    """Words of the table that are their own stems, those in most documents first."""
    of_contents = "SELECT to_tsvector('simple', content) FROM documents"
    statement = """SELECT word FROM ts_stat(%s)
                   WHERE to_tsvector('english', word) = to_tsvector('simple', word) AND right(word, 1) <> 's'
                   ORDER BY ndoc DESC, word"""
    return query(db, statement, [of_contents]).word.tolist()


@question(
    "hybrid_search.add_words",
    points=2,
    changes=["add_words"],
    objective="give a table a column of words, the title's above the content's, that stays in step and is indexed",
    hints=[
        "A column that is GENERATED ALWAYS AS (…) STORED is computed anew whenever its row changes.",
        "`setweight(to_tsvector('english', …), 'A')` gives words a weight, and `||` joins two of such vectors. "
        "What is `NULL || …`?",
        "`ALTER TABLE documents ADD COLUMN words tsvector GENERATED ALWAYS AS (setweight(to_tsvector('english', "
        "coalesce(title, '')), 'A') || setweight(to_tsvector('english', content), 'B')) STORED`, then "
        "`CREATE INDEX ON documents USING gin (words)`.",
    ],
)
def add_words(learner, db, rng) -> Iterator[str]:
    rows = documents(rng, 1200)
    make_table(db, rows, words=False)
    learner.call("add_words", learner.conn)
    expect.committed(learner)
    expect.columns(db, "documents", {"title": "text", "content": "text", "words": "tsvector"})
    yield "there is a column words, a tsvector, and it was committed"
    expect.count(db, "documents", len(rows), learner)
    _expect_words(db)
    yield "it holds the words of both texts, those of the title above those of the content"
    kind = "SELECT attgenerated FROM pg_attribute WHERE attrelid = 'documents'::regclass AND attname = 'words'"
    if query(db, kind).attgenerated[0] != "s":
        raise expect.Wrong(
            "The column words is filled once and no more: a row that is added or changed later has no words, or "
            "old ones. PostgreSQL keeps a column in step that is GENERATED ALWAYS AS (…) STORED."
        )
    name = expect.index(db, "documents", "gin", "tsvector_ops")
    newest = max(id for id, *_ in rows) + 1
    add_rows(db, [(newest, None, "a walrus", rows[0][3])])
    search = "SELECT id FROM documents WHERE words @@ to_tsquery('english', 'walruses')"
    expect.equal(query(db, search)["id"].tolist(), [newest], "What a search finds of a new row")
    yield "a new row is found at once"
    query(db, "ANALYZE documents")
    expect.uses_index(db, search, name)
    yield "the search uses the index"


@question(
    "hybrid_search.search_words",
    points=2,
    objective="find documents with any of a question's words, whatever somebody types",
    hints=[
        "Never hand to `to_tsquery` what somebody typed. `to_tsvector` takes any text and leaves its words, and "
        "`unnest` makes rows of them: `SELECT lexeme FROM unnest(to_tsvector('english', %s))`.",
        "`string_agg(quote_literal(lexeme), ' | ')::tsquery` is a query that is true where any of them occurs, and "
        "NULL where there is none.",
        "`FROM documents, (SELECT string_agg(…)::tsquery AS any_word FROM unnest(…)) AS asked "
        "WHERE words @@ any_word`, with `ts_rank(words, any_word, 1) AS score` in the SELECT and "
        "`ORDER BY score DESC, id LIMIT %(k)s`.",
    ],
)
def search_words(learner, db, rng) -> Iterator[str]:
    make_table(db, documents(rng, 80))
    known = by_frequency(db)
    frequent, rare = known[2], known[-3]
    text = f"Where are the {frequent}s, and whose {rare} is it?"
    returned = learner.call("search_words", learner.conn, text, 100)
    _expect_by_words(db, returned, text, 100)
    yield "documents with any of the words come, the best first with their scores"
    returned = learner.call("search_words", learner.conn, text, 7)
    _expect_by_words(db, returned, text, 7)
    yield "no more of them than k"
    expect.committed(learner)
    for kind, pattern in HOSTILE_QUESTIONS.items():
        text = pattern.format(frequent, rare)
        try:
            returned = learner.call("search_words", learner.conn, text, 100)
            _expect_by_words(db, returned, text, 100)
        except expect.Wrong as wrong:
            raise expect.Wrong(f"For a question with {kind}, {text!r}:\n{wrong}") from None
        yield f"a question with {kind} does no harm"
    expect.committed(learner)
    yield "no transaction was left open"


@question(
    "hybrid_search.idf",
    points=2,
    objective="weigh a question's words by how rare they are",
    hints=[
        "`ts_stat('SELECT words FROM documents')` has a row for each word of the table: word, ndoc, nentry. It "
        "stands in a FROM as a table does.",
        "The question's words are `SELECT lexeme FROM unnest(to_tsvector('english', %s))`. With a LEFT JOIN those stay "
        "that the table does not know, and `coalesce(ndoc, 0)` counts them.",
        "`SELECT lexeme, ln(1 + (n - d + 0.5) / (d + 0.5)) FROM (SELECT lexeme, coalesce(ndoc, 0) AS d, (SELECT "
        "count(*) FROM documents) AS n FROM unnest(…) LEFT JOIN ts_stat(…) ON word = lexeme) AS counted`, then "
        "`dict(cur.fetchall())`.",
    ],
)
def idf(learner, db, rng) -> Iterator[str]:
    rows = documents(rng, int(rng.integers(50, 70)))
    rows[0] = (rows[0][0], None, "", rows[0][3])  # a document without a word is a document
    make_table(db, rows)
    known = by_frequency(db)
    text = f"Is the {known[1]} a {known[-2]}, or are {known[1]}s {known[6]}s of O'Zebra?"
    before = _tables(db)
    _expect_idf(db, learner.call("idf", learner.conn, text), text)
    yield "each of the question's words has its idf, also one that no document holds"
    if left := _tables(db) - before:
        kind, name = min(left)
        raise expect.Wrong(f"A {kind} {name} is left behind. ts_stat(…) may stand in the FROM of your SELECT.")
    yield "no table is left behind"
    more = documents(rng, 20)
    add_rows(db, [(id + 1000, *others) for id, *others in more])
    returned = learner.call("idf", learner.conn, text)
    try:
        _expect_idf(db, returned, text)
    except expect.Wrong as wrong:
        raise expect.Wrong(f"After documents were added: {wrong} Is it counted anew each time?") from None
    yield "documents that were added count at once"
    for empty in ("", "what is the"):
        expect.equal(learner.call("idf", learner.conn, empty), {}, f"The result for the question {empty!r}")
    yield "a question without words gives an empty dictionary"
    expect.committed(learner)
    yield "no transaction was left open"


@question(
    "hybrid_search.fuse",
    points=3,
    objective="fuse two rankings by their places, in one statement that loses no hit of either",
    hints=[
        "Two CTEs, each with its 50 best and `row_number() OVER (ORDER BY …) AS place`, and a SELECT that joins them.",
        "A document may stand in one list alone, so the join is a FULL OUTER JOIN … USING (id). There the other place "
        "is NULL, and so is every sum with it: `coalesce(…, 0)`.",
        "`SELECT id, coalesce(1.0 / (60 + by_words.place), 0) + coalesce(1.0 / (60 + by_vector.place), 0) AS score "
        "FROM by_words FULL OUTER JOIN by_vector USING (id) ORDER BY score DESC, id LIMIT %(k)s`",
    ],
)
def fuse(learner, db, rng) -> Iterator[str]:
    wanted = rng.normal(size=4).astype(np.float32)
    code = f"e{rng.integers(1000, 9999)}"
    planted = _make_table_with_code(db, rng, wanted, code)
    known = by_frequency(db)
    text = f"{code} {known[-2]}?"
    returned = learner.call("fuse", learner.conn, text, wanted, 100)
    _expect_fused(db, returned, text, wanted, 100, planted)
    yield "a hit of either search survives, one of both stands above, and the scores are right"
    expect.statements(learner, "SELECT")
    yield "one SELECT was sent"
    common = f"the {known[0]} and the {known[1]}"
    for some, k in ((text, int(rng.integers(6, 9))), (common, int(rng.integers(25, 30)))):
        returned = learner.call("fuse", learner.conn, some, wanted, k)
        _expect_fused(db, returned, some, wanted, k, planted)
    yield "the k best come first, those with equal scores by id"
    hostile = f"'{known[0]}' & (%s https://example.org/a!b"
    for some in (hostile, "what is the"):
        returned = learner.call("fuse", learner.conn, some, wanted, 12)
        _expect_fused(db, returned, some, wanted, 12, planted)
    yield "a question of any signs does no harm, and one without words is left to the vectors"
    expect.committed(learner)
    yield "no transaction was left open"


@question(
    "hybrid_search.mend",
    points=3,
    objective="find what is wrong with a hybrid search that adds up scores",
    hints=[
        "Which documents does a LEFT JOIN keep? What is the sum of a number and NULL, and where does DESC put it?",
        "A similarity of 0.9 and a ts_rank of 0.06 cannot be added as they are. Normalise in a CTE of its own for each "
        "side: `min(score) OVER ()` is the smallest of all its rows.",
        "`coalesce((score - min(score) OVER ()) / nullif(max(score) OVER () - min(score) OVER (), 0), 1) AS score`: "
        "nullif makes NULL of a difference of 0. Then FULL OUTER JOIN, and `coalesce(by_vector.score, 0)`, "
        "`coalesce(by_words.score, 0)`.",
    ],
)
def mend(learner, db, rng) -> Iterator[str]:
    wanted = rng.normal(size=4).astype(np.float32)
    code = f"e{rng.integers(1000, 9999)}"
    planted = _make_table_with_code(db, rng, wanted, code)
    known = by_frequency(db)
    weight = float(rng.choice([0.3, 0.4, 0.6, 0.7]))
    text = f"{code} {known[4]} {known[-2]}?"

    def expect_right(text: str, k: int) -> None:
        returned = learner.call("search_weighted", learner.conn, text, wanted, weight, k)
        expect.committed(learner)
        _expect_weighted(db, returned, text, wanted, weight, k, planted)

    expect_right(text, 100)
    yield "a hit of either search survives, and the scores of both are normalised before they are added"
    expect_right(text, int(rng.integers(6, 9)))
    expect_right(f"the {known[0]} and the {known[1]}", int(rng.integers(25, 30)))
    yield "the k best come first"
    expect_right("what is the", 10)
    yield "a question without words is left to the vectors"
    expect_right(code, 100)
    yield "a single document with the word does no harm"
    query(db, "DELETE FROM documents WHERE id NOT IN (SELECT id FROM documents ORDER BY id LIMIT 20)")
    query(db, "UPDATE documents SET embedding = (SELECT embedding FROM documents LIMIT 1)")
    expect_right(f"{known[0]} {known[1]}", 100)
    yield "nor do vectors that are all equally similar"


@question(
    "hybrid_search.search_titles",
    points=2,
    objective="find a word that was typed wrong, by an index on trigrams",
    hints=[
        "Which function compares a word with the part of a text that is most like it, and not with all of it?",
        "The index needs the operator class `gin_trgm_ops`. It serves operators, not functions: `<%` in the WHERE, "
        "written `<%%` where psycopg2 binds values.",
        "`CREATE INDEX ON documents USING gin (title gin_trgm_ops)`, and `SELECT id, word_similarity(%(word)s, title) "
        "AS score FROM documents WHERE %(word)s <%% title ORDER BY score DESC, id LIMIT %(k)s`.",
    ],
)
def search_titles(learner, db, rng) -> Iterator[str]:
    _trigrams_within_reach(learner, db)
    typed = _make_table_of_names(db, rng)
    learner.call("index_titles", learner.conn)
    expect.committed(learner)
    name = expect.index(db, "documents", "gin", "gin_trgm_ops")
    yield "there is a trigram index on the titles, and it was committed"
    query(db, "ANALYZE documents")
    for k in (100, int(rng.integers(5, 8))):
        returned = learner.call("search_titles", learner.conn, typed, k)
        _expect_titles(db, returned, typed, k)
    yield "the titles with the word that was meant come first, with their word similarities"
    sent = expect.statements(learner, "SELECT").text
    query(db, "SET enable_seqscan = off")  # in so small a table no index is worth its while
    expect.uses_index(db, sent, name)
    yield "the search can use the index"
    for hostile in (f"{typed}'; --", "100%", ""):
        _expect_titles(db, learner.call("search_titles", learner.conn, hostile, 10), hostile, 10)
    yield "signs within the word do no harm"
    expect.committed(learner)
    yield "no transaction was left open"


@question(
    "hybrid_search.choose_weight",
    points=3,
    objective="choose a weight on one half of the questions, and judge it on the other",
    hints=[
        "Write a helper first: the nDCG@10 of one question for one weight. Its ranking holds every id that is in "
        "either dictionary.",
        "`questions[0::2]` is every second question, beginning with the first; `questions[1::2]` are the others.",
        "`ids = sorted(by_vector.keys() | by_words.keys())`, then `sorted(ids, key=lambda id: -(weight * "
        "by_vector.get(id, 0) + (1 - weight) * by_words.get(id, 0)))`, which leaves equal ones in their order. "
        "`max(weights, key=…)` finds the weight with the largest mean.",
    ],
)
def choose_weight(learner, db, rng) -> Iterator[str]:
    questions, weights, ndcg = _draw_questions(rng)
    returned = learner.call("choose_weight", questions, weights)
    expect.is_a(returned, tuple, "The result")
    if len(returned) != 2:
        raise expect.Wrong(f"The result should be (weight, nDCG@10); it holds {len(returned)} values.")
    for name, value in zip(("weight", "nDCG@10"), returned):
        expect.is_a(value, (int, float), f"The {name} in the result")
    chosen, judged = returned
    if chosen not in weights:
        raise expect.Wrong(f"The weight in the result is {chosen:g}, which is none of those that were given.")
    yield "the result is one of the weights, and a number"
    row, same = weights.index(chosen), partial(np.isclose, rtol=0, atol=1e-9)

    def leads_to(otherwise: np.ndarray) -> bool:
        """Whether it is what comes of other nDCG@10."""
        tuned = otherwise[:, ::2].mean(axis=1)
        return same(tuned[row], tuned.max()) and same(judged, otherwise[row, 1::2].mean())

    for reason, of in RANKINGS_OF_SOME.items():
        if any(leads_to(_ndcg(questions, weights, of=of, reverse=reverse)) for reverse in (False, True)):
            raise expect.Wrong(reason)
    if leads_to(_ndcg(questions, weights, reverse=True)):
        raise expect.Wrong("Of documents with equal scores the smallest id comes first.")
    if leads_to(ndcg[_mirrored(weights)]):
        raise expect.Wrong(
            "The weight is for the vectors, and 1 - weight for the words; here it is the other way round."
        )
    tuning, judging, half = ndcg[:, ::2], ndcg[:, 1::2], len(questions) // 2
    others = {
        "It is the best on the half that was to be kept for judging: there it looks better than it is.": judging,
        "It is the best on all questions: then none are left to judge it on.": ndcg,
        "It is the best on the first half of the list. The list is sorted by kind, and the first half holds one kind "
        "more than the other: take every second question.": ndcg[:, :half],
    }
    if chosen != weights[_best(tuning)]:
        ranked_right = any(same(judged, part[row].mean()) for part in (judging, tuning, ndcg, ndcg[:, half:]))
        for reason, scores in others.items():
            if ranked_right and chosen == weights[_best(scores)]:
                raise expect.Wrong(f"The weight {chosen:g} is not the best on questions 0, 2, 4, … {reason}")
        raise expect.Wrong(f"The weight {chosen:g} is not the best on questions 0, 2, 4, …: another has a higher mean.")
    yield "it has the highest mean nDCG@10 on questions 0, 2, 4, …"
    for reason, scores in (
        ("of the questions that the weight was chosen on: it flatters.", tuning),
        ("of all questions, also those that the weight was chosen on.", ndcg),
    ):
        if same(judged, scores[row].mean()):
            raise expect.Wrong(f"The number beside the weight is the mean nDCG@10 {reason}")
    expect.close(judged, judging[row].mean(), "The mean nDCG@10 on questions 1, 3, 5, …", tolerance=1e-9)
    yield "its mean nDCG@10 on the others is right"


# -- a column of words, and what it finds ---------------------------------------------


def _expect_words(db) -> None:
    """The column words holds what it should of every row; says what it lacks."""
    found = query(
        db,
        f"""SELECT id, title, tsvector_to_array(words) AS found,
                   tsvector_to_array({WEIGHTED_WORDS}) AS lexemes,
                   tsvector_to_array(to_tsvector('english', content)) AS of_content,
                   tsvector_to_array(to_tsvector('simple', concat_ws(' ', title, content))) AS plain,
                   (SELECT array_agg(DISTINCT lexeme || weight)
                    FROM unnest(words), unnest(weights) AS weight) AS weighed,
                   (SELECT array_agg(DISTINCT lexeme || weight)
                    FROM unnest({WEIGHTED_WORDS}), unnest(weights) AS weight) AS expected
            FROM documents""",
    )
    untitled, titled = found[found.title.isna()], found[found.title.notna()]
    if (untitled.found.isna() | (untitled.found.str.len() == 0)).any():
        raise expect.Wrong(
            f"The row {untitled['id'].iloc[0]}, which has no title, has no words either: whatever is joined with NULL "
            "is NULL."
        )
    if (titled.found == titled.of_content).all():
        raise expect.Wrong("The column words lacks the words of the title.")
    if (found.found == found.plain).all():
        raise expect.Wrong("The column words holds words as they are written; 'english' makes stems of them.")
    for row in found.itertuples():
        if row.found != row.lexemes:
            raise expect.Wrong(f"The column words is wrong, at least for the row {row.id}: it has not the right words.")
    if not found.weighed.map(lambda weighed: any(each.endswith("A") for each in weighed)).any():
        raise expect.Wrong("No word has the weight A: the words of the title weigh no more than others.")
    for row in found.itertuples():
        if row.weighed != row.expected:
            raise expect.Wrong(
                f"The column words has other weights than asked for, at least in the row {row.id}: A is for the words "
                "of the title, B for those of the content."
            )


def _by_words(
    db, text: str, limit: int | None = None, *, score: str = "ts_rank(words, any_word, 1)", language: str = "english",
    asked: str = ANY_WORD,
) -> dict[int, float]:  # fmt: skip
    """The score of each document with any of the words, the best first."""
    statement = f"""SELECT id, {score} AS score FROM documents, {asked}
                    WHERE words @@ any_word ORDER BY score DESC, id LIMIT %(limit)s"""
    found = query(db, statement, {"text": text, "limit": limit, "language": language})
    return dict(found.itertuples(index=False, name=None))


def _by_vector(db, wanted: np.ndarray, limit: int = DEPTH, *, operator: str = "<=>") -> dict[int, float]:
    """1 minus the distance of each of the nearest documents, the nearest first."""
    statement = f"""SELECT id, 1 - (embedding {operator} %(vector)s) AS similarity FROM documents
                    ORDER BY embedding {operator} %(vector)s, id LIMIT %(limit)s"""
    return dict(query(db, statement, {"vector": wanted, "limit": limit}).itertuples(index=False, name=None))


def _expect_by_words(db, returned, text: str, k: int) -> None:
    """The k best documents with any of the words by ts_rank, with their scores."""
    scores = _by_words(db, text)
    others = {
        f"The scores are those of {name}.": _by_words(db, text, score=score)
        for name, score in {
            WITHOUT_LENGTH: "ts_rank(words, any_word)",
            "ts_rank_cd, not of ts_rank": "ts_rank_cd(words, any_word, 1)",
        }.items()
    }
    plain = _by_words(db, text, language="simple")
    others["The question's words were taken as they were typed; 'english' makes stems of them."] = plain
    others["The question was taken apart by other rules than to_tsvector's, which keeps an address whole."] = _by_words(
        db, re.sub(r"\W+", " ", text)
    )
    unquoted = ANY_WORD.replace("quote_literal(lexeme)", "lexeme")
    others["Lexemes are not quoted. An address is one word, with signs in it that mean something in a query."] = (
        _by_words(db, text, asked=unquoted)
    )
    ids = _ids(returned)
    if strange := [id for id in ids if id not in scores]:
        raise expect.Wrong(f"The result holds {strange[0]}, a document with none of the question's words.")
    all_words = "SELECT id FROM documents WHERE words @@ plainto_tsquery('english', %s)"
    with_all = set(query(db, all_words, [text])["id"])
    in_form = isinstance(returned, list) and len(ids) == len(returned)  # those of another form are told so
    if in_form and plain.keys() != set(ids) <= with_all and len(ids) < min(k, len(scores)):
        raise expect.Wrong(
            "Documents are missing that hold one of the question's words and not the others: any word is enough."
        )
    _expect_ranking(returned, scores, k, others=others.items())


def _tables(db) -> set[tuple[str, str]]:
    """The kind and the name of each table, and each view, in the schema that the check works in."""
    statement = """SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'table' END, relname
                   FROM pg_class
                   WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'v', 'm')"""
    return set(query(db, statement).itertuples(index=False, name=None))


def _expect_idf(db, returned, text: str) -> None:
    """The question's words, each with its inverse document frequency."""
    expect.is_a(returned, dict, "The result")
    lexemes = query(db, "SELECT lexeme FROM unnest(to_tsvector('english', %s))", [text]).lexeme.tolist()
    for word in returned:
        expect.is_a(word, str, "Each key of the result")
        if word not in lexemes:
            raise expect.Wrong(
                f"The result holds {word!r}, which to_tsvector('english', …) does not make of the question: a word in "
                "another form, a stop word, or a word of the table that was not asked for."
            )
    total = int(query(db, "SELECT count(*) FROM documents").iloc[0, 0])
    counts = """SELECT count(*), coalesce(sum(cardinality(positions)), 0)::int
                FROM documents, unnest(words) WHERE lexeme = %s"""
    documents_with, occurrences = np.array([query(db, counts, [word]).iloc[0] for word in lexemes], float).T
    if unknown := [word for word, n in zip(lexemes, documents_with) if n == 0 and word not in returned]:
        raise expect.Wrong(
            f"The result lacks {unknown[0]!r}, a word of the question that no document holds: there d is 0."
        )
    if missing := [word for word in lexemes if word not in returned]:
        raise expect.Wrong(f"The result lacks {missing[0]!r}, a word of the question.")
    for value in returned.values():
        if value is None:
            raise expect.Wrong("The result holds None, NULL in the database: where no document has the word, d is 0.")
        expect.is_a(value, (float, Decimal), "Each number in the result")
    if zero := [word for word, n in zip(lexemes, documents_with) if n == 0 and returned[word] == 0]:
        raise expect.Wrong(
            f"The idf of {zero[0]!r}, which no document holds, is 0, as if the word told nothing: "
            "the formula with d = 0 says otherwise."
        )
    found = [returned[word] for word in lexemes]

    def of(d: np.ndarray, n: int = total) -> np.ndarray:
        return 1 + (n - d + 0.5) / (d + 0.5)

    filled = int(query(db, "SELECT count(*) FROM documents WHERE length(words) > 0").iloc[0, 0])
    with np.errstate(invalid="ignore", divide="ignore"):
        others = {
            "the logarithms are to base 10: ln is the natural one": np.log10(of(documents_with)),
            "d counts how often a word occurs (nentry), not how many documents hold it": np.log(of(occurrences)),
            "the 1 + in the formula is missing": np.log(of(documents_with) - 1),
            "n counts no document without words; n is the number of all": np.log(of(documents_with, filled)),
        }
    for reason, numbers in others.items():
        if np.allclose(np.array(found, float), numbers, rtol=1e-6, atol=1e-6):
            raise expect.Wrong(f"The numbers are wrong: {reason}.")
    expect.close(found, np.log(of(documents_with)), "The idf")


# -- fused rankings ---------------------------------------------------------------------


def _ids(returned) -> list:
    """The first of each item, if it is a list of tuples; what it should be instead is said elsewhere."""
    return [item[0] for item in returned if isinstance(item, tuple) and item] if isinstance(returned, list) else []


def _expect_ranking(
    returned, scores: Mapping[int, float], k: int, *,
    others: Iterable[tuple[str, Mapping[int, float]]] = (), ties: Mapping[int, Any] | None = None,
) -> None:  # fmt: skip
    """Tuples of an id and its score, the k best, the best first, ties by id.

    Args:
        scores: the score of each document that could be found.
        others: usual mistakes, each as a sentence that says so and the scores that come of it.
        ties: what tells two equal scores; the scores themselves by default.
    """
    # Before the types, which would say that a row with NULL does not belong there.
    if isinstance(returned, list) and any(isinstance(item, tuple) and None in item[1:2] for item in returned):
        raise expect.Wrong(
            "The result holds a score that is NULL, and DESC puts it first. A document that one search alone has found "
            "has nothing from the other: that is 0, and NULL makes NULL of the sum."
        )
    expect.tuples(returned, {"id": int, "score": (float, Decimal, int)}, "The result")
    ids, found = _ids(returned), np.array([score for _, score in returned], float)
    if len(set(ids)) < len(ids):
        raise expect.Wrong("The result holds a document twice.")
    expected = np.array([scores.get(id, np.nan) for id in ids])
    close = partial(np.allclose, rtol=1e-5, atol=1e-7)
    if ids and not close(found, expected):
        for reason, other in others:
            if close(found, [other.get(id, np.nan) for id in ids]):
                raise expect.Wrong(reason)
    if strange := [id for id in ids if id not in scores]:
        raise expect.Wrong(f"The result holds {strange[0]}, which does not belong there.")
    expect.close(found, expected, "The list of scores", tolerance=1e-5)
    expect.ordered(expected, "The result", descending=True, tolerance=1e-9)
    expect.has_length(returned, min(k, len(scores)), "The result", "rows", asked=k <= len(scores))
    best = sorted(scores.values(), reverse=True)[: len(ids)]
    if not np.allclose(expected, best, rtol=0, atol=1e-9):
        raise expect.Wrong("The result is not the best: a document with a higher score is missing.")
    ties = ties or scores
    place = {id: place for place, id in enumerate(ids)}
    for first, id in enumerate(ids):
        for other in scores:
            if other < id and ties[other] == ties[id] and place.get(other, len(ids)) > first:
                raise expect.Wrong("Of documents with equal scores the one with the smallest id comes first.")


def _make_table_with_code(db, rng: np.random.Generator, wanted: np.ndarray, code: str) -> int:
    """Fill the table so that one document alone holds a code, in its title, and its vector is far away; its id."""
    rows = documents(rng, 200)
    place = int(rng.integers(len(rows)))
    rows[place] = (rows[place][0], f"Error {code}", "seen once", -wanted)
    make_table(db, rows)
    return rows[place][0]


def _expect_both_sides(returned, words: Iterable[int], vectors: Iterable[int], k: int, planted: int) -> None:
    """Documents that one search alone has found are among the result, where k leaves room for all."""
    ids, words, vectors = set(_ids(returned)), set(words), set(vectors)
    if not ids or k < len(words | vectors):
        return
    if planted in words and planted not in ids:
        raise expect.Wrong(
            "A document is missing that holds the error code of the question and whose vector is far away: the words "
            "alone can find it. Is any word enough there, and does the join keep the rows of both sides?"
        )
    if vectors - words and not ids & (vectors - words):
        raise expect.Wrong(
            "Documents are missing that hold none of the words and have a near vector: the vectors alone can find "
            "them. Does the join keep the rows of both sides?"
        )


def _expect_fused(db, returned, text: str, wanted: np.ndarray, k: int, planted: int) -> None:
    """The k best by reciprocal rank fusion."""
    most = max(k, DEPTH)
    words, vectors = list(_by_words(db, text, most).items()), list(_by_vector(db, wanted, most).items())
    euclidean = list(_by_vector(db, wanted, operator="<->").items())
    of_any_length = list(_by_words(db, text, score="ts_rank(words, any_word)").items())

    def fused(
        words: list[tuple[int, float]] = words, vectors: list[tuple[int, float]] = vectors, *,
        first: int = 60, depth: int = DEPTH, places: Callable[[list[float]], Iterable[int]] = _row_numbers,
    ) -> dict[int, float]:  # fmt: skip
        scores: dict[int, float] = {}
        for side in (words[:depth], vectors[:depth]):
            for (id, _), place in zip(side, places([score for _, score in side])):
                scores[id] = scores.get(id, 0) + 1 / (first + place)
        return scores

    of_words, of_vectors = dict(words[:DEPTH]), dict(vectors[:DEPTH])
    _expect_both_sides(returned, of_words, of_vectors, k, planted)
    scores = fused()
    others = {
        "The scores are those of places counted from 0: the best of a list has place 1.": fused(first=59),
        "The scores are all 0: a whole number divided by a greater one is 0 in SQL, so write 1.0.": dict.fromkeys(
            scores, 0.0
        ),
        f"The scores are those of lists of k: each search gives its {DEPTH} best, whatever k is.": fused(depth=k),
        "The scores are sums of similarity and ts_rank; places are to be fused.": {
            id: of_words.get(id, 0) + of_vectors.get(id, 0) for id in scores
        },
        "The nearest vectors are those by Euclidean distance; cosine distance is asked for.": fused(vectors=euclidean),
        f"The words' places are those by {WITHOUT_LENGTH}.": fused(of_any_length),
        "The scores are 1 / place: the 60 is missing.": fused(first=0),
    }
    shared = "Documents with equal scores share a place here; give each its own, the smaller id first."
    sharing = [(shared, fused(places=places)) for places in (_ranks, _dense_ranks)]
    places = [{id: place for place, id in enumerate(side, 1)} for side in (of_words, of_vectors)]
    ties = {id: sorted(side.get(id, 0) for side in places) for id in scores}
    _expect_ranking(returned, scores, k, others=[*others.items(), *sharing], ties=ties)


def _row_numbers(scores: list[float]) -> Iterable[int]:
    return range(1, len(scores) + 1)


def _ranks(scores: list[float]) -> Iterable[int]:
    return [scores.index(score) + 1 for score in scores]


def _dense_ranks(scores: list[float]) -> Iterable[int]:
    distinct = sorted(set(scores), reverse=True)
    return [distinct.index(score) + 1 for score in scores]


def _expect_weighted(db, returned, text: str, wanted: np.ndarray, weight: float, k: int, planted: int) -> None:
    """The k best by the weighted sum of the normalised scores."""
    words, vectors = _by_words(db, text, DEPTH), _by_vector(db, wanted)
    _expect_both_sides(returned, words, vectors, k, planted)
    every = words | vectors

    def normalised(side: Mapping[int, float], *, low: float | None = None, equal: float = 1.0) -> dict[int, float]:
        if not side:
            return {}
        low, high = min(side.values()) if low is None else low, max(side.values())
        return {id: (score - low) / (high - low) if high > low else equal for id, score in side.items()}

    def weighted(
        words: Mapping[int, float], vectors: Mapping[int, float], weight: float = weight, *,
        missing: tuple[int, int] = (0, 0),
    ) -> dict[int, float]:  # fmt: skip
        return {id: weight * vectors.get(id, missing[1]) + (1 - weight) * words.get(id, missing[0]) for id in every}

    right = normalised(words), normalised(vectors)
    equal = normalised(words, equal=0.0), normalised(vectors, equal=0.0)
    others = {
        "The scores are sums of ts_rank and similarity as they are, on scales of their own: normalise each side.": (
            weighted(words, vectors)
        ),
        "The smallest of a side is taken to be 0; the smallest score of its own hits is to be subtracted.": (
            weighted(normalised(words, low=0.0), normalised(vectors, low=0.0))
        ),
        "The weight is for the vectors, and 1 - weight for the words; here it is the other way round.": (
            weighted(*right, 1 - weight)
        ),
        "The scores count 0 where all of a side are equal, or there is one: it has found them, so they count 1.": (
            weighted(*equal)
        ),
        "The similarities are normalised, and ts_rank is not.": weighted(words, right[1]),
        "ts_rank is normalised, and the similarities are not.": weighted(right[0], vectors),
    }
    counted = "A document that one side has not found counts 1 there; it counts 0."
    counting = [(counted, weighted(*right, missing=missing)) for missing in ((1, 1), (1, 0), (0, 1))]
    ties = {id: tuple(side.get(id, 0) for side in right) for id in every}
    _expect_ranking(returned, weighted(*right), k, others=[*others.items(), *counting], ties=ties)


# -- typing errors ----------------------------------------------------------------------


def _trigrams_within_reach(learner, db) -> None:
    """pg_trgm is there, and both connections find it, in whatever schema it was created."""
    try:
        # Two CREATE EXTENSION IF NOT EXISTS at once collide; the second waits here instead.
        query(
            db,
            """SELECT pg_advisory_xact_lock(hashtext('CREATE EXTENSION pg_trgm'));
               CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public""",
        )
    except psycopg2.errors.InsufficientPrivilege:
        raise CourseError(
            "This role may not create the extension pg_trgm, and the database does not have it yet.\n"
            "Ask the owner of the server to run, once, in this database: CREATE EXTENSION pg_trgm;"
        ) from None
    path = """SELECT current_setting('search_path') || ', ' || extnamespace::regnamespace
              FROM pg_extension WHERE extname = 'pg_trgm'"""
    within = query(db, path).iloc[0, 0]
    query(db, "SELECT set_config('search_path', %s, false)", [within])
    learner.set("search_path", within)


def _name(rng: np.random.Generator, syllables: int) -> str:
    return "".join(sound for pair in zip(rng.choice(SOUNDS, syllables), rng.choice(LINKS, syllables)) for sound in pair)


def _make_table_of_names(db, rng: np.random.Generator) -> str:
    """Titles with names in them, among them some like one that was typed wrong; what was typed."""
    meant = _name(rng, 6)
    typed = meant[:5] + meant[6:]
    # Its whole, with a letter more, as a part, and, too little like it, with something before it and cut off.
    near = [typed, meant, f"{typed}roda", f"so{meant}", meant[:9]]
    names = [near[place % 5] if place < 30 else _name(rng, 5) for place in range(900)]
    others = rng.permuted(np.tile(WORDS, (len(names), 1)), axis=1)[:, :8]
    titles = [f"{' '.join(some[:2])} of {name.title()}, {' '.join(some[2:])}" for name, some in zip(names, others)]
    ids = rng.permutation(3 * len(names)).tolist()
    rows = [(id, title, "", np.ones(2, np.float32)) for id, title in zip(ids, titles)]
    make_table(db, rows)
    return typed


def _expect_titles(db, returned, word: str, k: int) -> None:
    """The k titles with the part that is most like the word, with their word similarities."""

    def like(function: str, at_least: str) -> dict[int, float]:
        statement = f"SELECT id, {function} FROM documents WHERE {at_least}"
        return dict(query(db, statement, {"word": word}).itertuples(index=False, name=None))

    scores = like("word_similarity(%(word)s, title)", "%(word)s <%% title")
    if scores and returned == []:
        raise expect.Wrong(
            f"The result for {word!r} is empty. Is the word compared with the whole title? A part of the title that is "
            "like the word is enough."
        )
    unlike = like("word_similarity(%(word)s, title)", "NOT %(word)s <%% title")
    if below := [item[0] for item in returned or [] if isinstance(item, tuple) and unlike.get(item[0]) in item[1:]]:
        raise expect.Wrong(
            f"The result holds {below[0]}, whose word similarity is below the threshold: only titles that `<%` finds "
            "belong there."
        )
    whole = (
        "The scores compare the word with the title as a whole, as similarity does, or word_similarity with the title"
    )
    others = [
        ("The scores are distances, 1 minus the similarity.", like("1 - word_similarity(%(word)s, title)", "true")),
        (f"{whole} first.", like("similarity(%(word)s, title)", "true")),
        (f"{whole} first.", like("word_similarity(title, %(word)s)", "true")),
        (
            "The scores are those of strict_word_similarity; word_similarity is asked for.",
            like("strict_word_similarity(%(word)s, title)", "true"),
        ),
    ]
    _expect_ranking(returned, scores, k, others=others)


# -- a weight -----------------------------------------------------------------------------

Asked = tuple[dict[int, float], dict[int, float], dict[int, int]]
"""A question of choose_weight: the scores by vector, the scores by words, the grades."""

FOUND_BY_ONE: Asked = ({12: 1.0, 21: 0.35, 40: 0.0}, {21: 1.0, 30: 0.85, 40: 0.0}, {30: 2, 12: 1})
"""The words alone have found the best document, the vectors alone another."""

EQUAL_SCORES: Asked = ({64: 1.0, 63: 1.0, 5: 0.0}, {64: 1.0, 63: 1.0, 5: 0.0}, {63: 2, 64: 1})
"""Two documents with equal scores; the one with the larger id comes first in the dictionaries, and in a set."""

RANKINGS_OF_SOME: dict[str, Callable[[set[int], set[int]], set[int]]] = {
    "Documents that the words alone have found are missing from the ranking.": lambda vectors, words: vectors,
    "Documents that the vectors alone have found are missing from the ranking.": lambda vectors, words: words,
    "Documents that one search alone has found are missing from the ranking: they count 0 in the other.": (
        set.intersection
    ),
}
"""What is missing from a ranking, and which documents it ranks, of those of vectors and those of words."""


def _draw_questions(rng: np.random.Generator) -> tuple[list[Asked], list[float], np.ndarray]:
    """Questions sorted by kind, weights, and the nDCG@10 by weight and question.

    Drawn anew until each of the usual ways to split the questions leads to a weight of its own. Two questions on
    places to judge on are always the same: no ranking of the wrong documents or in the wrong order is worth as much.
    """
    weights = [round(weight / 10, 1) for weight in rng.permutation(11).tolist()]
    # Vectors know what conceptual questions mean, words find exact terms; of mixed ones either is right in turn.
    conceptual, exact = (1.0, 0.2), (0.2, 1.0)
    trusts = [conceptual] * 7 + [exact, conceptual] * 5 + [exact] * 7
    while True:
        questions = [_draw_question(rng, *trust) for trust in trusts]
        questions[len(questions) // 2 - 1], questions[-1] = EQUAL_SCORES, FOUND_BY_ONE
        ndcg = _ndcg(questions, weights)
        tuning, judging, first = ndcg[:, ::2], ndcg[:, 1::2], ndcg[:, : len(questions) // 2]
        if _different([tuning, judging, ndcg, first, tuning[_mirrored(weights)]]):
            return questions, weights, ndcg


def _mirrored(weights: list[float]) -> list[int]:
    """The place of 1 - weight for each weight."""
    return [weights.index(round(1 - weight, 1)) for weight in weights]


def _best(ndcg: np.ndarray) -> int:
    """The place of the weight with the highest mean."""
    return int(ndcg.mean(axis=1).argmax())


def _different(parts: Sequence[np.ndarray]) -> bool:
    """Whether each of these measurements has a best weight of its own, better than the next by more than rounding."""
    clear = all(np.diff(np.sort(part.mean(axis=1))[-2:])[0] > 1e-4 for part in parts)
    return clear and len(set(map(_best, parts))) == len(parts)


def _draw_question(rng: np.random.Generator, vectors: float, words: float) -> Asked:
    """What either search says of the documents that it found, the more by the grades the more it is to be trusted."""
    ids = rng.permutation(100)[:24] + 1
    grades = rng.permutation([3, 2, 2, 1, 1] + [0] * 19)

    def scores(trust: float) -> dict[int, float]:
        noisy = trust * grades / 3 + rng.uniform(size=len(ids))
        found = rng.permutation(len(ids))[:18]
        low, high = noisy[found].min(), noisy[found].max()
        return {int(ids[place]): float((noisy[place] - low) / (high - low)) for place in found}

    return scores(vectors), scores(words), {int(id): int(grade) for id, grade in zip(ids, grades) if grade}


def _ndcg(
    questions: Sequence[Asked], weights: Sequence[float], *,
    of: Callable[[set[int], set[int]], set[int]] = set.union, reverse: bool = False,
) -> np.ndarray:  # fmt: skip
    """The nDCG@10 by weight and question.

    Args:
        of: which documents are ranked, of those that the vectors and those that the words have found.
        reverse: of those with equal scores the largest id comes first.
    """

    def of_one(question: Asked, weight: float) -> float:
        vectors, words, grades = question
        ids = sorted(of(set(vectors), set(words)), reverse=reverse)
        ids.sort(key=lambda id: -(weight * vectors.get(id, 0) + (1 - weight) * words.get(id, 0)))
        return ndcg_at_k(ids, grades, 10)

    return np.array([[of_one(question, weight) for question in questions] for weight in weights])
