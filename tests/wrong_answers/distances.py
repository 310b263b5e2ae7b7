"""What learners write for exercise 03 that is not right, and words of the message that each must get."""

OPERATORS = {"l2": "<->", "cosine": "<=>", "inner_product": "<#>", "l1": "<+>"}


def answer(head: str, statement: str, result: str = "cur.fetchall()", *, first: str = "", last: str = "") -> str:
    """A function that runs one statement; {names} in it stand for parameters that are bound."""
    for name in ("vector", "numbers", "threshold", "limit", "name"):
        statement = statement.replace(f"{{{name}}}", f"%({name})s")
    return (
        f"def {head}:\n{first}    with conn, conn.cursor() as cur:\n"
        f"        cur.execute(f'''{statement}''', {{**locals()}})\n        return {result}\n{last}"
    )


def nearest(statement: str, operators: dict = OPERATORS, *, known: str = "", result: str = "cur.fetchall()") -> str:
    """An answer to the first question; <> in the statement stands for the operator."""
    first = f"    if metric not in {operators}: raise ValueError(metric)\n    operator = {operators}[metric]\n"
    return answer(
        "nearest(conn, vector, metric, limit)", statement.replace("<>", "{operator}"), result, first=known or first
    )


NEAREST = "SELECT id, embedding <> {vector} AS d FROM items WHERE embedding IS NOT NULL ORDER BY d, id LIMIT {limit}"


def to_list(statement: str, result: str = "[id for (id,) in cur.fetchall()]", first: str = "") -> str:
    return answer("nearest_to_list(conn, numbers, limit)", statement, result, first=first)


def similar(statement: str, result: str = "cur.fetchall()") -> str:
    return answer("most_similar(conn, vector, limit)", statement, result)


def within(statement: str, result: str = "cur.fetchall()") -> str:
    return answer("within(conn, vector, threshold, limit)", statement, result)


def normalise(statement: str, result: str = "cur.rowcount") -> str:
    return answer("normalise(conn)", statement, result)


UPDATE = "UPDATE items SET embedding = l2_normalize(embedding)"
NEEDED = "vector_norm(embedding) > 0 AND abs(vector_norm(embedding) - 1) > 1e-6"

DIVIDED = (
    "(SELECT array_agg(x / (SELECT {}(abs(y)) FROM unnest(embedding::real[]) AS y)) "
    "FROM unnest(embedding::real[]) AS x)::vector"
)


def bits(statement: str, result: str = "cur.fetchall()") -> str:
    return answer("nearest_bits(conn, vector, limit)", statement, result)


BITS = "binary_quantize(embedding) {} binary_quantize({{vector}}::vector)"
HAMMING = BITS.format("<~>")


def recommend(
    similarity: str = "1 - (embedding <=> {vector})",
    where: str = "name <> {name} AND vector_norm(embedding) > 0",
    order: str = "similarity DESC",
    find: str = "cur.execute('SELECT embedding FROM items WHERE name = %s', [name])",
) -> str:
    """An answer to the last question, in which one bug can be left."""
    text = f"SELECT name, {similarity} AS similarity FROM items WHERE {where} ORDER BY {order} LIMIT {{limit}}"
    for name in ("vector", "limit", "name"):
        text = text.replace(f"{{{name}}}", f"%({name})s")
    return (
        "def recommend(conn, name, limit):\n    with conn, conn.cursor() as cur:\n"
        f"        {find}\n        (vector,) = cur.fetchone()\n"
        f"        cur.execute('''{text}''', locals())\n        return cur.fetchall()"
    )


