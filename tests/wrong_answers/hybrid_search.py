"""What learners write for exercise 06 that is not right, and words of the message that each must get."""

WORDS = "setweight(to_tsvector('english', coalesce(title, '')), 'A') || setweight(to_tsvector('english', content), 'B')"


def add_words(expression: str = WORDS, *, index: str = "gin (words)", end: str = "pass", kind: str = "STORED") -> str:
    """A generated column and an index; `end` is a statement of Python that follows."""
    create = f'cur.execute("CREATE INDEX ON documents USING {index}")' if index else "pass"
    column = f"words tsvector GENERATED ALWAYS AS ({expression}) {kind}"
    return f"""
def add_words(conn):
    cur = conn.cursor()
    cur.execute("ALTER TABLE documents ADD COLUMN {column}")
    {create}
    {end}
""".replace("    pass\n", "    conn.commit()\n", 1 if index else 2)


ANY_WORD = """(SELECT string_agg(quote_literal(lexeme), ' | ')::tsquery AS any_word
               FROM unnest(to_tsvector('english', %(question)s))) AS asked"""


def search_words(
    asked: str = ANY_WORD, *, score: str = "ts_rank(words, any_word, 1)", order: str = "score DESC, id",
    limit: str = "LIMIT %(k)s", before: str = "pass",
) -> str:  # fmt: skip
    """A search by words; `before` is a statement of Python that stands in front of it."""
    return f"""
def search_words(conn, question, k):
    {before}
    with conn, conn.cursor() as cur:
        cur.execute('''SELECT id, {score} AS score FROM documents, {asked}
                       WHERE words @@ any_word ORDER BY {order} {limit}''', {{"question": question, "k": k}})
        return cur.fetchall()
"""


def query_of(function: str) -> str:
    return f"(SELECT {function} AS any_word) AS asked"


def idf(
    *, number: str = "ln(1 + (n - d + 0.5) / (d + 0.5))", d: str = "coalesce(ndoc, 0)", join: str = "LEFT JOIN",
    words: str = "unnest(to_tsvector('english', %s))", n: str = "SELECT count(*) FROM documents",
    result: str = "dict(cur.fetchall())",
) -> str:  # fmt: skip
    return f"""
def idf(conn, question):
    with conn, conn.cursor() as cur:
        cur.execute('''
            WITH counted AS (
                SELECT lexeme, {d} AS d, ({n}) AS n
                FROM {words}
                {join} ts_stat('SELECT words FROM documents') ON word = lexeme
            )
            SELECT lexeme, {number} FROM counted''', [question])
        return {result}
"""


def idf_from_a_table(create: str) -> str:
    """An idf with the words' counts in a table, or a view, of its own; `create` is what stands before the SELECT."""
    stat = "ts_stat('SELECT words FROM documents')"
    return (
        idf()
        .replace(stat, "vocabulary")
        .replace("cur.execute(", f'cur.execute("{create} SELECT * FROM {stat}")\n        cur.execute(', 1)
    )


def fuse(
    *, join: str = "FULL OUTER JOIN", by_words: str = "coalesce(1.0 / (60 + by_words.place), 0)",
    by_vector: str = "coalesce(1.0 / (60 + by_vector.place), 0)", depth: str = "50", place: str = "row_number()",
    asked: str = ANY_WORD, order: str = "score DESC, id", nearest: str = "<=>",
    rank: str = "ts_rank(words, any_word, 1)", within: str = "score DESC, id",
) -> str:  # fmt: skip
    return f"""
def fuse(conn, question, vector, k):
    with conn, conn.cursor() as cur:
        cur.execute('''
            WITH word_hits AS (
                SELECT id, {rank} AS score FROM documents, {asked}
                WHERE words @@ any_word ORDER BY score DESC, id LIMIT {depth}
            ), vector_hits AS (
                SELECT id, embedding {nearest} %(vector)s AS distance FROM documents
                ORDER BY embedding {nearest} %(vector)s LIMIT {depth}
            ), by_words AS (
                SELECT id, score, {place} OVER (ORDER BY {within}) AS place FROM word_hits
            ), by_vector AS (
                SELECT id, 1 - distance AS score, {place} OVER (ORDER BY distance, id) AS place FROM vector_hits
            )
            SELECT id, {by_words} + {by_vector} AS score
            FROM by_vector {join} by_words USING (id)
            ORDER BY {order} LIMIT %(k)s''', {{"question": question, "vector": vector, "k": k}})
        return cur.fetchall()
"""


