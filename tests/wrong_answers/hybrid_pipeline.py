"""What learners write for the hybrid search pipeline that is not right, and words of the message that each must get."""

import re

LOAD = """
def load(conn, documents):
    {create}
    bulk_load(conn, "knowledge", {{**documents[["id", "title", "content"]], "embedding": {embeddings}}})
"""


def load(
    create='create_documents_table(conn, "knowledge", replace=True)', embeddings="embed(embedded_text(documents))"
):
    """The solution of `load` with something changed."""
    return LOAD.format(create=create, embeddings=embeddings)


EXTEND = """
def extend(conn):
    with conn, conn.cursor() as cur:
        cur.execute("ALTER TABLE knowledge ADD COLUMN words tsvector {generated}")
        {then}
        cur.execute("CREATE INDEX ON knowledge USING {index}")
"""


def extend(
    expression="to_tsvector('english', coalesce(title, '') || ' ' || content)",
    generated="GENERATED ALWAYS AS ({}) STORED",
    then="",
    index="gin (words)",
):
    """The solution of `extend` with something changed."""
    return EXTEND.format(generated=generated.format(expression), then=then, index=index)


WEIGH = """
def weigh(conn):
    with conn, conn.cursor() as cur:
        cur.execute('''
            CREATE {kind} weights AS
            WITH collection AS (
                SELECT {documents} AS documents, {mean} AS mean_length FROM knowledge
            ), occurrences AS (
                SELECT id, lexeme AS word, {times} AS times, {length} AS length, {holders} AS holders
                FROM knowledge, unnest(words)
            )
            SELECT id, word, {idf} * {factor} * times / (times + 1.2 * ({normal})) AS weight
            FROM occurrences, collection''')
"""


def weigh(**changes):
    """The solution of `weigh` with something changed."""
    right = {
        "kind": "VIEW",
        "documents": "count(*)",
        "mean": "avg(length(words))",
        "times": "cardinality(positions)",
        "length": "length(words)",
        "holders": "count(*) OVER (PARTITION BY lexeme)",
        "idf": "ln(1 + (documents - holders + 0.5) / (holders + 0.5))",
        "factor": "2.2",
        "normal": "0.25 + 0.75 * length / mean_length",
    }
    return WEIGH.format(**right | changes)


VOCABULARY = "CREATE TABLE vocabulary AS SELECT * FROM ts_stat('SELECT words FROM knowledge')"

BY_WORDS = """
def by_words(conn, question, k):
    with conn, conn.cursor() as cur:
        cur.execute({quotes}
            SELECT id{score}
            FROM {source}
            WHERE {which}
            GROUP BY id
            ORDER BY {order}
            {limit}{quotes}, {{"question": question, "k": k}})
        return cur.fetchall()
"""

ANY_WORD = "word = ANY (ARRAY(SELECT lexeme FROM unnest(to_tsvector('english', %(question)s))))"

RAREST = (
    "SELECT word FROM weights WHERE word IN (SELECT lexeme FROM unnest(to_tsvector('english', %(question)s))) "
    "GROUP BY word ORDER BY count(*), word LIMIT 6"
)


def by_words(
    score=", sum(weight) AS score",
    source="weights",
    which=ANY_WORD,
    order="sum(weight) DESC, id",
    limit="LIMIT %(k)s",
    quotes='"""',
):
    """The solution of `by_words` with something changed."""
    return BY_WORDS.format(score=score, source=source, which=which, order=order, limit=limit, quotes=quotes)


BY_VECTOR = """
def by_vector(conn, question, k):
    with conn, conn.cursor() as cur:
        cur.execute(\"\"\"
            SELECT id, {distance}
            FROM knowledge
            {where}
            ORDER BY embedding {operator} %(vector)s {direction}
            {limit}\"\"\", {{"vector": get_embedding({text}), "k": k}})
        return cur.fetchall()
"""


