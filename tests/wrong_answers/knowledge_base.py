"""What learners write for the knowledge base that is not right, and words of the message that each must get."""

PASSAGES = """
def right():
    from pydoc_data.topics import topics
    found = []
    for topic in ("class", "comparisons", "function", "import", "naming", "objects", "raise", "strings", "try", "with"):
        for number, paragraph in enumerate(topics[topic].split("\\n\\n")):
            if 150 <= len(paragraph) <= 800 and not paragraph.startswith((" ", "+")):
                found.append({{"title": topic, "content": paragraph, "source": f"{{topic}} {{number}}"}})
    return found

def passages():
    from pydoc_data.topics import topics
    found = right()
    {change}
    return {result}
"""


def passages(result="found", change="pass"):
    """A right answer with something changed."""
    return PASSAGES.format(result=result, change=change)


CREATE = '''
def create_table(conn):
    {begin}
        cur.execute("""
            {drop}
            CREATE TABLE passages (
                {id},
                {texts},
                embedding {type}
            );
            {comment};
            {index}
            """, {{"dimension": embedding_dimension(), "model": embedding_model()}})
'''


def create_table(**changes):
    """The solution of `create_table` with something changed."""
    right = {
        "begin": "with conn, conn.cursor() as cur:",
        "drop": "DROP TABLE IF EXISTS passages;",
        "id": "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "texts": "title text NOT NULL, content text NOT NULL, source text NOT NULL",
        "type": "vector(%(dimension)s) NOT NULL",
        "comment": "COMMENT ON COLUMN passages.embedding IS %(model)s",
        "index": "CREATE INDEX ON passages USING hnsw (embedding vector_cosine_ops)",
    }
    return CREATE.format(**right | changes)


LOAD = """
def load(conn, texts):
    vectors = {vectors}
    rows = [(text["title"], text["content"], text["source"], vector) for text, vector in zip(texts, vectors)]
    {load}
"""

BOTH = "embed(embedded_text(pd.DataFrame(texts)))"
INSERT = '"INSERT INTO passages (title, content, source, embedding) VALUES %s", rows'


def load(*lines, vectors=BOTH):
    """The solution of `load` with another end, or with other vectors."""
    right = ["with conn, conn.cursor() as cur:", "    cur.execute('DELETE FROM passages')", ONE_STATEMENT]
    return LOAD.format(vectors=vectors, load="\n    ".join(lines or right))


ONE_STATEMENT = f"    execute_values(cur, {INSERT})"
ONE_ROW = "cur.execute('INSERT INTO passages (title, content, source, embedding) VALUES (%s, %s, %s, %s)', row)"

SEARCH = '''
def most_relevant(conn, question):
    {empty}
    with conn:
        return query(conn, """
            SELECT id, title, {content}, source, {distance} AS distance
            FROM passages
            ORDER BY {order}
            {limit}""", {{"vector": get_embedding({text})}}){result}
'''

REFUSE = "if not question.strip():\n        raise ValueError('The question is empty.')"


def search(**changes):
    """The solution of `most_relevant` with something changed."""
    right = {
        "empty": REFUSE,
        "content": "content",
        "distance": "embedding <=> %(vector)s",
        "order": "distance, id",
        "limit": "LIMIT 3",
        "text": "question",
        "result": ".to_dict('records')",
    }
    return SEARCH.format(**right | changes)


UPDATE = """
def update(conn, id, content):
    with conn, conn.cursor() as cur:
        cur.execute("SELECT title FROM passages WHERE id = %s", [id])
        row = cur.fetchone()
        {missing}
        cur.execute("UPDATE passages SET {set} {where}", {{"content": content, "vector": {vector}, "id": id}})
        return {result}
"""


def update(**changes):
    """The solution of `update` with something changed."""
    right = {
        "missing": "if row is None: return False",
        "set": "content = %(content)s, embedding = %(vector)s",
        "where": "WHERE id = %(id)s",
        "vector": "get_embedding(row[0] + '\\n' + content)",
        "result": "True",
    }
    return UPDATE.format(**right | changes)


PROMPT = """
def prompt(question, found):
    sources = "\\n\\n".join(
        {source} for number, passage in enumerate(found, start={first})
    )
    system = {system}
    return {result}
"""