FUSED_IN_PYTHON = """
def fuse(conn, question, vector, k):
    scores = {}
    with conn, conn.cursor() as cur:
        cur.execute("SELECT id FROM documents ORDER BY embedding <=> %s LIMIT 50", [vector])
        for place, (id,) in enumerate(cur.fetchall(), 1):
            scores[id] = scores.get(id, 0) + 1 / (60 + place)
    for place, (id, _) in enumerate(search_words(conn, question, 50), 1):
        scores[id] = scores.get(id, 0) + 1 / (60 + place)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:k]
"""


def normalised(*, equal: str = "1", divisor: str | None = None, side: str = "") -> str:
    """A score brought to 0…1; `side` is the list that it is from, after the join."""
    score = f"{side}.score" if side else "score"
    low = f"min({score}) OVER ()"
    divisor = divisor or f"nullif(max({score}) OVER () - {low}, 0)"
    return f"coalesce(({score} - {low}) / {divisor}, {equal})"


def mend(
    *, join: str = "FULL OUTER JOIN", words: str = normalised(), vectors: str = normalised(),
    by_words: str = "coalesce(by_words.score, 0)", by_vector: str = "coalesce(by_vector.score, 0)",
    weights: tuple[str, str] = ("%(weight)s", "(1 - %(weight)s)"), order: str = "score DESC, id",
    end: str = "with conn,",
) -> str:  # fmt: skip
    return f"""
def search_weighted(conn, question, vector, weight, k):
    {end} conn.cursor() as cur:
        cur.execute('''
            WITH vector_hits AS (
                SELECT id, 1 - (embedding <=> %(vector)s) AS score FROM documents
                ORDER BY embedding <=> %(vector)s LIMIT 50
            ), word_hits AS (
                SELECT id, ts_rank(words, any_word, 1) AS score FROM documents, {ANY_WORD}
                WHERE words @@ any_word ORDER BY score DESC, id LIMIT 50
            ), by_vector AS (
                SELECT id, {vectors} AS score FROM vector_hits
            ), by_words AS (
                SELECT id, {words} AS score FROM word_hits
            )
            SELECT id, {weights[0]} * {by_vector} + {weights[1]} * {by_words} AS score
            FROM by_vector {join} by_words USING (id)
            ORDER BY {order} LIMIT %(k)s''', {{"question": question, "vector": vector, "weight": weight, "k": k}})
        return cur.fetchall()
"""


def titles(
    *, index: str = "gin (title gin_trgm_ops)", score: str = "word_similarity(%(word)s, title)",
    where: str = "%(word)s <%% title", order: str = "score DESC, id", parameters: str = '{"word": word, "k": k}',
    text: str = "",
) -> str:  # fmt: skip
    return f"""
def index_titles(conn):
    with conn, conn.cursor() as cur:
        cur.execute("CREATE INDEX ON documents USING {index}")

def search_titles(conn, word, k):
    with conn, conn.cursor() as cur:
        cur.execute({text}'''SELECT id, {score} AS score FROM documents
                       WHERE {where} ORDER BY {order} LIMIT %(k)s''', {parameters})
        return cur.fetchall()
"""


def choose(
    *, tuned: str = "questions[0::2]", judged: str = "questions[1::2]", ids: str = "v.keys() | w.keys()",
    score: str = "weight * v.get(id, 0) + (1 - weight) * w.get(id, 0)", key: str = "(-score(id), id)",
    depth: str = "10", result: str = "best, mean_ndcg(judged, best)", mean: str = "sum(each) / len(each)",
) -> str:  # fmt: skip
    return f"""
def choose_weight(questions, weights):
    def ndcg(question, weight):
        v, w, grades = question
        def score(id):
            return {score}
        return ndcg_at_k(sorted({ids}, key=lambda id: {key}), grades, {depth})
    def mean_ndcg(some, weight):
        each = [ndcg(question, weight) for question in some]
        return {mean}
    tuned, judged = {tuned}, {judged}
    best = max(weights, key=lambda weight: mean_ndcg(tuned, weight))
    return {result}
"""


