"""How good a search is, and how fast: measures over judged questions, latency, and how sure both are.

A ranking is a list of ids, the best first. Measures of quality are those of the
TREC evaluations (trec_eval); they count a document as relevant from grade 1 on.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import cycle, islice, product
from typing import Any

import numpy as np
import pandas
import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from tqdm import tqdm

from pgv_helpers.bulk import bulk_load, read_embeddings
from pgv_helpers.datasets import DatasetName, embedded_text, load_documents, load_questions
from pgv_helpers.db import connect, query
from pgv_helpers.distances import Metric, MetricName, exact_neighbours, find_metric
from pgv_helpers.documents import create_documents_table
from pgv_helpers.errors import CourseError, IndexProblem
from pgv_helpers.indexes import SETTINGS, explain, search_settings, undone
from pgv_helpers.models import embed
from pgv_helpers.search import add_full_text, full_text_search, hybrid_search, nearest
from pgv_helpers.tables import table_columns

METHODS = {
    "full text": full_text_search,
    "vectors": nearest,
    "rank fusion": partial(hybrid_search, method="rrf"),
    "hybrid": hybrid_search,
}
CONFIDENCE = 0.95
RESAMPLES = 10_000
TUNABLE = (*SETTINGS, "iterative_scan")

TIE = 1e-5
"""Distances that differ by less, in proportion, are taken for equal: pgvector adds up in single precision."""

_WITHOUT_VECTOR = sql.SQL("SELECT id FROM {} WHERE {} IS NULL")


def recall_at_k(ranking: Sequence, relevant: Collection, k: int = 10) -> float:
    """Share of the relevant documents that are among the first k.

    Against exact search, `relevant` is its first k: recall@k is then the share of the
    true nearest neighbours that an index found.

    Returns:
        0 to 1; NaN if nothing is relevant.
    """
    return len(set(ranking[:k]) & set(relevant)) / len(relevant) if len(relevant) else np.nan


def precision_at_k(ranking: Sequence, relevant: Collection, k: int = 10) -> float:
    """Share of relevant documents among the first k; a ranking shorter than k counts as if filled up with misses."""
    return len(set(ranking[:k]) & set(relevant)) / k


def reciprocal_rank(ranking: Sequence, relevant: Collection) -> float:
    """1 / the place of the first relevant document, 0 if there is none. Its mean over questions is the MRR."""
    relevant = set(relevant)  # `in` would look into a Series' index
    return next((1 / place for place, found in enumerate(ranking, start=1) if found in relevant), 0.0)


def ndcg_at_k(ranking: Sequence, grades: Mapping[Any, int], k: int = 10) -> float:
    """Normalised discounted cumulative gain (Järvelin and Kekäläinen, TOIS 2002), with grades as gains.

    The gain of the document on place i counts 1 / log2(i + 1); the sum is divided by
    that of the best possible ranking.

    Args:
        grades: document -> grade; documents without one count 0.

    Returns:
        0 to 1; NaN if nothing is relevant.
    """
    best = _dcg(sorted(grades.values(), reverse=True)[:k])
    left = dict(grades)  # a document that is found twice counts once
    return _dcg([left.pop(found, 0) for found in ranking[:k]]) / best if best else np.nan


def _dcg(gains: Sequence[int]) -> float:
    return sum(gain / np.log2(place + 1) for place, gain in enumerate(gains, start=1))


def score_rankings(rankings: Mapping[Any, Sequence], questions: pandas.DataFrame, k: int = 10) -> pandas.DataFrame:
    """Every measure for every question that has an answer.

    Args:
        rankings: question id -> ranking; a question without one counts as having found nothing.
        questions: as from `load_questions`: columns id, kind, grades.

    Raises:
        CourseError: k is less than 1, or no ranking is of one of the questions.

    Returns:
        A row for each question: question, kind, nDCG@k, recall@k, precision@k, RR.
    """
    if k < 1:
        raise CourseError(f"k must be 1 or more; it is {k}.")
    rows = []
    for question in questions.itertuples():
        relevant = {document for document, grade in question.grades.items() if grade > 0}
        if not relevant:
            continue
        ranking = rankings.get(question.id, [])
        ranking = list(ranking["id"] if isinstance(ranking, pandas.DataFrame) else ranking)
        rows.append({
            "question": question.id,
            "kind": question.kind,
            f"nDCG@{k}": ndcg_at_k(ranking, question.grades, k),
            f"recall@{k}": recall_at_k(ranking, relevant, k),
            f"precision@{k}": precision_at_k(ranking, relevant, k),
            "RR": reciprocal_rank(ranking, relevant),
        })  # fmt: skip
    if rankings and not set(rankings) & set(questions["id"]):
        raise CourseError(f"The rankings belong to other questions: {list(rankings)[0]!r} is the id of none.")
    return pandas.DataFrame(rows)


def bootstrap_interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """Where the mean of such values lies with 95 % confidence, by the percentile bootstrap.

    The questions are drawn anew, with repetition, ten thousand times; the interval
    holds the middle 95 % of the means (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993). The same values and seed give the same interval.

    Args:
        values: one for each question. For a difference between two methods over the same
            questions give the differences: see `compare`.
    """
    values, rng = np.asarray(values, float), np.random.default_rng(seed)
    number = len(values)
    at_once = max(1, 2**20 // max(1, number))  # all draws of many values would not fit into the memory
    sizes = [min(at_once, RESAMPLES - begun) for begun in range(0, RESAMPLES, at_once)]
    means = np.concatenate([values[rng.integers(number, size=(size, number))].mean(axis=1) for size in sizes])
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def summarise(scores: pandas.DataFrame, measure: str = "nDCG@10", by: Sequence[str] = ("method",)) -> pandas.DataFrame:
    """The mean of a measure over the questions of each group, with its 95 % interval.

    Args:
        scores: rows as from `score_rankings`, with the columns of `by`.

    Returns:
        A row for each group in the order of their first appearance: the columns of `by`,
        then mean, low, high, questions.
    """
    by = [by] if isinstance(by, str) else list(by)
    _require(scores, measure, *by)
    rows = []
    for group, values in scores.groupby(by, sort=False)[measure]:
        low, high = bootstrap_interval(values)
        rows.append({**dict(zip(by, group)), "mean": values.mean(), "low": low, "high": high, "questions": len(values)})
    return pandas.DataFrame(rows)


def _require(scores: pandas.DataFrame, *names: str) -> None:
    for name in names:
        if name not in scores:
            raise CourseError(f"The scores have no column {name!r}, only: {', '.join(scores)}.")


def compare(scores: pandas.DataFrame, method: str, other: str, measure: str = "nDCG@10") -> pandas.Series:
    """How much better one method is than another over the same questions, with a 95 % interval.

    The differences of the questions are resampled (a paired bootstrap), which tells
    more than two intervals side by side: hard questions are hard for both. When the
    interval does not hold 0, the questions suffice to say which method is better.

    Args:
        scores: rows as from `score_rankings`, with a column method.

    Returns:
        difference (of the means, method minus other), low, high, questions.

    Raises:
        CourseError: a method that the scores do not have, or other questions for one than for the other.
    """
    _require(scores, measure)
    question = [name for name in ("dataset", "question") if name in scores]
    table = scores.pivot(index=question, columns="method", values=measure)
    for name in (method, other):
        if name not in table:
            raise CourseError(f"There are no scores of the method {name!r}, only of: {', '.join(table)}.")
    if table[[method, other]].isna().any(axis=None):
        raise CourseError(f"{method!r} and {other!r} were not scored on the same questions: run both on all of them.")
    differences = table[method] - table[other]
    low, high = bootstrap_interval(differences)
    return pandas.Series({"difference": differences.mean(), "low": low, "high": high, "questions": len(differences)})


def measure_latency(
    searches: Mapping[str, Callable[[Any], object]], inputs: Sequence, *, warmup: int = 10, progress: bool | None = None
) -> pandas.DataFrame:
    """Time of one call for each search, as seen by the caller.

    Every input is given to every search in turn, so that a busy moment of the machine
    hits all of them alike. The first calls fill caches and are not counted.

    Args:
        searches: name -> function of one input.
        inputs: what to call them with, one after the other.
        warmup: calls of each search before the clock runs.
        progress: show a bar; by default when there are 500 calls or more.

    Returns:
        A row for each search: method, median (ms), p95 (ms), calls.

    Raises:
        CourseError: no inputs.
    """
    inputs = list(inputs)
    if not inputs:
        raise CourseError("There is nothing to measure: inputs is empty.")
    for search in searches.values():
        for given in islice(cycle(inputs), warmup):
            search(given)
    times = {name: [] for name in searches}
    show = len(inputs) * len(searches) >= 500 if progress is None else progress
    for given in tqdm(inputs, desc="measuring", unit=" inputs", leave=False, disable=not show):
        for name, search in searches.items():
            begin = time.perf_counter()
            search(given)
            times[name].append(1000 * (time.perf_counter() - begin))
    return pandas.DataFrame(
        {"method": name, "median (ms)": np.median(taken), "p95 (ms)": np.quantile(taken, 0.95), "calls": len(taken)}
        for name, taken in times.items()
    )


def evaluate_search(dataset: DatasetName, k: int = 10, *, progress: bool = True) -> pandas.DataFrame:
    """Ask a data set's judged questions by words, by vectors and by both in two ways, and score the answers.

    The methods are `full_text_search` ("full text"), `nearest` ("vectors") and `hybrid_search`,
    with reciprocal rank fusion ("rank fusion") and as it is ("hybrid").

    The documents go into a temporary table, and nothing stays in the database.

    Args:
        dataset: `"passages"` or `"python_docs"`.
        progress: a bar for each method that takes longer than three seconds.

    Returns:
        Rows as from `score_rankings`, with the columns dataset and method behind.

    Raises:
        CourseError: there is no such data set, or k is less than 1.
    """
    if k < 1:
        raise CourseError(f"k must be 1 or more; it is {k}.")
    documents, questions = load_documents(dataset), load_questions(dataset)
    questions = questions[questions.kind != "unanswerable"]
    with closing(connect("pg_temp")) as conn:
        query(conn, "SET temp_buffers = '128MB'")  # with less, each search would read the table from disk
        create_documents_table(conn, "documents")
        embeddings = embed(embedded_text(documents))
        bulk_load(conn, "documents", {**documents[["id", "title", "content"]], "embedding": embeddings})
        add_full_text(conn, "documents")
        embed(questions.question)  # all at once; the searches then find them in the cache
        scores = []
        for method, search in METHODS.items():
            bar = tqdm(
                questions.itertuples(), f"{dataset}: {method}", len(questions),
                leave=False, delay=3, disable=not progress,
            )  # fmt: skip
            rankings = {question.id: search(conn, question.question, k).id.tolist() for question in bar}
            scores.append(score_rankings(rankings, questions, k).assign(dataset=dataset, method=method))
    return pandas.concat(scores, ignore_index=True)


def sweep(
    conn: Connection,
    table: str,
    queries: np.ndarray,
    settings: Mapping[str, Sequence[int]] | None = None,
    *,
    k: int = 10,
    metric: MetricName = "cosine",
    column: str = "embedding",
    statement: str | sql.Composable | None = None,
    where: str | sql.Composable | None = None,
    progress: bool = True,
    show_sql: bool = False,
) -> pandas.DataFrame:
    """Recall against exact search, and latency, as settings of the search vary.

    The exact neighbours are computed in this process, once for all settings, from the vectors of the
    table or of the rows that a filter leaves.
    A neighbour counts as found when a row at its distance is found, as in ann-benchmarks
    (Aumüller, Bernhardsson and Faithfull, Information Systems 2020), so that ties harm
    no one. The same index and settings give the same recall.

    Args:
        queries: shape (m, dim).
        settings: name -> values; each combination is a row of the result. A name is one
            of `search_settings` (`{"ef_search": [10, 40, 100]}`), or of a parameter in
            `statement`. Without any, the search runs once as it is.
        metric: what exact search ranks by.
        statement: a search of your own with the parameters `%(vector)s` and `%(k)s`, whose first
            column is the id; by default `SELECT id … ORDER BY column <operator> %(vector)s LIMIT %(k)s`.
        where: a filter, `"category = 'error'"`, say. It may have parameters of its own; a percent sign
            is written `%%`, as in any statement with parameters. What your own statement filters by
            belongs here too, or its rows are compared with the neighbours among all. A row that the
            filter throws out is never a neighbour.
        progress: a bar, when it takes longer than three seconds.
        show_sql: print the search, with its parameters' names.

    Returns:
        A row for each combination: its settings, `recall@k`, `median (ms)` and `p95 (ms)` of one
        search as the caller sees it, `rows` (returned, on average), `index` (that the plan reads, or "none").

    Raises:
        CourseError: queries that are none, of another dimension or without neighbours (NaN; all 0 for
            cosine), k below 1, an empty table, an id of no row, or a name in `settings` that is neither
            a setting nor a parameter.
        IndexProblem: a setting out of range, a parameter without values, or a statement that PostgreSQL cannot run.
        DocumentError: there is no such table or column.
    """
    if k < 1:
        raise CourseError(f"k must be 1 or more; it is {k}.")
    with undone(conn):  # a search that only reads has no need to leave a transaction open
        ids, vectors = read_embeddings(conn, table, column=column)
        if not len(ids):
            raise CourseError(f"{table!r} has no vectors in {column!r}, so there is nothing to find. Load it first.")
        of, type = find_metric(metric), table_columns(conn, table)[column].type
        queries = _checked_queries(queries, vectors.shape[1], type, of)
        if statement is None:
            # A percent sign in a name would be taken for a parameter.
            names = (sql.Identifier(name.replace("%", "%%")) for name in (table, column))
            statement = sql.SQL("SELECT id FROM {}{} ORDER BY {} {} %(vector)s LIMIT %(k)s").format(
                next(names), sql.SQL(f" WHERE {_text(where, conn)}" if where else ""), *names, sql.SQL(of.operator)
            )
        text, filter = _text(statement, conn), _text(where or "true", conn)
        combinations = _combinations(settings or {}, text + filter)
        if show_sql:
            print(text)

        exact = {}  # by what the filter leaves: whether it leaves a row, and the distances of the neighbours
        left = sql.SQL("SELECT id FROM {} WHERE {}").format(sql.Identifier(table.replace("%", "%%")), sql.SQL(filter))
        row_of = dict(zip(ids.tolist(), range(len(ids))))
        without = set(query(conn, _WITHOUT_VECTOR.format(sql.Identifier(table), sql.Identifier(column))).id)

        def share_found(vector: np.ndarray, found: Sequence, nearest: np.ndarray, kept: np.ndarray) -> float:
            try:
                rows = [row for row in (row_of[id] for id in set(found[:k]) - without) if kept[row]]
            except (KeyError, TypeError):  # no such id, or what cannot be one
                strange = next(id for id in found if not isinstance(id, int) or id not in row_of and id not in without)
                raise CourseError(
                    f"The search returned {strange!r:.60}, which is the id of no row of {table!r}. "
                    "The first column of your statement must be the id."
                ) from None
            nearest = nearest[np.isfinite(nearest)]  # a zero vector has no cosine distance, and is no neighbour
            if not len(nearest):
                return np.nan
            # The distance to its opposite tells how large a query's distances are, and so the errors of rounding.
            tie = TIE * max(np.abs(nearest).max(), np.abs(of.distances([vector], [-vector])).item())
            within = of.distances([vector], vectors[rows]) <= nearest.max() + tie
            return min(within.sum(), len(nearest)) / len(nearest)

        rows = []
        for chosen in tqdm(combinations, f"sweeping {table}", leave=False, delay=3, disable=not progress):
            tuned = {name: value for name, value in chosen.items() if name in TUNABLE}
            own = tuple(value for name, value in chosen.items() if f"%({name})s" in filter)
            if own not in exact:
                try:
                    kept = np.isin(ids, query(conn, left, chosen).id)
                except (KeyError, TypeError, ValueError):
                    raise IndexProblem(
                        "The parameters do not fit the filter. Each %(name)s takes the values of that name in "
                        "settings, and a percent sign that stands for itself is written %%."
                    ) from None
                except psycopg2.Error as error:
                    raise IndexProblem(f"PostgreSQL cannot run this: {str(error).strip()}") from None
                exact[own] = kept, exact_neighbours(vectors[kept], queries, k, metric)[1]
            with search_settings(conn, **tuned), conn.cursor() as cur:

                def search(vector: np.ndarray) -> list:
                    cur.execute(text, {**chosen, "vector": vector, "k": int(k)})
                    return [row[0] for row in cur.fetchall()]

                plan = explain(conn, text, {**chosen, "vector": queries[0], "k": int(k)}, analyze=False)
                try:
                    found = [search(vector) for vector in queries]
                    latency = measure_latency({"": search}, queries, warmup=0, progress=False).iloc[0]
                except psycopg2.Error as error:
                    raise IndexProblem(f"PostgreSQL cannot run this: {str(error).strip()}") from None
            kept, neighbours = exact[own]
            rows.append({
                **chosen,
                f"recall@{k}": np.mean([share_found(*each, kept) for each in zip(queries, found, neighbours)]),
                "median (ms)": latency["median (ms)"],
                "p95 (ms)": latency["p95 (ms)"],
                "rows": np.mean([len(some) for some in found]),
                "index": plan.index or "none",
            })  # fmt: skip
    return pandas.DataFrame(rows)


def _text(statement: str | sql.Composable, conn: Connection) -> str:
    return statement if isinstance(statement, str) else statement.as_string(conn)


def _checked_queries(queries: np.ndarray, dimension: int, type: str, metric: Metric) -> np.ndarray:
    """The queries as PostgreSQL compares them, in the column's precision."""
    try:
        queries = np.asarray(queries, np.float32)
    except (TypeError, ValueError):
        raise CourseError(
            "queries takes an array of vectors, a row for each. For texts that is: embed(texts)."
        ) from None
    if queries.ndim != 2 or not len(queries) or queries.shape[1] != dimension:
        raise CourseError(f"queries has the shape {queries.shape}; it takes one of (1 or more, {dimension}).")
    if type == "halfvec":
        with np.errstate(over="ignore"):  # it becomes infinite, and is refused
            queries = queries.astype(np.float16).astype(np.float32)
    fit = np.isfinite(queries).all(axis=1) & (queries.any(axis=1) | (metric.name != "cosine"))
    if not fit.all():
        row = int(fit.argmin())
        raise CourseError(f"queries[{row}] holds NaN or infinity, or is all 0, so that nothing is near it.")
    return queries


def _combinations(settings: Mapping[str, Sequence], statement: str) -> list[dict[str, Any]]:
    """Every combination of the settings' values."""
    for name, values in settings.items():
        if name not in TUNABLE and (name in ("vector", "k") or f"%({name})s" not in statement):
            known = ", ".join([*TUNABLE, "or a parameter of your statement"])
            raise CourseError(f"There is no setting {name!r} to sweep. There are: {known}.")
        if isinstance(values, str) or not np.ndim(values) or not len(values):
            raise CourseError(f"The setting {name!r} takes a list of values, not {values!r}.")
    # psycopg2 knows Python's numbers, not NumPy's.
    lists = [values.tolist() if hasattr(values, "tolist") else list(values) for values in settings.values()]
    return [dict(zip(settings, values)) for values in product(*lists)]