SOURCE = "f\"[{number}] {passage['title']}\\n\" + textwrap.indent(passage['content'], '    ')"
SYSTEM = '"Answer from the sources alone, cite them as [2], and if they do not say, reply with I don\'t know."'


def prompt(
    source=SOURCE, first=1, system=SYSTEM, user="f'Sources:\\n\\n{sources}\\n\\nQuestion: {question}'", result=""
):
    """The solution of `prompt` with something changed."""
    messages = f"[{{'role': 'system', 'content': system}}, {{'role': 'user', 'content': {user}}}]"
    return PROMPT.format(source=source, first=first, system=system, result=result or messages)


CITED = r"""
def cited(text, found):
    numbers = {numbers}
    return (
        [{item} for number in numbers {known}],
        [{unknown} for number in numbers if not 1 <= number <= len(found)],
    )
"""

NUMBERS = r"dict.fromkeys(map(int, re.findall(r'\[(\d+)\]', text)))"


def cited(numbers=NUMBERS, item="found[number - 1]", known="if 1 <= number <= len(found)", unknown="number"):
    """The solution of `cited` with something changed."""
    return CITED.format(numbers=numbers, item=item, known=known, unknown=unknown)


ANSWER = """
def answer(conn, question):
    found = most_relevant(conn, question)
    reply = openai_client().chat.completions.create(model={model}, messages={messages})
    text = {text}
    return {result}
"""


def answer(
    model="chat_model()",
    messages="prompt(question, found)",
    text="reply.choices[0].message.content",
    result="text, *cited(text, found)",
):
    """The solution of `answer` with something changed."""
    return ANSWER.format(model=model, messages=messages, text=text, result=result)


BUILD_PROMPT = "from pgv_helpers import build_prompt\n\ndef prompt(question, found):\n    return {result}\n"

OTHER_RIGHT_ANSWERS = {
    "knowledge_base.most_relevant": {
        "sorted once more": search(order="embedding <=> %(vector)s, id").replace(
            ".to_dict", ".sort_values(['distance', 'id']).to_dict"
        ),
    },
    "knowledge_base.prompt": {
        "the helper": BUILD_PROMPT.format(result="build_prompt(question, found)"),
    },
    "knowledge_base.cited": {
        "several numbers in one pair of brackets": cited(
            numbers=r"dict.fromkeys(int(number) for mark in re.findall(r'\[\d+(?:, *\d+)*\]', text) "
            r"for number in re.findall(r'\d+', mark))"
        ),
    },
    "knowledge_base.answer": {
        "the helper's prompt": BUILD_PROMPT.format(result="build_prompt(question, found)") + answer(),
        "the helper": "from pgv_helpers import answer_from\n\ndef answer(conn, question):\n"
        "    found = most_relevant(conn, question)\n"
        "    text = answer_from(question, found).text\n"
        "    return text, *cited(text, found)\n",
    },
}