WRONG_ANSWERS = {
    "hybrid_search.add_words": {
        "no coalesce": (add_words(WORDS.replace("coalesce(title, '')", "title")), "which has no title, has no words"),
        "no weights": (
            add_words("to_tsvector('english', coalesce(title, '') || ' ' || content)"),
            "No word has the weight A",
        ),
        "weights the other way round": (
            add_words(WORDS.replace("'A'", "'x'").replace("'B'", "'A'").replace("'x'", "'B'")),
            "other weights than asked for",
        ),
        "the content's words without a weight": (
            add_words(
                WORDS.replace("setweight(to_tsvector('english', content), 'B')", "to_tsvector('english', content)")
            ),
            "other weights than asked for",
        ),
        "no stems": (add_words(WORDS.replace("'english'", "'simple'")), "words as they are written"),
        "the content only": (
            add_words("setweight(to_tsvector('english', content), 'B')"),
            "lacks the words of the title",
        ),
        "texts joined without a space": (
            add_words("setweight(to_tsvector('english', coalesce(title, '') || content), 'A')"),
            "it has not the right words",
        ),
        "no index": (add_words(index=""), "no gin index"),
        "an index of another kind": (add_words(index="gist (words)"), "no gin index. It has: .*gist"),
        "an index on an expression": (
            add_words(index="gin (to_tsvector('english', content))"),
            "The query uses no index",
        ),
        "the configuration left out": (
            add_words(WORDS.replace("'english', ", "")),
            "add_words raised .*generation expression is not immutable",
        ),
        "computed when it is read": (add_words(kind="VIRTUAL"), "add_words raised FeatureNotSupported"),
        "filled once": (
            "def add_words(conn):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('ALTER TABLE documents ADD COLUMN words tsvector')\n"
            f'        cur.execute("UPDATE documents SET words = {WORDS}")\n'
            "        cur.execute('CREATE INDEX ON documents USING gin (words)')",
            "filled once and no more",
        ),
        "as text": (
            f'def add_words(conn):\n    with conn, conn.cursor() as cur:\n        cur.execute("ALTER TABLE documents '
            f'ADD COLUMN words text GENERATED ALWAYS AS (({WORDS})::text) STORED")',
            "The column words is of type text; it should be tsvector",
        ),
        "does not commit": (add_words().replace("conn.commit()", "pass"), "A transaction is still open"),
    },
    "hybrid_search.search_words": {
        "all words": (search_words(query_of("plainto_tsquery('english', %(question)s)")), "any word is enough"),
        "all words, as on the web": (
            search_words(query_of("websearch_to_tsquery('english', %(question)s)")),
            "any word is enough",
        ),
        "what was typed, as a query": (
            search_words(query_of("to_tsquery('english', %(question)s)")),
            "search_words raised SyntaxError: syntax error in tsquery(.|\n)*what was typed was taken as it is",
        ),
        "split at blanks and joined by OR": (
            search_words(
                query_of("to_tsquery('english', %(question)s)"), before='question = " | ".join(question.split()) or "x"'
            ),
            "search_words raised SyntaxError: (.|\n)*in tsquery",
        ),
        "OR between the words, as on the web": (
            search_words(
                query_of("websearch_to_tsquery('english', %(question)s)"),
                before='question = " or ".join(question.split())',
            ),
            "For a question with a minus and a quotation mark(.|\n)*(none of the question's words|any word is enough)",
        ),
        "taken apart by hand": (
            search_words(
                query_of("to_tsquery('english', %(question)s)"),
                before=r'import re; question = " | ".join(re.findall(r"\w+", question))',
            ),
            "For a question with an address(.|\n)*taken apart by other rules",
        ),
        "words that are not quoted": (
            search_words(ANY_WORD.replace("quote_literal(lexeme)", "lexeme")),
            "For a question with an address(.|\n)*Lexemes are not quoted",
        ),
        "words that are not quoted, as a query": (
            search_words(
                ANY_WORD.replace(
                    "string_agg(quote_literal(lexeme), ' | ')::tsquery",
                    "to_tsquery('english', string_agg(lexeme, ' | '))",
                )
            ),
            "For a question with an address(.|\n)*(Lexemes are not quoted|taken apart by other rules)",
        ),
        "no stems": (search_words(ANY_WORD.replace("english", "simple")), "taken as they were typed"),
        "pasted in": (
            search_words(ANY_WORD.replace("%(question)s", "'{question}'")).replace(
                "cur.execute('''", "cur.execute(f'''"
            ),
            "For a question with an apostrophe(.|\n)*Is every value bound with %s",
        ),
        "the score of long documents too": (
            search_words(score="ts_rank(words, any_word)"),
            "ts_rank without its third argument",
        ),
        "another rank": (search_words(score="ts_rank_cd(words, any_word, 1)"), "The scores are those of ts_rank_cd"),
        "the worst first": (search_words(order="score, id"), "out of order at place .*: the largest comes first"),
        "ties in any order": (search_words(order="score DESC, id DESC"), "the one with the smallest id comes first"),
        "without the limit": (search_words(limit=""), "too many: 7 were asked for"),
        "ids only": (
            search_words().replace("return cur.fetchall()", "return [row[:1] for row in cur.fetchall()]"),
            r"should be \(id, score\); it holds 1 values",
        ),
    },
    "hybrid_search.idf": {
        "known words only": (idf(join="JOIN"), "a word of the question that no document holds"),
        "no coalesce": (idf(d="ndoc"), "The result holds None"),
        "unknown words count 0": (
            idf(d="ndoc", number="coalesce(ln(1 + (n - d + 0.5) / (d + 0.5)), 0)"),
            "which no document holds, is 0, as if the word told nothing",
        ),
        "to base 10": (idf(number="log(1 + (n - d + 0.5) / (d + 0.5))"), "ln is the natural one"),
        "occurrences": (idf(d="coalesce(nentry, 0)"), "d counts how often a word occurs"),
        "without the 1": (idf(number="ln((n - d + 0.5) / (d + 0.5))"), "the 1 \\+ in the formula is missing"),
        "documents that have words": (
            idf(n="SELECT count(*) FROM documents WHERE length(words) > 0"),
            "n counts no document without words",
        ),
        "the words as they were typed": (
            idf(words="regexp_split_to_table(lower(%s), '[^a-z]+') AS lexeme"),
            "The result holds .* a stop word",
        ),
        "stop words too": (idf(words="unnest(to_tsvector('simple', %s))"), "The result holds .* a stop word"),
        "tuples": (idf(result="cur.fetchall()"), "The result should be a dict; it is a list"),
        "a table that is kept": (
            idf_from_a_table("CREATE TEMP TABLE IF NOT EXISTS vocabulary AS"),
            "After documents were added: .*Is it counted anew each time",
        ),
        "a table that is made anew": (
            idf_from_a_table("DROP TABLE IF EXISTS vocabulary; CREATE TABLE vocabulary AS"),
            r"A table vocabulary is left behind\. ts_stat\(…\) may stand in the FROM",
        ),
        "a view": (
            idf_from_a_table("CREATE OR REPLACE VIEW vocabulary AS"),
            r"A view vocabulary is left behind\. ts_stat\(…\) may stand in the FROM",
        ),
    },
    "hybrid_search.fuse": {
        "LEFT JOIN": (fuse(join="LEFT JOIN"), "the words alone can find it"),
        "RIGHT JOIN": (fuse(join="RIGHT JOIN"), "the vectors alone can find them"),
        "JOIN": (fuse(join="JOIN"), "the words alone can find it"),
        "no coalesce": (
            fuse(by_words="1.0 / (60 + by_words.place)", by_vector="1.0 / (60 + by_vector.place)"),
            "holds a score that is NULL",
        ),
        "places from 0": (fuse(place="-1 + row_number()"), "places counted from 0"),
        "whole numbers": (
            fuse(
                by_words="coalesce(1 / (60 + by_words.place), 0)", by_vector="coalesce(1 / (60 + by_vector.place), 0)"
            ),
            "The scores are all 0",
        ),
        "scores for places": (
            fuse(by_words="coalesce(by_words.score, 0)", by_vector="coalesce(by_vector.score, 0)"),
            "sums of similarity and ts_rank",
        ),
        "without the 60": (
            fuse(by_words="coalesce(1.0 / by_words.place, 0)", by_vector="coalesce(1.0 / by_vector.place, 0)"),
            "the 60 is missing",
        ),
        "lists of k": (fuse(depth="%(k)s"), "The scores are those of lists of k"),
        "only the last sorted": (fuse(order="score, id"), "the largest comes first"),
        "ties in any order": (fuse(order="score DESC, id DESC"), "the one with the smallest id comes first"),
        "all words": (fuse(asked=query_of("plainto_tsquery('english', %(question)s)")), "Is any word enough there"),
        "Euclidean distance": (fuse(nearest="<->"), "those by Euclidean distance"),
        "places that are shared": (fuse(place="rank()", within="score DESC"), "with equal scores share a place here"),
        "places that are shared, without gaps": (
            fuse(place="dense_rank()", within="score DESC"),
            "with equal scores share a place here",
        ),
        "the rank of long documents too": (
            fuse(rank="ts_rank(words, any_word)"),
            "places are those by ts_rank without its third argument",
        ),
        "words that are not quoted": (
            fuse(asked=ANY_WORD.replace("quote_literal(lexeme)", "lexeme")),
            "fuse raised SyntaxError: syntax error in tsquery(.|\n)*Lexemes are not quoted",
        ),
        "two statements": (FUSED_IN_PYTHON, "2 statements of SELECT were sent; one is enough"),
        "what was typed, as a query": (
            fuse(asked=query_of("to_tsquery('english', %(question)s)")),
            "fuse raised SyntaxError",
        ),
    },
    "hybrid_search.mend": {
        "as it was": (
            mend(
                join="LEFT JOIN", words="score", vectors="score", by_words="by_words.score", by_vector="by_vector.score"
            ),
            "the words alone can find it",
        ),
        "FULL OUTER JOIN only": (
            mend(words="score", vectors="score", by_words="by_words.score", by_vector="by_vector.score"),
            "holds a score that is NULL",
        ),
        "not normalised": (mend(words="score", vectors="score"), "sums of ts_rank and similarity as they are"),
        "one side normalised": (mend(vectors="score"), "ts_rank is normalised, and the similarities are not"),
        "the other side normalised": (mend(words="score"), "The similarities are normalised, and ts_rank is not"),
        "divided by the largest": (
            mend(words="score / max(score) OVER ()", vectors="score / max(score) OVER ()"),
            "The smallest of a side is taken to be 0",
        ),
        "the weight for the words": (mend(weights=("(1 - %(weight)s)", "%(weight)s")), "the other way round"),
        "divided by 0": (
            mend(words=normalised(divisor="(max(score) OVER () - min(score) OVER ())")),
            "search_weighted raised DivisionByZero: division by zero",
        ),
        "divided by 0 among equal vectors": (
            mend(vectors=normalised(divisor="(max(score) OVER () - min(score) OVER ())")),
            "search_weighted raised DivisionByZero: division by zero",
        ),
        "equal scores count nothing": (
            mend(words=normalised(equal="0"), vectors=normalised(equal="0")),
            "count 0 where all of a side are equal",
        ),
        "equal vectors count nothing": (mend(vectors=normalised(equal="0")), "count 0 where all of a side are equal"),
        "normalised after the join": (
            mend(
                words="score",
                vectors="score",
                by_words=normalised(side="by_words"),
                by_vector=normalised(side="by_vector"),
            ),
            "that one side has not found counts 1 there; it counts 0",
        ),
        "the words normalised after the join": (
            mend(words="score", by_words=normalised(side="by_words")),
            "that one side has not found counts 1 there; it counts 0",
        ),
        "leaves the transaction open": (mend(end="with"), "A transaction is still open"),
    },
    "hybrid_search.search_titles": {
        "compares with the whole title": (titles(where="%(word)s %% title"), "compared with the whole title"),
        "the score of the whole title": (
            titles(score="similarity(%(word)s, title)"),
            "compare the word with the title as a whole",
        ),
        "the arguments the other way round": (
            titles(score="word_similarity(title, %(word)s)"),
            "or word_similarity with the title first",
        ),
        "whole words": (
            titles(score="strict_word_similarity(%(word)s, title)"),
            "The scores are those of strict_word_similarity|out of order",
        ),
        "a function that no index serves": (
            titles(where="word_similarity(%(word)s, title) >= 0.6"),
            "The query uses no index",
        ),
        "no threshold": (titles(where="title IS NOT NULL"), "below the threshold"),
        "another operator class": (titles(index="gist (title gist_trgm_ops)"), "has no gin index"),
        "an index of words": (titles(index="gin (to_tsvector('english', title))"), "which serves another operator"),
        "the worst first": (titles(order="score, id"), "the largest comes first"),
        "the distance": (titles(score="title <->> %(word)s", order="score, id"), "The scores are distances"),
        "a single % sign": (titles(where="%(word)s <% title"), "search_titles raised"),
        "what contains the word": (
            titles(where="title ILIKE '%%' || %(word)s || '%%'"),
            "which is too few|The result is not the best",
        ),
        "pasted in": (
            titles(where="'{word}' <%% title", score="word_similarity('{word}', title)", text="f"),
            "search_titles raised .*(.|\n)*Is every value bound with %s",
        ),
    },
    "hybrid_search.choose_weight": {
        "chooses on all questions": (choose(tuned="questions"), "It is the best on all questions"),
        "chooses on the half for judging": (
            choose(tuned="questions[1::2]"),
            "It is the best on the half that was to be",
        ),
        "cuts in the middle": (
            choose(tuned="questions[:len(questions) // 2]", judged="questions[len(questions) // 2:]"),
            "It is the best on the first half of the list",
        ),
        "judges on the half for choosing": (
            choose(judged="questions[0::2]"),
            "that the weight was chosen on: it flatters",
        ),
        "judges on all": (choose(judged="questions"), "of all questions, also those"),
        "the weight for the words": (
            choose(score="weight * w.get(id, 0) + (1 - weight) * v.get(id, 0)"),
            "here it is the other way round",
        ),
        "what both have found": (choose(ids="v.keys() & w.keys()"), "that one search alone has found are missing"),
        "what the vectors have found": (choose(ids="set(v)"), "that the words alone have found are missing"),
        "what the vectors have found, ties in any order": (
            choose(ids="v", key="-score(id)"),
            "that the words alone have found are missing",
        ),
        "what the words have found": (choose(ids="set(w)"), "that the vectors alone have found are missing"),
        "the largest id first": (choose(key="(-score(id), -id)"), "with equal scores the smallest id comes first"),
        "ties in the order of a set": (choose(key="-score(id)"), "with equal scores the smallest id comes first"),
        "ties in the order of a dictionary": (
            choose(ids="v | w", key="-score(id)"),
            "with equal scores the smallest id comes first",
        ),
        "the worst first": (
            choose(key="(score(id), id)"),
            "questions 0, 2, 4, …: another has a higher mean|on questions 1, 3, 5, … is wrong",
        ),
        "the sum": (choose(mean="sum(each)"), "The mean nDCG@10 on questions 1, 3, 5, … is wrong"),
        "the weight only": (choose(result="best"), "The result should be a tuple; it is a float"),
        "rounded": (choose(result="best, round(mean_ndcg(judged, best), 3)"), "Was it rounded"),
        "the place of the weight": (
            choose(result="weights.index(best) + 2, mean_ndcg(judged, best)"),
            "which is none of those that were given",
        ),
    },
}