def by_vector(
    operator="<=>",
    distance="embedding {} %(vector)s",
    where="WHERE embedding IS NOT NULL",
    direction="",
    limit="LIMIT %(k)s",
    text="question",
):
    """The solution of `by_vector` with something changed."""
    return BY_VECTOR.format(
        distance=distance.format(operator), where=where, operator=operator, direction=direction, limit=limit, text=text
    )


HYBRID = """
def hybrid(conn, question, k):
    with conn, conn.cursor() as cur:
        cur.execute(\"\"\"
            WITH by_words AS (
                {words}
                LIMIT 50
            ), by_vector AS (
                SELECT id, row_number() OVER (ORDER BY {distance}, id) AS place, {similarity} AS score
                FROM knowledge
                WHERE embedding IS NOT NULL
                ORDER BY place
                LIMIT 50
            )
            SELECT id, {fused} AS score
            FROM by_words {join} by_vector USING (id)
            ORDER BY {order}
            {limit}\"\"\", {{"question": question, "vector": get_embedding(question), "k": k}})
        return cur.fetchall()
"""

BY_BM25 = (
    "SELECT id, row_number() OVER (ORDER BY sum(weight) DESC, id) AS place, sum(weight) AS score FROM weights "
    f"WHERE {ANY_WORD} GROUP BY id ORDER BY place"
)
BY_TS_RANK = (
    "SELECT id, row_number() OVER (ORDER BY ts_rank(words, asked, 1) DESC, id) AS place, "
    "ts_rank(words, asked, 1) AS score FROM knowledge, {} AS question(asked) WHERE words @@ asked ORDER BY place"
)
OR_OF_WORDS = (
    "(SELECT string_agg(quote_literal(lexeme), ' | ')::tsquery FROM unnest(to_tsvector('english', %(question)s)))"
)
MIN_MAX = " + ".join(
    f"{weight} * coalesce(({side}.score - min({side}.score) OVER ()) "
    f"/ nullif(max({side}.score) OVER () - min({side}.score) OVER (), 0), ({side}.id IS NOT NULL)::int)"
    for side, weight in (("by_vector", 0.7), ("by_words", 0.3))
)
RAW_SUM = "coalesce(by_vector.score, 0) + coalesce(by_words.score, 0)"


def hybrid(
    words=BY_BM25,
    distance="embedding <=> %(vector)s",
    similarity="1 - (embedding <=> %(vector)s)",
    fused="coalesce(1.0 / (60 + by_words.place), 0) + coalesce(1.0 / (60 + by_vector.place), 0)",
    join="FULL OUTER JOIN",
    order="score DESC, id",
    limit="LIMIT %(k)s",
):
    """The solution of `hybrid` with something changed."""
    return HYBRID.format(
        words=words, distance=distance, similarity=similarity, fused=fused, join=join, order=order, limit=limit
    )


MEASURE = """
def measure(conn, questions):
    parts = []
    for method, search in {searches}.items():
        rankings = {{
            asked.id: {ranking}
            for asked in questions.itertuples()
        }}
        parts.append(score_rankings(rankings, {questions}){method})
    return pd.concat(parts, ignore_index=True)
"""


def measure(
    searches='{"words": by_words, "vectors": by_vector, "hybrid": hybrid}',
    ranking="[id for id, _ in search(conn, asked.question, 10)]",
    questions="questions",
    method=".assign(method=method)",
):
    """The solution of `measure` with something changed."""
    return MEASURE.format(searches=searches, ranking=ranking, questions=questions, method=method)


WHEN = """
def when(scores):
    answers = {{}}
    for kind, part in scores.groupby("kind", sort=False):
        difference = compare({arguments})
        answers[kind] = {answer}
    return answers
"""

ANSWER = '"wins" if difference.low > 0 else "loses" if difference.high < 0 else "undecided"'


def when(arguments='part, "hybrid", "vectors"', answer=ANSWER):
    """The solution of `when` with something changed."""
    return WHEN.format(arguments=arguments, answer=answer)