WRONG_ANSWERS = {
    "knowledge_base.passages": {
        "too few": (passages("found[:49]"), "There are 49 passages; 50 or more are asked for"),
        "texts alone": (
            passages("[passage['content'] for passage in found]"),
            r"passages\(\)\[0\] should be a dict; it is a str",
        ),
        "a frame": (passages("pd.DataFrame(found)"), "The result should be a list; it is a DataFrame"),
        "a generator": (passages("(passage for passage in found)"), "The result should be a list; it is a generator"),
        "nobody knows where from": (
            passages(change="for passage in found: del passage['source']"),
            r"passages\(\)\[0\] has no 'source'; it has: title, content",
        ),
        "no heading": (
            passages(change="found[7]['title'] = None"),
            r"The title of passages\(\)\[7\] is None; it takes a text",
        ),
        "an empty paragraph": (
            passages(change="found[7]['content'] = '  \\n'"),
            r"The content of passages\(\)\[7\] is empty",
        ),
        "a file read in the wrong encoding": (
            passages(change="found[7]['content'] = found[7]['content'].encode('utf-16').decode('latin-1')"),
            r"The content of passages\(\)\[7\] holds '\\x00', which PostgreSQL cannot store",
        ),
        "half a character": (
            passages(change="found[7]['content'] += '\\udc80'"),
            r"The content of passages\(\)\[7\] holds '\\udc80', which PostgreSQL cannot store",
        ),
        "whole chapters": (
            passages("[{'title': name, 'content': text, 'source': name} for name, text in topics.items()]"),
            r"contents are too (long|short): that of passages\(\)\[\d+\] has \d+ characters, and 100 to 1500",
        ),
        "single sentences": (
            passages("[{**one, 'content': text} for one in found for text in one['content'].split('. ') if text]"),
            r"contents are too short: that of passages\(\)\[\d+\] has \d+ characters",
        ),
        "one of them twice": (
            passages("[*found, {**found[7], 'content': found[7]['content'].upper()}]"),
            r"passages\(\)\[7\] and passages\(\)\[\d+\] have the same content",
        ),
        "the course's own": (
            "def passages():\n    from pgv_helpers import load_passages\n    return load_passages().to_dict('records')",
            r"248 of 248 passages hold sentences of load_passages\(\)",
        ),
        "the course's own, cut once more": (
            "def passages():\n    from pgv_helpers import load_passages\n    return [{**row, 'content': part.strip()} "
            "for row in load_passages().to_dict('records') for part in re.findall(r'(?s).{100,}?[.] |.{100,}', "
            "row['content'])]",
            r"passages hold sentences of load_passages\(\)",
        ),
        "drawn anew": (
            passages("list(np.random.default_rng().permutation(found))"),
            "A second call gave other passages",
        ),
        "more than the model reads": (
            passages(
                "[{'title': 'all', 'content': text[place:place + 1400], 'source': 'all'} "
                "for place in range(0, 70000, 1400)]",
                change="text = ' '.join(topics[name] for name in ('types', 'formatstrings', 'strings', 'class'))",
            ),
            r"passages\(\)\[\d+\] is longer than the model reads: without its last ten characters",
        ),
        "all begin alike": (
            passages(
                change="for passage in found: passage['content'] = 'This was said about the language that is called "
                "Python. ' + passage['content'][:700]"
            ),
            r"Only \d+ of \d+ passages are among the three nearest to their own first sentence",
        ),
        "cut within words": (
            passages(
                "[{'title': 'part', 'content': text[place:place + 200], 'source': 'all'} "
                "for place in range(0, 20000, 200)]",
                change="text = ' '.join(passage['content'] for passage in found)",
            ),
            r"Words are cut in two, at least \d+ times: passages\(\)\[\d+\] ends with",
        ),
        "a window that moves a little": (
            passages(
                "[{'title': 'window', 'content': text[place:place + 500], 'source': 'all'} "
                "for place in range(0, 6000, 60)]",
                change="text = ' '.join(passage['content'] for passage in found)",
            ),
            r"The passages overlap by more than half: of all their text \d+% is different",
        ),
    },
    "knowledge_base.create_table": {
        "does not commit": (
            create_table(begin="with conn.cursor() as cur:"),
            "A transaction is still open. End it: commit",
        ),
        "another name": (create_table().replace("passages", "notes"), "There is no table passages"),
        "another model's dimension": (
            create_table(type="vector(1536) NOT NULL"),
            r"The column embedding is of type vector\(1536\); it should be vector\(384\)",
        ),
        "no dimension": (
            create_table(type="vector NOT NULL", index=""),
            r"The column embedding is of type vector; it should be vector\(384\)",
        ),
        "lets the vector be NULL": (create_table(type="vector(%(dimension)s)"), "The column embedding accepts NULL"),
        "lets the source be NULL": (
            create_table(texts="title text NOT NULL, content text NOT NULL, source text"),
            "The column source accepts NULL",
        ),
        "no source": (
            create_table(texts="title text NOT NULL, content text NOT NULL"),
            "The table passages has no column source",
        ),
        "a small id": (
            create_table(id="id serial PRIMARY KEY"),
            "The column id is of type integer; it should be bigint",
        ),
        "no primary key": (
            create_table(id="id bigint GENERATED ALWAYS AS IDENTITY"),
            "The table passages has no PRIMARY KEY on id",
        ),
        "numbers the rows nowhere": (
            create_table(id="id bigint PRIMARY KEY"),
            "the database does not number the rows",
        ),
        "forgets the model": (
            create_table(comment="SELECT 1"),
            "The table does not say which model its vectors are of: the column embedding has no comment",
        ),
        "a comment on the table": (
            create_table(comment="COMMENT ON TABLE passages IS %(model)s"),
            "the column embedding has no comment",
        ),
        "a sentence about the model": (
            create_table(comment="COMMENT ON COLUMN passages.embedding IS 'made by MiniLM'"),
            "The comment on embedding is 'made by MiniLM'; the name of the model alone",
        ),
        "no index": (create_table(index=""), "The table passages has no hnsw index. It has: btree"),
        "IVFFlat on an empty table": (
            create_table(index="CREATE INDEX ON passages USING ivfflat (embedding vector_cosine_ops)"),
            "The table passages has no hnsw index. It has: .*ivfflat",
        ),
        "an index for Euclidean distance": (
            create_table(index="CREATE INDEX ON passages USING hnsw (embedding vector_l2_ops)"),
            "The hnsw index has the operator class vector_l2_ops, which serves another operator",
        ),
        "keeps the table that is there": (create_table(drop=""), 'relation "passages" already exists'),
        "keeps the rows that are there": (
            create_table(drop="").replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"),
            "the rows of the old table are still there",
        ),
        "the helper's table": (
            "def create_table(conn):\n    create_documents_table(conn, 'passages', replace=True)",
            "The table passages has no column source",
        ),
    },
    "knowledge_base.load": {
        "embeds the content alone": (
            load(vectors="embed([text['content'] for text in texts])"),
            "The vectors are those of the content alone",
        ),
        "embeds the title alone": (
            load(vectors="embed([text['title'] for text in texts])"),
            "The vectors are those of the title alone",
        ),
        "embeds the source as well": (
            load(vectors="embed([' '.join(map(str, text.values())) for text in texts])"),
            "The vectors are not those that the model makes of title, line break and content",
        ),
        "vectors of other passages": (load(vectors=BOTH + "[::-1]"), "The vectors belong to other passages"),
        "adds to what is there": (
            load("with conn, conn.cursor() as cur:", ONE_STATEMENT),
            "passages that were in the table are still there beside the new ones",
        ),
        "does not commit": (
            load("cur = conn.cursor()", "cur.execute('DELETE FROM passages')", ONE_STATEMENT.strip()),
            "A transaction is still open",
        ),
        "deletes for good": (
            load(
                "with conn, conn.cursor() as cur:",
                "    cur.execute('DELETE FROM passages')",
                "with conn, conn.cursor() as cur:",
                ONE_STATEMENT,
            ),
            "now the table is empty: the old ones were gone for good before",
        ),
        "makes the table anew": (
            load("create_table(conn)", "with conn, conn.cursor() as cur:", ONE_STATEMENT),
            "now the table is empty: the old ones were gone for good before",
        ),
        "row by row": (
            load(
                "cur = conn.cursor()",
                "cur.execute('DELETE FROM passages')",
                "for row in rows:",
                f"    {ONE_ROW}",
                "    conn.commit()",
            ),
            r"One of the new passages was refused, and the table, which held \d+, now holds \d, partly new ones",
        ),
        "leaves out what is refused": (
            load(
                "with conn, conn.cursor() as cur:",
                "    cur.execute('DELETE FROM passages')",
                "    for row in rows:",
                f"        if row[2]: {ONE_ROW}",
            ),
            "load ended without an error: the caller has to learn of it",
        ),
        "keeps the error to itself": (
            load(
                "try:",
                "    with conn, conn.cursor() as cur:",
                "        cur.execute('DELETE FROM passages')",
                "    " + ONE_STATEMENT,
                "except psycopg2.Error as error:",
                "    print(error)",
            ),
            "load ended without an error: the caller has to learn of it",
        ),
        "leaves the failed transaction open": (
            load(
                "cur = conn.cursor()",
                "cur.execute('DELETE FROM passages')",
                ONE_STATEMENT.strip(),
                "conn.commit()",
            ),
            "A transaction is still open",
        ),
        "pastes the texts in": (
            load(
                "with conn, conn.cursor() as cur:",
                "    cur.execute('DELETE FROM passages')",
                "    for title, content, source, vector in rows:",
                '        cur.execute(f"INSERT INTO passages (title, content, source, embedding) VALUES '
                "('{title}', '{content}', '{source}', '{vector.tolist()}')\")",
            ),
            r"load raised SyntaxError(.|\n)*Is every value bound with %s",
        ),
        "tidies the texts": (
            load(
                "rows = [(row[0], ' '.join(row[1].split()), *row[2:]) for row in rows]",
                "with conn, conn.cursor() as cur:",
                "    cur.execute('DELETE FROM passages')",
                ONE_STATEMENT,
            ),
            "The table passages is wrong, at least for 'Größe",
        ),
        "source and content mixed up": (
            load().replace("title, content, source, embedding)", "title, source, content, embedding)"),
            "The table passages is wrong, at least for",
        ),
        "the passages are too few": (
            "def passages():\n    return []\n" + load(),
            r"Your `load` is right so far; `passages\(\)` is not yet: There are 0 passages",
        ),
        "half of them": (
            load().replace("rows = [", "rows = [][:0] + [").replace("vectors)]", "vectors)][::2]"),
            r"The table passages holds \d+ rows, which is too few",
        ),
    },
    "knowledge_base.most_relevant": {
        "Euclidean distance": (
            search(distance="embedding <-> %(vector)s"),
            "The distances in the result are Euclidean distances",
        ),
        "inner product": (
            search(distance="embedding <#> %(vector)s"),
            "The distances in the result are negative inner products",
        ),
        "similarities": (
            search(distance="1 - (embedding <=> %(vector)s)", order="embedding <=> %(vector)s, id"),
            "The distances in the result are cosine similarities",
        ),
        "ordered by Euclidean distance": (
            search(order="embedding <-> %(vector)s, id"),
            "The result is (out of order|not the nearest).* Is it sorted by the distance that it returns",
        ),
        "the farthest": (search(order="distance DESC, id"), "The result (is out of order|is not the nearest)"),
        "rounded": (
            search(
                distance="round((embedding <=> %(vector)s)::numeric, 2)::float",
                order="embedding <=> %(vector)s, id",
            ),
            "The distance in the result is wrong.*Was it rounded",
        ),
        "five of them": (search(limit="LIMIT 5"), "The result holds 5 passages, which is too many"),
        "all of them": (search(limit=""), r"The result holds \d+ passages, which is too many"),
        "a frame": (search(result=""), "The result should be a list; it is a DataFrame"),
        "tuples": (
            search(result=".to_records(index=False).tolist()"),
            "Each item of the result should be a dict; it is a tuple",
        ),
        "without the source": (
            search(result=".drop(columns='source').to_dict('records')"),
            "A passage in the result has no 'source'; it has: id, title, content, distance",
        ),
        "texts cut for show": (search(content="left(content, 80) AS content"), "The content beside the id .* is not"),
        "ties as they come": (
            search(order="distance"),
            r"are equally near, and the smaller id comes first|is as near as \d+ and has the smaller id, but is not",
        ),
        "ties by the larger id": (
            search(order="distance, id DESC"),
            r"are equally near, and the smaller id comes first|is as near as \d+ and has the smaller id, but is not",
        ),
        "the id decides after the LIMIT": (
            search(
                order="embedding <=> %(vector)s, id DESC",
                result=".sort_values(['distance', 'id']).to_dict('records')",
            ),
            r"\d+ is as near as \d+ and has the smaller id, but is not among the three: the id has to decide in the",
        ),
        "the function in place of the operator": (
            search(order="cosine_distance(embedding, %(vector)s), id"),
            "The search does not use the index passages_nearest. Its plan is .*Sort",
        ),
        "ordered by similarity": (
            search(order="1 - (embedding <=> %(vector)s) DESC, id"),
            "The search does not use the index passages_nearest. Its plan is .*Sort",
        ),
        "by NumPy": (
            "def most_relevant(conn, question):\n    " + REFUSE + "\n"
            "    with conn:\n"
            "        ids, vectors = read_embeddings(conn, 'passages')\n"
            "        rows, distances = exact_neighbours(vectors, get_embedding(question)[None], 3)\n"
            "        found = query(conn, 'SELECT * FROM passages').set_index('id', drop=False)\n"
            "        found = found.loc[ids[rows[0]]].assign(distance=distances[0])\n"
            "        return found.to_dict('records')",
            "The search does not use the index passages_nearest|and the smaller id comes first",
        ),
        "nothing for an empty question": (
            search(empty="if not question.strip(): return []"),
            "The question '' gave a result; nothing was asked, and a ValueError says so",
        ),
        "spaces are a question": (
            search(empty="if question == '': raise ValueError('The question is empty.')"),
            r"The question ' \\n\\t ' raised a ModelError; a ValueError is asked for",
        ),
        "leaves an empty question to the model": (
            search(empty=""),
            "The question '' raised a ModelError; a ValueError is asked for",
        ),
        "leaves the transaction open": (
            search().replace("with conn:", "if True:"),
            "A transaction is still open",
        ),
        "pastes the question in": (
            "def most_relevant(conn, question):\n    " + REFUSE + "\n"
            "    with conn:\n"
            '        return query(conn, f"SELECT id, title, content, source, embedding <=> %s AS distance, '
            "'{question}' AS question FROM passages ORDER BY distance, id LIMIT 3\", "
            "[get_embedding(question)]).to_dict('records')",
            "most_relevant raised (SyntaxError|TypeError|IndexError|ValueError)",
        ),
        "another text": (
            search(text="question.upper() + ' passages about'"),
            "The result is|The distance in the result",
        ),
        "the passages are the stub": (
            "def passages():\n    raise NotImplementedError()\n" + search(),
            "`passages` is still to be written, and here your own passages are asked for",
        ),
    },
    "knowledge_base.update": {
        "the text alone": (
            update(set="content = %(content)s"),
            "The vector is still that of the old text: the passage is found by what it no longer says",
        ),
        "the vector alone": (
            update(set="embedding = %(vector)s"),
            r"The content of the passage \d+ is not the new text",
        ),
        "the vector of the content alone": (
            update(vector="get_embedding(content)"),
            "The new vector is that of the content alone; title and content are embedded together",
        ),
        "the vector of the title alone": (
            update(vector="get_embedding(row[0])"),
            "The new vector is not that of title, line break and new content",
        ),
        "every passage": (update(where=""), r"Another passage, \d+ was changed as well"),
        "every vector": (
            update(
                set="content = CASE id WHEN %(id)s THEN %(content)s ELSE content END, embedding = %(vector)s", where=""
            ),
            "The vectors of other passages were changed as well",
        ),
        "the title as well": (
            update(set="title = 'revised', content = %(content)s, embedding = %(vector)s"),
            r"Title or source of the passage \d+ was changed as well",
        ),
        "a new row in its place": (
            "def update(conn, id, content):\n"
            "    with conn, conn.cursor() as cur:\n"
            "        cur.execute('DELETE FROM passages WHERE id = %s RETURNING title, source', [id])\n"
            "        title, source = cur.fetchone()\n"
            "        vector = get_embedding(title + '\\n' + content)\n"
            "        cur.execute('INSERT INTO passages (title, content, source, embedding) VALUES (%s, %s, %s, %s)', "
            "[title, content, source, vector])\n"
            "        return True",
            r"The passage \d+ is no longer in the table under its id|duplicate key",
        ),
        "does not commit": (
            update().replace("with conn, conn.cursor() as cur:", "with conn.cursor() as cur:"),
            "A transaction is still open",
        ),
        "says nothing": (update(result="None"), "The result should be a bool; it is None"),
        "how many": (update(result="cur.rowcount"), "The result should be a bool; it is an int"),
        "no such passage is an error": (update(missing=""), "update raised TypeError: 'NoneType' object"),
        "always true": (
            update(missing="row = row or ['']"),
            "The result says True; there was no passage with this id",
        ),
        "never true": (update(result="False"), "The result says False; there was such a passage with this id"),
        "adds what is missing": (
            update(
                missing="if row is None:\n"
                "            row = ['new']\n"
                '            cur.execute("INSERT INTO passages (id, title, content, source, embedding) VALUES '
                "(%s, 'new', %s, 'new', %s)\", [id, content, get_embedding(content)])"
            ),
            "There is no passage with this id: the table passages was changed",
        ),
        "pastes the text in": (
            update().replace("content = %(content)s", "content = '\" + content + \"'"),
            "update raised (SyntaxError|TypeError|ValueError|IndexError)",
        ),
    },
    "knowledge_base.prompt": {
        "one text": (
            prompt(result="system + sources + question"),
            "The result should be a list; it is a str",
        ),
        "all in the user's message": (
            prompt(result="[{'role': 'user', 'content': f'{system}\\n\\n{sources}\\n\\n{question}'}]"),
            r"The roles of the messages are \['user'\]; the first is the system's",
        ),
        "the system last": (
            prompt(
                result="[{'role': 'user', 'content': sources + question}, {'role': 'system', 'content': system}]",
            ),
            r"The roles of the messages are \['user', 'system'\]",
        ),
        "no way to decline": (
            prompt(system="'Answer from the sources alone, and cite them as [2].'"),
            "The system message does not give the words by which to decline",
        ),
        "no example of a citation": (
            prompt(system='"Answer from the sources, cite them, or reply I don\'t know."'),
            "The system message does not show what a citation looks like",
        ),
        "counts from 0": (prompt(first=0), "The first source has the number 0; it takes 1"),
        "no numbers": (
            prompt(source="passage['title'] + '\\n' + textwrap.indent(passage['content'], '    ')"),
            "No line of the user's message begins with the number of a source",
        ),
        "numbers of another form": (
            prompt(source=SOURCE.replace("[{number}]", "{number}.")),
            "No line of the user's message begins with the number of a source",
        ),
        "ids for numbers": (
            prompt(source=SOURCE.replace("{number}", "{passage['id']}")),
            r"With \d sources, lines of the user's message begin with the numbers \[\d{3}",
        ),
        "the texts as they are": (
            prompt(source="f\"[{number}] {passage['title']}\\n\" + passage['content']"),
            r"With 3 sources, lines of the user's message begin with the numbers \[1, 4, 1, 2.*Does a line of a text",
        ),
        "only the first line indented": (
            prompt(source="f\"[{number}] {passage['title']}\\n    \" + passage['content']"),
            "Does a line of a text pose as a source",
        ),
        "no titles": (
            prompt(source="f'[{number}] ' + textwrap.indent(passage['content'], '    ')"),
            r"Source \d does not hold the title of its passage",
        ),
        "texts cut short": (
            prompt(source=SOURCE.replace("passage['content']", "passage['content'][:200]")),
            r"Source \d does not hold the content of its passage, whole",
        ),
        "one passage": (
            prompt(source=SOURCE + " if number == 1 else ''"),
            r"With 3 sources, lines of the user's message begin with the numbers \[1\]",
        ),
        "no question": (
            prompt(user="'Sources:\\n\\n' + sources"),
            "The user's message does not hold the question as it was asked",
        ),
        "the question first": (
            prompt(user="f'Question: {question}\\n\\nSources:\\n\\n{sources}'"),
            "The question does not come last in the user's message",
        ),
        "formatted twice": (
            prompt(user="('Sources:\\n\\n' + sources + '\\n\\nQuestion: {question}').format(question=question)"),
            r"prompt raised KeyError(.|\n)*The question and the passages hold braces and per cent signs",
        ),
        "by the per cent sign": (
            prompt(user="('Sources:\\n\\n' + sources + '\\n\\nQuestion: %s') % question"),
            r"prompt raised (TypeError|ValueError)(.|\n)*The question and the passages hold braces and per cent signs",
        ),
    },
    "knowledge_base.cited": {
        "a list": (
            "def cited(text, found):\n    return [found[int(n) - 1] for n in re.findall(r'\\[(\\d+)\\]', text)]",
            "cited raised IndexError|The result should be a tuple; it is a list",
        ),
        "numbers for passages": (cited(item="number"), "The passages in the result hold 2, which is no passage"),
        "ids": (cited(item="found[number - 1]['id']"), r"The passages in the result hold \d+, which is no passage"),
        "counts from 0": (
            cited(item="found[number]", known="if number < len(found)"),
            r"Number 1 stands for the first passage, found\[0\]",
        ),
        "the last for [0]": (cited(known="if number <= len(found)"), r"\[0\] led to found\[-1\]"),
        "invented numbers": (
            cited(known=""),
            r"cited raised IndexError(.|\n)*The text was .*, and found had \d+ passages",
        ),
        "each time once more": (
            cited(numbers=r"list(map(int, re.findall(r'\[(\d+)\]', text)))"),
            "A passage comes twice. The text was 'It is so",
        ),
        "sorted": (
            cited(numbers=f"sorted({NUMBERS})"),
            "The passages are not in the order in which they are first cited",
        ),
        "a set": (
            cited(numbers=r"set(map(int, re.findall(r'\[(\d+)\]', text)))"),
            "The passages are not in the order in which they are first cited",
        ),
        "one digit": (
            cited(numbers=NUMBERS.replace("+", "")),
            r"\[12\] is in the text, and its passage is not in the result",
        ),
        "any number": (
            cited(numbers=r"dict.fromkeys(map(int, re.findall(r'\d+', text)))"),
            "The result holds a passage that is not cited. The text was 'Of 2 or",
        ),
        "drops invented numbers": (
            cited(unknown="number for number in []"),
            r"\[\d+\] leads to no passage, and it is not reported",
        ),
        "numbers as text": (
            cited(unknown="str(number)"),
            "Each number without a passage should be an int; it is a str",
        ),
        "all that was found": (
            cited().replace("[found[number - 1] for number in numbers if 1 <= number <= len(found)]", "found"),
            "The result holds a passage that is not cited",
        ),
        "three parts": (
            cited().replace("    return (", "    return (\n        text,"),
            r"The result should be \(passages, numbers\); it holds 3 values",
        ),
    },
    "knowledge_base.answer": {
        "all that was found": (
            answer(result="text, found, []"),
            r"cites \d numbers, and with it came 3 passages and 0 numbers without one",
        ),
        "the text alone": (answer(result="text"), "The result should be a tuple; it is a str"),
        "two parts": (
            answer(result="text, cited(text, found)"),
            r"The result should be \(text, passages, numbers\); it holds 2 values",
        ),
        "the message": (
            answer(text="reply.choices[0].message", result="text, *cited(text.content, found)"),
            "The part text of the result should be a str; it is a ChatCompletionMessage",
        ),
        "ids": (
            answer(result="text, [passage['id'] for passage in cited(text, found)[0]], cited(text, found)[1]"),
            r"The passages in the result hold \d+, which is no passage as found has them",
        ),
        "asks without sources": (
            answer(messages="[{'role': 'user', 'content': question}]"),
            "The passage that says it was to be among the sources",
        ),
        "the sources upside down": (
            answer(messages="prompt(question, found[::-1])"),
            "are the sources numbered in the order in which they were found",
        ),
        "the first passage as the answer": (
            answer(text="found[0]['content'] + ' [1]'"),
            "The passage that says it was to be among the sources",
        ),
        "the nearest alone": (
            answer(messages="prompt(question, found[:1])"),
            "The passage that says it was to be among the sources",
        ),
        "two of the three": (
            answer(messages="prompt(question, found[:2])"),
            "The passage that says it was to be among the sources",
        ),
        "the farthest first": (
            answer().replace("most_relevant(conn, question)", "most_relevant(conn, question)[::-1]"),
            r"as source \d, which is not the place at which it was found: the nearest passage is source 1",
        ),
        "invented numbers dropped": (
            answer(result="text, cited(text, found)[0], []"),
            "cites 2 numbers, and with it came 1 passages and 0 numbers without one",
        ),
        "citations taken out of the text": (
            answer(result=r"re.sub(r' \[\d+\]', '', text), *cited(text, found)"),
            "was answered by .* what the model wrote is to come back as it is",
        ),
        "another model": (
            answer(model="'gpt-4'"),
            "answer raised NotFoundError",
        ),
        "the model for embeddings": (answer(model="embedding_model()"), "answer raised NotFoundError"),
        "a prompt of another question": (
            answer(messages="prompt('What is this about?', found)"),
            "The passage that says it was to be among the sources|The answer quotes the passage",
        ),
        "never declines": (
            answer(text="reply.choices[0].message.content.replace(\"I don't know.\", 'Three. [1]')"),
            "No passage answers 'How many goals",
        ),
        "leaves the transaction open": (
            answer(result="text, *cited(text, query(conn, 'SELECT 1') is None or found)"),
            "A transaction is still open",
        ),
    },
}