WRONG_ANSWERS = {
    "distances.nearest": {
        "always cosine": (
            nearest(NEAREST.replace("<>", "<=>")),
            "The result for 'l2' holds cosine distances, not Euclidean distances",
        ),
        "L1 and L2 changed about": (
            nearest(NEAREST, OPERATORS | {"l1": "<->", "l2": "<+>"}),
            "The result for 'l2' holds L1 distances, not Euclidean distances",
        ),
        "takes inner product for cosine": (
            nearest(NEAREST, OPERATORS | {"cosine": "<#>"}),
            "The result for 'cosine' holds negative inner products, not cosine distances",
        ),
        "the inner product without its minus": (
            nearest(NEAREST, OPERATORS | {"inner_product": "<#>"})
            .replace("embedding {operator}", "{sign} embedding {operator}")
            .replace("    with conn", "    sign = '-1 *' if metric == 'inner_product' else ''\n    with conn")
            .replace("{sign} embedding {operator} %(vector)s", "{sign} (embedding {operator} %(vector)s)"),
            "The result for 'inner_product' holds inner products, not negative inner products",
        ),
        "the largest inner product last": (
            nearest(NEAREST.replace("ORDER BY d", "ORDER BY d {order}")).replace(
                "    with conn", "    order = 'DESC' if metric == 'inner_product' else ''\n    with conn"
            ),
            "The result for 'inner_product' is out of order at place .*: the smallest comes first",
        ),
        "no order among ties": (
            nearest(NEAREST.replace("ORDER BY d, id", "ORDER BY d")),
            "The result for 'l2' is right but for rows at the same distance: of these the smallest id comes first",
        ),
        "ties the wrong way": (
            nearest(NEAREST.replace("ORDER BY d, id", "ORDER BY d, id DESC")),
            "The result for 'l2' is right but for rows at the same distance",
        ),
        "sorts in Python what LIMIT had cut off": (
            nearest(
                NEAREST.replace("ORDER BY d, id", "ORDER BY d"),
                result="sorted(cur.fetchall(), key=lambda row: (row[1], row[0]))",
            ),
            "The result for 'l2' is right but for rows at the same distance",
        ),
        "rows without an embedding": (
            nearest(NEAREST.replace("WHERE embedding IS NOT NULL", "")),
            "The result for a large limit holds a distance that is None, NULL in the database",
        ),
        "the ids alone": (
            nearest(NEAREST, result="[id for id, d in cur.fetchall()]"),
            "Each item of the result for 'l2' should be a tuple; it is an int",
        ),
        "whole rows": (
            nearest(NEAREST.replace("SELECT id", "SELECT id, name")),
            r"Each item of the result for 'l2' should be \(id, distance\); it holds 3 values",
        ),
        "leaves the look-up to fail": (
            nearest(NEAREST, known=f"    operator = {OPERATORS}[metric]\n"),
            "For the metric 'euclid', which there is not, it raises KeyError and not ValueError",
        ),
        "takes any other metric for cosine": (
            nearest(NEAREST, known=f"    operator = {OPERATORS}.get(metric, '<=>')\n"),
            "The metric 'euclid', which there is not, is passed over in silence: raise a ValueError",
        ),
        "binds the operator": (
            nearest(NEAREST.replace("<>", "%(operator)s")),
            "nearest raised SyntaxError(.|\n)*An operator cannot be bound",
        ),
        "leaves the transaction open": (
            nearest(NEAREST).replace("with conn, conn.cursor()", "with conn.cursor()"),
            "A transaction is still open",
        ),
    },
    "distances.nearest_to_list": {
        "no cast": (
            to_list("SELECT id FROM items ORDER BY embedding <=> {numbers} LIMIT {limit}"),
            r"nearest_to_list raised UndefinedFunction: operator does not exist: vector <=> numeric\[\]",
        ),
        "a tuple": (
            to_list(
                "SELECT id FROM items ORDER BY embedding <=> {numbers}::vector LIMIT {limit}",
                first="    numbers = tuple(numbers)\n",
            ),
            "nearest_to_list raised CannotCoerce: cannot cast type record to vector",
        ),
        "a list of NumPy's numbers": (
            to_list(
                "SELECT id FROM items ORDER BY embedding <=> {numbers}::vector LIMIT {limit}",
                first="    numbers = list(np.array(numbers, np.float32))\n",
            ),
            "nearest_to_list raised ProgrammingError: can't adapt type 'numpy.float32'",
        ),
        "the text of an array": (
            to_list(
                "SELECT id FROM items ORDER BY embedding <=> {numbers}::vector LIMIT {limit}",
                first="    numbers = str(np.array(numbers))\n",
            ),
            "nearest_to_list raised InvalidTextRepresentation: invalid input syntax for type vector",
        ),
        "Euclidean distance": (
            to_list("SELECT id FROM items ORDER BY embedding <-> {numbers}::vector LIMIT {limit}"),
            "The result is ranked by Euclidean distances, not by cosine distances",
        ),
        "inner product": (
            to_list("SELECT id FROM items ORDER BY embedding <#> {numbers}::vector LIMIT {limit}"),
            "The result is ranked by negative inner products, not by cosine distances",
        ),
        "the farthest first": (
            to_list(
                "SELECT id FROM items WHERE embedding IS NOT NULL ORDER BY embedding <=> {numbers}::vector DESC "
                "LIMIT {limit}"
            ),
            "The result is ranked by cosine similarities, not by cosine distances",
        ),
        "rows for ids": (
            to_list("SELECT id FROM items ORDER BY embedding <=> {numbers}::vector LIMIT {limit}", "cur.fetchall()"),
            "Each item of the result should be an int; it is a tuple",
        ),
        "whole numbers only": (
            to_list(
                "SELECT id FROM items ORDER BY embedding <=> {numbers}::vector LIMIT {limit}",
                first="    numbers = [int(number) for number in numbers]\n",
            ),
            "The result (is the wrong|is out of order|is not the nearest)",
        ),
    },
    "distances.most_similar": {
        "sorts by the similarity": (
            similar(
                "SELECT id, 1 - (embedding <=> {vector}) FROM items "
                "ORDER BY 1 - (embedding <=> {vector}) DESC LIMIT {limit}"
            ),
            "The result holds a similarity that is None, NULL in the database",
        ),
        "sorts by the similarity, without NULL": (
            similar(
                "SELECT id, 1 - (embedding <=> {vector}) AS similarity FROM items WHERE embedding IS NOT NULL "
                "ORDER BY similarity DESC LIMIT {limit}"
            ),
            "The result holds a similarity that is NaN, as of a zero vector",
        ),
        "sorts by the similarity, without gaps": (
            similar(
                "SELECT id, 1 - (embedding <=> {vector}) AS similarity FROM items WHERE vector_norm(embedding) > 0 "
                "ORDER BY similarity DESC LIMIT {limit}"
            ),
            "PostgreSQL cannot use the index for this query",
        ),
        "sorts by the function": (
            similar(
                "SELECT id, 1 - cosine_distance(embedding, {vector}) FROM items "
                "ORDER BY cosine_distance(embedding, {vector}) LIMIT {limit}"
            ),
            "PostgreSQL cannot use the index for this query",
        ),
        "1 minus Euclidean distance": (
            similar("SELECT id, 1 - (embedding <-> {vector}) FROM items ORDER BY embedding <-> {vector} LIMIT {limit}"),
            "The result holds 1 minus the Euclidean distances, not cosine similarities",
        ),
        "sorts by Euclidean distance": (
            similar("SELECT id, 1 - (embedding <=> {vector}) FROM items ORDER BY embedding <-> {vector} LIMIT {limit}"),
            "The result is ranked by Euclidean distances, not by cosine distances",
        ),
        "distances": (
            similar("SELECT id, embedding <=> {vector} FROM items ORDER BY embedding <=> {vector} LIMIT {limit}"),
            "The result holds cosine distances, not cosine similarities",
        ),
        "inner products": (
            similar("SELECT id, -(embedding <#> {vector}) FROM items ORDER BY embedding <=> {vector} LIMIT {limit}"),
            "The result holds inner products, not cosine similarities",
        ),
        "the least similar first": (
            similar(
                "SELECT id, 1 - (embedding <=> {vector}) AS similarity FROM items WHERE vector_norm(embedding) > 0 "
                "ORDER BY similarity LIMIT {limit}"
            ),
            "The result is out of order at place 2: the largest comes first",
        ),
        "cuts off in Python": (
            similar(
                "SELECT id, 1 - (embedding <=> {vector}) FROM items ORDER BY embedding <=> {vector}",
                "cur.fetchall()[:limit]",
            ),
            "The query fetched 40 rows, and `limit` was 7: write the limit into the SQL",
        ),
        "rounds": (
            similar(
                "SELECT id, round((1 - (embedding <=> {vector}))::numeric, 2)::float FROM items "
                "ORDER BY embedding <=> {vector} LIMIT {limit}"
            ),
            r"The similarity in the tuples is wrong \(.*\). Was it rounded",
        ),
        "leaves the transaction open": (
            similar(
                "SELECT id, 1 - (embedding <=> {vector}) FROM items ORDER BY embedding <=> {vector} LIMIT {limit}"
            ).replace("with conn, conn.cursor()", "with conn.cursor()"),
            "A transaction is still open",
        ),
    },
    "distances.within": {
        "lets NaN through": (
            within(
                "SELECT id, 1 - (embedding <=> {vector}) FROM items WHERE 1 - (embedding <=> {vector}) >= {threshold} "
                "ORDER BY embedding <=> {vector} LIMIT {limit}"
            ),
            "The result holds a similarity that is NaN, as of a zero vector",
        ),
        "sorts by the similarity": (
            within(
                "SELECT id, 1 - (embedding <=> {vector}) AS s FROM items "
                "WHERE embedding <=> {vector} <= 1 - {threshold} ORDER BY s DESC LIMIT {limit}"
            ),
            "PostgreSQL cannot use the index for this query",
        ),
        "no limit": (
            within(
                "SELECT id, 1 - (embedding <=> {vector}) FROM items WHERE embedding <=> {vector} <= 1 - {threshold} "
                "ORDER BY embedding <=> {vector}"
            ),
            "The result holds 20 items, and `limit` was 6",
        ),
        "the limit in Python": (
            within(
                "SELECT id, 1 - (embedding <=> {vector}) FROM items WHERE embedding <=> {vector} <= 1 - {threshold} "
                "ORDER BY embedding <=> {vector}",
                "cur.fetchmany(limit)",
            ),
            "The query fetched 20 rows, and `limit` was 6: write the limit into the SQL",
        ),
        "no threshold": (
            within(
                "SELECT id, 1 - (embedding <=> {vector}) FROM items WHERE vector_norm(embedding) > 0 "
                "ORDER BY embedding <=> {vector} LIMIT {limit}"
            ),
            r"The similarity of the row \d+ is less than the threshold",
        ),
        "the threshold taken for a distance": (
            within(
                "SELECT id, 1 - (embedding <=> {vector}) FROM items WHERE embedding <=> {vector} <= {threshold} "
                "ORDER BY embedding <=> {vector} LIMIT {limit}"
            ),
            "These are the rows whose distance is at most the threshold, which is one of similarity",
        ),
        "sorts by Euclidean distance": (
            within(
                "SELECT id, 1 - (embedding <=> {vector}) FROM items WHERE embedding <=> {vector} <= 1 - {threshold} "
                "ORDER BY embedding <-> {vector} LIMIT {limit}"
            ),
            "The result is ranked by Euclidean distances, not by cosine distances",
        ),
        "a little less than the threshold": (
            within(
                "SELECT id, 1 - (embedding <=> {vector}) FROM items "
                "WHERE embedding <=> {vector} <= 1 - {threshold} + 0.001 ORDER BY embedding <=> {vector} LIMIT {limit}"
            ),
            r"The similarity of the row \d+ is less than the threshold",
        ),
        "more than the threshold": (
            within(
                "SELECT id, 1 - (embedding <=> {vector}) FROM items WHERE embedding <=> {vector} < 1 - {threshold} "
                "ORDER BY embedding <=> {vector} LIMIT {limit}"
            ),
            "A row whose similarity equals the threshold is missing",
        ),
        "returns distances": (
            within(
                "SELECT id, embedding <=> {vector} FROM items WHERE embedding <=> {vector} <= 1 - {threshold} "
                "ORDER BY embedding <=> {vector} LIMIT {limit}"
            ),
            "The result holds cosine distances, not cosine similarities",
        ),
        "no order": (
            within(
                "SELECT id, 1 - (embedding <=> {vector}) FROM items WHERE embedding <=> {vector} <= 1 - {threshold} "
                "ORDER BY id LIMIT {limit}"
            ),
            "The result is out of order at place .: the largest comes first",
        ),
        "the farthest of those within": (
            within(
                "SELECT id, s FROM (SELECT id, 1 - (embedding <=> {vector}) AS s FROM items "
                "WHERE embedding <=> {vector} <= 1 - {threshold} ORDER BY s LIMIT {limit}) AS far ORDER BY s DESC"
            ),
            "The result is not the nearest: something nearer is missing",
        ),
    },
    "distances.normalise": {
        "divides by the sum": (
            normalise(f"UPDATE items SET embedding = {DIVIDED.format('sum')} WHERE {NEEDED}"),
            r"The vector of the row \d+ has the length 0\.\d+",
        ),
        "divides by the largest": (
            normalise(f"UPDATE items SET embedding = {DIVIDED.format('max')} WHERE {NEEDED}"),
            r"The vector of the row \d+ has the length \d+\.\d+",
        ),
        "all to one direction": (
            normalise(
                "UPDATE items SET embedding = (SELECT l2_normalize(array_agg(abs(x))::vector) "
                f"FROM unnest(embedding::real[]) x) WHERE {NEEDED}"
            ),
            r"The vector of the row \d+ has length 1, and points in another direction than before",
        ),
        "the signs turned": (
            normalise(
                f"UPDATE items SET embedding = l2_normalize(embedding * '[-1, -1]'::vector) WHERE {NEEDED}"
            ).replace("'[-1, -1]'::vector", "array_fill(-1, ARRAY[vector_dims(embedding)])::vector"),
            r"The vector of the row \d+ has length 1, and points in another direction than before",
        ),
        "forgets to commit": (
            normalise(f"{UPDATE} WHERE {NEEDED}").replace("with conn, conn.cursor()", "with conn.cursor()"),
            "A transaction is still open. End it: commit",
        ),
        "every row": (
            normalise(UPDATE),
            r"The row \d+, which has no embedding, was written anew: leave such rows out",
        ),
        "zero vectors too": (
            normalise(f"{UPDATE} WHERE abs(vector_norm(embedding) - 1) > 1e-6"),
            r"The row \d+, which is the zero vector, was written anew",
        ),
        "those of length 1 too": (
            normalise(f"{UPDATE} WHERE vector_norm(embedding) > 0"),
            r"The row \d+, which had length 1 already, give or take 1e-6, was written anew",
        ),
        "length 1 to the last bit": (
            normalise(
                "UPDATE items SET embedding = l2_normalize(embedding) WHERE vector_norm(embedding) NOT IN (0, 1)"
            ),
            r"The row \d+, which had length 1 already, give or take 1e-6, was written anew",
        ),
        "a tolerance of 1e-3": (
            normalise(f"{UPDATE} WHERE {NEEDED.replace('1e-6', '1e-3')}"),
            r"The vector of the row \d+ has the length (1\.0000|0\.9999)",
        ),
        "a tolerance of 0.1": (
            normalise(f"{UPDATE} WHERE {NEEDED.replace('1e-6', '0.1')}"),
            r"The vector of the row \d+ has the length 1\.0000",
        ),
        "length 1 to two places": (
            normalise(f"{UPDATE} WHERE vector_norm(embedding) > 0 AND round(vector_norm(embedding)::numeric, 2) <> 1"),
            r"The vector of the row \d+ has the length 1\.0000",
        ),
        "zero vectors to NULL": (
            normalise(
                "UPDATE items SET embedding = CASE WHEN vector_norm(embedding) > 0 THEN l2_normalize(embedding) END "
                "WHERE abs(vector_norm(embedding) - 1) > 1e-6"
            ),
            r"The row \d+ has lost its embedding",
        ),
        "NULL to zero": (
            normalise(
                "UPDATE items SET embedding = COALESCE(l2_normalize(embedding), "
                "array_fill(0, ARRAY[(SELECT max(vector_dims(embedding)) FROM items)])::vector)"
            ),
            r"The row \d+ had no embedding, and has one now",
        ),
        "deletes what has no length": (
            normalise(f"DELETE FROM items WHERE vector_norm(embedding) = 0; {UPDATE}"),
            "The column id or name holds 28 rows, which is too few",
        ),
        "a statement a row": (
            "def normalise(conn):\n    with conn, conn.cursor() as cur:\n"
            f"        cur.execute('SELECT id, l2_normalize(embedding) FROM items WHERE {NEEDED}')\n"
            "        rows = cur.fetchall()\n"
            "        for id, vector in rows:\n"
            "            cur.execute('UPDATE items SET embedding = %s WHERE id = %s', [vector, id])\n"
            "        return len(rows)",
            r"2\d statements of UPDATE were sent; one is enough",
        ),
        "many statements in one text": (
            "from psycopg2.extras import execute_batch\ndef normalise(conn):\n    with conn, conn.cursor() as cur:\n"
            f"        cur.execute('SELECT l2_normalize(embedding), id FROM items WHERE {NEEDED}')\n"
            "        rows = cur.fetchall()\n"
            "        execute_batch(cur, 'UPDATE items SET embedding = %s WHERE id = %s', rows)\n"
            "        return len(rows)",
            "Several statements were sent in one go; a single UPDATE changes all the rows",
        ),
        "only looks": (
            normalise("SELECT l2_normalize(embedding) FROM items"),
            "No row was changed: was an UPDATE sent",
        ),
        "returns nothing": (
            normalise(f"{UPDATE} WHERE {NEEDED}", "None"),
            "The result should be an int; it is None. Does the function end with a return",
        ),
        "counts every row": (
            normalise(f"{UPDATE} WHERE {NEEDED}", "30"),
            "The number of rows that is returned is wrong",
        ),
    },
    "distances.nearest_bits": {
        "Jaccard": (
            bits(
                f"SELECT id, {BITS.format('<%%>')} AS d FROM items "
                "WHERE embedding IS NOT NULL ORDER BY d, id LIMIT {limit}"
            ),
            "The result holds Jaccard distances, not Hamming distances",
        ),
        "the distance of the vectors": (
            bits(
                "SELECT id, embedding <-> {vector} AS d FROM items "
                "WHERE embedding IS NOT NULL ORDER BY d, id LIMIT {limit}"
            ),
            "The result holds Euclidean distances, not Hamming distances",
        ),
        "the cosine distance of the vectors": (
            bits(
                "SELECT id, embedding <=> {vector} AS d FROM items "
                "WHERE embedding IS NOT NULL ORDER BY d, id LIMIT {limit}"
            ),
            "The result holds cosine distances, not Hamming distances",
        ),
        "takes 0 for positive": (
            bits(
                "SELECT id, binary_quantize(embedding) <~> {vector}::text::bit varying AS d FROM items "
                "WHERE embedding IS NOT NULL ORDER BY d, id LIMIT {limit}"
            ).replace("    with conn", "    vector = ''.join('01'[int(x >= 0)] for x in vector)\n    with conn"),
            "The distance in the tuples is wrong",
        ),
        "bits that agree": (
            bits(
                f"SELECT id, vector_dims(embedding) - ({HAMMING}) AS d FROM items WHERE embedding IS NOT NULL "
                "ORDER BY d DESC, id LIMIT {limit}"
            ),
            "The result holds numbers of bits that agree, not Hamming distances",
        ),
        "no order among ties": (
            bits(f"SELECT id, {HAMMING} AS d FROM items WHERE embedding IS NOT NULL ORDER BY d LIMIT {{limit}}"),
            "The result is right but for rows at the same distance: of these the smallest id comes first",
        ),
        "ranked by the vectors": (
            bits(
                f"SELECT id, {HAMMING} AS d FROM items WHERE embedding IS NOT NULL "
                "ORDER BY embedding <=> {vector} LIMIT {limit}"
            ),
            "The result is out of order at place .*: the smallest comes first",
        ),
        "rows without an embedding": (
            bits(f"SELECT id, {HAMMING} AS d FROM items ORDER BY d, id LIMIT {{limit}}"),
            "The result holds a distance that is None, NULL in the database",
        ),
        "no cast": (
            bits(f"SELECT id, {HAMMING} AS d FROM items ORDER BY d, id LIMIT {{limit}}".replace("::vector", "")),
            r"nearest_bits raised AmbiguousFunction: function binary_quantize\(unknown\) is not unique",
        ),
        "vectors for bits": (
            bits("SELECT id, embedding <~> {vector} AS d FROM items ORDER BY d, id LIMIT {limit}"),
            "nearest_bits raised UndefinedFunction: operator does not exist: vector <~> ",
        ),
        "without the zero vector": (
            bits(
                f"SELECT id, {HAMMING} AS d FROM items WHERE vector_norm(embedding) > 0 ORDER BY d, id LIMIT {{limit}}"
            ),
            "The result holds 56 items, which is too few",
        ),
    },
    "distances.mend": {
        "as it was found": (
            "def recommend(conn, name, limit):\n"
            "    cur = conn.cursor()\n"
            "    cur.execute(f\"SELECT embedding FROM items WHERE name = '{name}'\")\n"
            "    (vector,) = cur.fetchone()\n"
            '    cur.execute(f"""\n'
            "        SELECT name, 1 - (embedding <-> '{vector.to_text()}') AS similarity\n"
            "        FROM items\n"
            "        WHERE name <> '{name}'\n"
            "        ORDER BY similarity DESC\n"
            '        LIMIT {limit}""")\n'
            "    return cur.fetchall()",
            "The result holds a similarity that is None, NULL in the database",
        ),
        "Euclidean distance left in": (
            recommend("1 - (embedding <-> {vector})"),
            "The result holds 1 minus the Euclidean distances, not cosine similarities",
        ),
        "the inner product instead": (
            recommend("-(embedding <#> {vector})"),
            "The result holds inner products, not cosine similarities",
        ),
        "NULL left in": (
            recommend(where="name <> {name}"),
            "The result holds a similarity that is None, NULL in the database",
        ),
        "NaN left in": (
            recommend(where="name <> {name} AND embedding IS NOT NULL"),
            "The result holds a similarity that is NaN, as of a zero vector",
        ),
        "NULL and NaN at the end": (
            recommend(where="name <> {name}", order="embedding <=> {vector}"),
            "The result holds a similarity that is (None|NaN)",
        ),
        "the name pasted in": (
            recommend(find="cur.execute(f\"SELECT embedding FROM items WHERE name = '{name}'\")"),
            "recommend raised SyntaxError(.|\n)*Is every value bound with %s, and none pasted into the SQL",
        ),
        "the item itself": (
            recommend(where="vector_norm(embedding) > 0"),
            "The result holds the item itself",
        ),
        "leaves out the vector, not the item": (
            recommend(where="embedding <> {vector} AND vector_norm(embedding) > 0"),
            "The result lacks '.*', another item with the same vector",
        ),
        "drops what comes first": (
            recommend(where="vector_norm(embedding) > 0")
            .replace("LIMIT %(limit)s", "LIMIT %(limit)s + 1")
            .replace("cur.fetchall()", "cur.fetchall()[1:]"),
            "The result (holds the item itself|lacks '.*', another item with the same vector)",
        ),
        "the least similar first": (
            recommend(order="similarity"),
            "The result is out of order at place 2: the largest comes first",
        ),
        "leaves the transaction open": (
            recommend().replace("with conn, conn.cursor()", "with conn.cursor()"),
            "A transaction is still open",
        ),
    },
}