WRONG_ANSWERS = {
    "hybrid_pipeline.load": {
        "embeds the content alone": (
            load(embeddings="embed(documents['content'])"),
            "The vectors are those of the content alone",
        ),
        "embeds the title alone": (
            load(embeddings="embed(documents['title'])"),
            "The vectors are those of the title alone",
        ),
        "keeps the table that is there": (
            load(create='create_documents_table(conn, "knowledge")'),
            "There is a table 'knowledge' already",
        ),
        "adds to the table that is there": (
            load(
                create="query(conn, \"SELECT to_regclass('knowledge')\").iloc[0, 0] or "
                'create_documents_table(conn, "knowledge")'
            ),
            "The table knowledge holds .* rows, which is too many",
        ),
        "forgets the vectors": (
            load().replace(', "embedding": embed(embedded_text(documents))', ""),
            "documents have no embedding",
        ),
        "vectors of other documents": (
            load(embeddings="embed(embedded_text(documents.sort_values('id')))"),
            "The vectors belong to other documents",
        ),
        "numbers the documents anew": (
            load().replace('**documents[["id", "title", "content"]]', '**documents[["title", "content"]]'),
            "is not in knowledge under its id",
        ),
        "leaves the title out": (
            load().replace('["id", "title", "content"]', '["id", "content"]'),
            "The table knowledge is wrong, at least for",
        ),
    },
    "hybrid_pipeline.extend": {
        "loses the words where there is no title": (
            extend("to_tsvector('english', title || ' ' || content)"),
            "A document without a title has no words",
        ),
        "content alone": (extend("to_tsvector('english', content)"), "The words of the titles are missing"),
        "no space between": (
            extend("to_tsvector('english', coalesce(title, '') || content)"),
            "put a space between them",
        ),
        "words as they are written": (
            extend("to_tsvector('simple', coalesce(title, '') || ' ' || content)"),
            "the configuration 'english' is asked for",
        ),
        "without a configuration": (
            extend("to_tsvector(coalesce(title, '') || ' ' || content)"),
            "generation expression is not immutable",
        ),
        "computed once": (
            extend(
                generated="",
                then='cur.execute("UPDATE knowledge SET words = '
                "to_tsvector('english', coalesce(title, '') || ' ' || content)\")",
            ),
            "After rows were added and changed: The column words is wrong",
        ),
        "GiST": (extend(index="gist (words)"), "has no gin index. It has: btree, gist"),
        "an index on the expression": (
            extend(index="gin (to_tsvector('english', content))"),
            "The query uses no index; its plan is Seq Scan",
        ),
        "text": (
            extend(generated="GENERATED ALWAYS AS (content) STORED").replace("words tsvector", "words text"),
            "(operator class|type text)",
        ),
        "does not commit": (
            extend().replace("with conn, conn.cursor() as cur:", "with conn.cursor() as cur:"),
            "A transaction is still open",
        ),
    },
    "hybrid_pipeline.weigh": {
        "a table": (weigh(kind="TABLE"), "After rows were added and changed: The weights are still those from before"),
        "a materialized view": (
            weigh(kind="MATERIALIZED VIEW"),
            "A view is asked for, not a materialized one",
        ),
        "each word counts once": (weigh(times="1"), "however often a word stands in a document"),
        "without the length": (weigh(normal="1"), "the same for short documents and long ones"),
        "another logarithm": (
            weigh(idf="log(1 + (documents - holders + 0.5) / (holders + 0.5))"),
            "The logarithm is that to the base 10",
        ),
        "the logarithm without 1": (
            weigh(idf="ln((documents - holders + 0.5) / (holders + 0.5))"),
            "without 1 \\+ before it",
        ),
        "without the factor": (weigh(factor="1"), "The factor of 2.2 above the fraction line is missing"),
        "counts occurrences": (
            weigh(holders="sum(cardinality(positions)) OVER (PARTITION BY lexeme)")
            .replace("ln(1 + (documents", "ln(greatest(1e-9, 1 + (documents")
            .replace("(holders + 0.5))", "(holders + 0.5)))"),
            "a document counts once, however often it holds the word",
        ),
        "a whole mean": (
            weigh(mean="sum(length(words)) / count(*)"),
            "The mean length is a whole number",
        ),
        "leaves documents without words out": (
            weigh(documents="count(*) FILTER (WHERE length(words) > 0)", mean="avg(nullif(length(words), 0))"),
            "A document without a word was not counted",
        ),
        "length with repetitions": (
            weigh(
                length="(SELECT sum(cardinality(w.positions)) FROM unnest(words) AS w)",
                mean="avg((SELECT coalesce(sum(cardinality(w.positions)), 0) FROM unnest(words) AS w))",
            ),
            "The length counts every occurrence",
        ),
        "length with repetitions, mean without": (
            weigh(length="(SELECT sum(cardinality(w.positions)) FROM unnest(words) AS w)"),
            "The length counts every occurrence",
        ),
        "length of the text": (
            weigh(
                length="cardinality(string_to_array(concat_ws(' ', title, content), ' '))",
                mean="avg(cardinality(string_to_array(concat_ws(' ', title, content), ' ')))",
            ),
            "The length counts every occurrence",
        ),
        "statistics in tables": (
            weigh(holders="ndoc")
            .replace("FROM knowledge, unnest(words)", "FROM knowledge, unnest(words) JOIN vocabulary ON lexeme = word")
            .replace("cur.execute(", f"cur.execute({VOCABULARY!r})\n        cur.execute("),
            "There is no row for the word .* count inside the view",
        ),
        "a column of another name": (
            weigh().replace("lexeme AS word", "lexeme").replace("SELECT id, word,", "SELECT id, lexeme,"),
            "The view weights has no column word; it has: id, lexeme, weight",
        ),
        "another b": (weigh(normal="0.5 + 0.5 * length / mean_length"), "The weight is wrong for .* rows"),
        "only frequent words": (
            weigh().replace("FROM occurrences, collection", "FROM occurrences, collection WHERE holders > 1"),
            "There is no row for the word",
        ),
        "does not commit": (
            weigh().replace("with conn, conn.cursor() as cur:", "with conn.cursor() as cur:"),
            "A transaction is still open",
        ),
    },
    "hybrid_pipeline.by_words": {
        "all words at once": (
            by_words(
                score=", max(ts_rank(words, asked)) AS score",
                source="knowledge, plainto_tsquery('english', %(question)s) AS asked",
                which="words @@ asked",
                order="score DESC",
            ),
            "Joined by AND all words have to be in one document",
        ),
        "words as they are written": (
            by_words(which="word = ANY (regexp_split_to_array(lower(%(question)s), '[^a-z]+'))"),
            "Its words are looked for as they were written",
        ),
        "words as they are written, stop words too": (
            by_words(which=ANY_WORD.replace("english", "simple")),
            "Its words are looked for as they were written",
        ),
        "words as they are written, split at spaces": (
            "def by_words(conn, question, k):\n    with conn, conn.cursor() as cur:\n"
            "        cur.execute('SELECT id, sum(weight) FROM weights WHERE word = ANY (%s) GROUP BY id '\n"
            "                    'ORDER BY 2 DESC, id LIMIT %s', (question.lower().split(), k))\n"
            "        return cur.fetchall()",
            "Its words are looked for as they were written",
        ),
        "the six rarest words": (
            by_words(which=f"word = ANY (ARRAY({RAREST}))"),
            "Only some of the question's words count",
        ),
        "candidates by the six rarest words": (
            by_words(which=f"{ANY_WORD} AND id IN (SELECT id FROM weights WHERE word = ANY (ARRAY({RAREST})))"),
            "Only some of the question's words count",
        ),
        "ts_rank": (
            by_words(
                score=f", ts_rank(words, {OR_OF_WORDS}) AS score",
                source="knowledge",
                which=f"words @@ {OR_OF_WORDS}",
                order="score DESC",
            ),
            "a score is the sum of the weights of the question's words, each once",
        ),
        "to_tsquery": (
            by_words(
                source="weights JOIN knowledge USING (id)",
                which="words @@ to_tsquery('english', %(question)s)",
            ),
            "by_words raised SyntaxError: syntax error in tsquery",
        ),
        "the best word": (
            by_words(score=", max(weight) AS score", order="max(weight) DESC"),
            "The scores are the weights of the best word",
        ),
        "the mean": (
            by_words(score=", avg(weight) AS score", order="avg(weight) DESC"),
            "The scores are mean weights",
        ),
        "the worst first": (by_words(order="sum(weight)"), "(is out of order|lacks a document with a higher score)"),
        "a word twice": (
            by_words(
                source="weights JOIN (SELECT lexeme FROM regexp_split_to_table(%(question)s, '[^a-zA-Z]+') AS piece, "
                "unnest(to_tsvector('english', piece))) AS asked ON lexeme = word",
                which="true",
            ),
            "a score is the sum of the weights of the question's words, each once",
        ),
        "ids alone": (by_words(score=""), r"Each item of the result should be \(id, score\); it holds 1"),
        "without the limit": (by_words(limit=""), "documents, which is too many: 3 were asked for"),
        "pastes the question in": (
            by_words(which=ANY_WORD.replace("%(question)s", "'{question}'"), quotes='"""').replace(
                'cur.execute("""', 'cur.execute(f"""'
            ),
            "by_words raised SyntaxError(.|\n)*Is every value bound with %s(.|\n)*The question was",
        ),
        "every document": (
            by_words(
                score=", coalesce(sum(weight), 0) AS score",
                source=f"knowledge LEFT JOIN (SELECT * FROM weights WHERE {ANY_WORD}) AS w USING (id)",
                which="true",
                order="score DESC",
            ),
            "which has none of the question's words",
        ),
    },
    "hybrid_pipeline.by_vector": {
        "Euclidean distance": (by_vector("<->"), "are Euclidean distances, not cosine distances"),
        "inner product": (by_vector("<#>"), "are negative inner products, not cosine distances"),
        "ordered by Euclidean distance": (
            by_vector("<->", distance="embedding <=> %(vector)s"),
            "(The result is out of order|something nearer is missing)",
        ),
        "similarities": (
            by_vector(distance="1 - (embedding {} %(vector)s)"),
            "are cosine similarities, not cosine distances",
        ),
        "the farthest first": (by_vector(direction="DESC"), "(is out of order at place|something nearer is missing)"),
        "documents without a vector": (by_vector(where=""), "holds a distance that is None"),
        "without the limit": (by_vector(limit=""), "items, which is too many: 4 were asked for"),
        "ids alone": (
            by_vector().replace("SELECT id, embedding <=> %(vector)s", "SELECT id"),
            r"Each item of the result should be \(id, distance\); it holds 1",
        ),
        "a frame": (
            by_vector().replace("return cur.fetchall()", "return pd.DataFrame(cur.fetchall())"),
            "The result should be a list; it is a DataFrame",
        ),
        "embeds something else": (
            by_vector(text="question.upper() + ' documents about'"),
            "(out of order|is not the nearest|The list of distances is wrong)",
        ),
    },
    "hybrid_pipeline.hybrid": {
        "LEFT JOIN from the vectors": (
            hybrid(join="RIGHT JOIN"),
            "which only its words can find, is not in the result",
        ),
        "LEFT JOIN from the words": (
            hybrid(join="LEFT JOIN"),
            "which has no word of the question, is not in the result",
        ),
        "INNER JOIN": (hybrid(join="JOIN"), "which only its words can find, is not in the result"),
        "no COALESCE": (
            hybrid(fused="1.0 / (60 + by_words.place) + 1.0 / (60 + by_vector.place)"),
            "holds a score that is None",
        ),
        "words joined by AND": (
            hybrid(words=BY_TS_RANK.format("plainto_tsquery('english', %(question)s)")),
            "joined by AND they are asked for all at once",
        ),
        "websearch_to_tsquery": (
            hybrid(words=BY_TS_RANK.format("websearch_to_tsquery('english', %(question)s)")),
            "joined by AND they are asked for all at once",
        ),
        "ts_rank and similarity, added as they are": (
            hybrid(words=BY_TS_RANK.format(OR_OF_WORDS), fused=RAW_SUM),
            "The best document by words, which the other side does not find, stands at place .* different scales",
        ),
        "BM25 and similarity, added as they are": (
            hybrid(fused=RAW_SUM),
            "On the mixed questions nDCG@10 is .* alone have .* different scales",
        ),
        "ts_rank for the words": (
            hybrid(words=BY_TS_RANK.format(OR_OF_WORDS)),
            "the searches of questions 4 and 5",
        ),
        "vectors alone": (
            hybrid(words=BY_BM25 + " OFFSET 1000"),
            "The words change nothing: the result is that of the vectors alone",
        ),
        "words alone": (
            hybrid(distance="random()", fused="coalesce(1.0 / (60 + by_words.place), 0)"),
            "The vectors change nothing: the result is that of the words alone",
        ),
        "as many of each side as are asked for": (
            hybrid().replace("LIMIT 50", "LIMIT %(k)s"),
            "The first three of 20 are others than those of 3",
        ),
        "as many of each side as are asked for, min-max": (
            hybrid(fused=MIN_MAX).replace("LIMIT 50", "LIMIT %(k)s"),
            "The first three of 20 are others than those of 3",
        ),
        "documents without an embedding": (
            hybrid().replace("WHERE embedding IS NOT NULL", ""),
            "A document without an embedding has got a place among the vectors",
        ),
        "whole numbers": (
            hybrid(fused="coalesce(1 / (60 + by_words.place), 0) + coalesce(1 / (60 + by_vector.place), 0)"),
            "All scores are 0: 1 / .* of whole numbers is 0",
        ),
        "one hit alone gets 0": (
            hybrid(
                fused=re.sub(r"\(by_\w+\.id IS NOT NULL\)::int", "0", MIN_MAX)
                .replace("0.7", "0.8")
                .replace("0.3", "0.2")
            ),
            "On the exact questions nDCG@10 is .* By min-max one hit alone gets 1",
        ),
        "min-max over the distance": (
            hybrid(fused=MIN_MAX, distance="embedding <=> %(vector)s DESC", similarity="embedding <=> %(vector)s"),
            "The nearest document(.|\n)*is the vectors' side upside down",
        ),
        "Euclidean distance": (
            hybrid(distance="embedding <-> %(vector)s"),
            "The best document by vectors, which the other side does not find, stands at place",
        ),
        "ten of each side": (
            hybrid().replace("LIMIT 50", "LIMIT 10"),
            "holds 1[01] rows, which is too few: 1. were asked for",
        ),
        "inner product": (
            hybrid(distance="embedding <#> %(vector)s"),
            "The best document by vectors, which the other side does not find, stands at place",
        ),
        "the farthest vectors first": (
            hybrid(distance="embedding <=> %(vector)s DESC"),
            "(The nearest document, which has no word of the question|stands below one)",
        ),
        "places added up": (
            hybrid(fused="coalesce(by_words.place, 0) + coalesce(by_vector.place, 0)"),
            "stands at place .* and do both count, the best first",
        ),
        "the worst first": (hybrid(order="score, id"), "The result is out of order at place"),
        "ties by the larger id": (hybrid(order="score DESC, id DESC"), "have the same score, and the smaller id"),
        "two statements": (
            "def hybrid(conn, question, k):\n    fused = {}\n"
            "    for search in (by_words, by_vector):\n"
            "        for place, (id, _) in enumerate(search(conn, question, 50), start=1):\n"
            "            fused[id] = fused.get(id, 0) + 1 / (60 + place)\n"
            "    return sorted(fused.items(), key=lambda hit: (-hit[1], hit[0]))[:k]",
            "2 statements of SELECT were sent; one is enough",
        ),
        "without the limit": (hybrid(limit=""), "rows, which is too many"),
        "divides by zero": (
            hybrid(
                fused="0.7 * coalesce((by_vector.score - min(by_vector.score) OVER ()) "
                "/ (max(by_vector.score) OVER () - min(by_vector.score) OVER ()), 0) "
                "+ 0.3 * coalesce((by_words.score - min(by_words.score) OVER ()) "
                "/ (max(by_words.score) OVER () - min(by_words.score) OVER ()), 0)"
            ),
            "hybrid raised DivisionByZero",
        ),
    },
    "hybrid_pipeline.measure": {
        "tuples for ids": (measure(ranking="search(conn, asked.question, 10)"), "A ranking is a list of ids"),
        "five documents": (
            measure(ranking="[id for id, _ in search(conn, asked.question, 5)]"),
            "five documents were ranked",
        ),
        "methods mixed up": (
            measure(searches='{"words": by_vector, "vectors": by_words, "hybrid": hybrid}'),
            "The rows of .* hold the scores of",
        ),
        "two methods": (measure(searches='{"words": by_words, "hybrid": hybrid}'), "The column method holds"),
        "no method": (measure(method=""), "The result has no column 'method'"),
        "the same search each time": (
            measure(ranking="[id for id, _ in by_vector(conn, asked.question, 10)]"),
            "The rows of words hold the scores of vectors",
        ),
        "some of the questions": (
            measure(questions="questions[questions.kind != 'conceptual']"),
            "it takes one for each of the 36 questions that have an answer",
        ),
        "the means": (
            measure().replace("return ", "return summarise_all(").replace("ignore_index=True)", "ignore_index=True))")
            + "\ndef summarise_all(scores):\n"
            "    return scores.groupby(['method', 'kind'])['nDCG@10'].mean().reset_index()\n",
            "The result has no column 'question'",
        ),
        "the ranking upside down": (
            measure(ranking="[id for id, _ in search(conn, asked.question, 10)][::-1]"),
            "words: nDCG@10, question by question, is wrong",
        ),
    },
    "hybrid_pipeline.when": {
        "the means alone": (
            when(answer='"wins" if difference.difference > 0 else "loses"'),
            "the questions do not suffice to say which is better",
        ),
        "the wrong way round": (when('part, "vectors", "hybrid"'), "there it is the other way round"),
        "all kinds at once": (when('scores, "hybrid", "vectors"'), "All kinds have the same answer"),
        "against words": (when('part, "hybrid", "words"'), "Is hybrid compared with vectors, and not with words"),
        "two intervals side by side": (
            "def when(scores):\n    answers = {}\n    for kind, part in scores.groupby('kind'):\n"
            "        s = summarise(part).set_index('method')\n"
            "        answers[kind] = ('wins' if s.low['hybrid'] > s.high['vectors'] else\n"
            "                         'loses' if s.high['hybrid'] < s.low['vectors'] else 'undecided')\n"
            "    return answers",
            "The intervals of the two means overlap",
        ),
        "recited": (
            "def when(scores):\n    return {'exact': 'wins', 'mixed': 'undecided', 'conceptual': 'loses'}",
            "The keys of the result are",
        ),
        "other words": (
            when(answer=ANSWER.replace('"undecided"', "None")),
            "The result holds None; the answers are",
        ),
        "a frame": (
            when().replace("return answers", "return pd.Series(answers)"),
            "The result should be a dict; it is a Series",
        ),
    },
}
