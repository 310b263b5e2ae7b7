"""What learners write for exercise 07 that is not right, and words of the message that each must get."""

SENTENCES = r"""
def sentences(text):
    return [found.span() for found in re.finditer(r"\S.*?(?:[.!?](?=\s)|(?=\s*$))", text, re.DOTALL)]
"""


def chunk(
    *, words: str = "len(text[start:end].split())", fits: str = "found and count + words <= size",
    first: str = "found[-1][0]", new: str = "(start, end)", result: str = "found",
) -> str:  # fmt: skip
    return f"""{SENTENCES}
def chunk(text, size):
    found, count = [], 0
    for start, end in sentences(text):
        words = {words}
        if {fits}:
            found[-1] = ({first}, end)
            count += words
        else:
            found.append({new})
            count = words
    return {result}
"""


def chunk_in_a_loop(*, before: str = "pass", last: str = "") -> str:
    """A chunk that is collected, and put into the list when the next sentence has no room."""
    return f"""{SENTENCES}
def chunk(text, size):
    found, run, count = [], [], 0
    for start, end in sentences(text):
        words = len(text[start:end].split())
        {before}
        if count + words > size and run:
            found.append((run[0][0], run[-1][1]))
            run, count = [], 0
        run.append((start, end))
        count += words
    {last}
    return found
"""


LOOKED_FOR = f"""{SENTENCES}
def chunk(text, size):
    runs, count = [], 0
    for start, end in sentences(text):
        words = len(text[start:end].split())
        if runs and count + words <= size:
            runs[-1].append(text[start:end])
            count += words
        else:
            runs.append([text[start:end]])
            count = words
    return [{{result}} for run in runs]
"""

FIXED_WORDS = """
def chunk(text, size):
    spans = [found.span() for found in re.finditer(r"\\S+", text)]
    runs = [spans[place:place + size] for place in range(0, len(spans), size)]
    return [(run[0][0], run[-1][1]) for run in runs]
"""


def chunk_document(
    *, mark: str = '"^#+ (.*)$", text, re.MULTILINE', names: str = '[""] + [heading[1] for heading in headings]',
    starts: str = "[0] + [heading.end() for heading in headings]",
    ends: str = "[heading.start() for heading in headings] + [len(text)]",
    item: str = "(name, start + first, start + last)",
) -> str:  # fmt: skip
    return f"""
def chunk_document(text, size):
    headings = list(re.finditer(r{mark}))
    names = {names}
    starts = {starts}
    ends = {ends}
    return [{item} for name, start, end in zip(names, starts, ends) for first, last in chunk(text[start:end], size)]
"""


LAST_HEADING_ABOVE = """
def chunk_document(text, size):
    headings = [(found.start(), found[1]) for found in re.finditer(r"^#+ (.*)$", text, re.MULTILINE)]
    return [
        (([""] + [name for place, name in headings if place <= start])[-1], start, end)
        for start, end in chunk(text, size)
    ]
"""

SECTIONS_BY_HEADING = """
def chunk_document(text, size):
    headings = list(re.finditer(r"^#+ (.*)$", text, re.MULTILINE))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    sections = {"": (0, headings[0].start() if headings else len(text))}
    sections |= {heading[1]: (heading.end(), end) for heading, end in zip(headings, ends)}
    return [
        (name, start + first, start + last)
        for name, (start, end) in sections.items()
        for first, last in chunk(text[start:end], size)
    ]
"""

UPSERT = """
            INSERT INTO chunks (source, position, heading, content, hash, embedding) VALUES %s
            ON CONFLICT (source, position) DO UPDATE
            SET heading = EXCLUDED.heading, content = EXCLUDED.content,
                hash = EXCLUDED.hash, embedding = EXCLUDED.embedding
"""
IF_CHANGED = "            WHERE chunks.hash <> EXCLUDED.hash"
STALE = 'cur.execute("DELETE FROM chunks WHERE source = %s AND position >= %s", [source, len(chunks)])'


def index_document(
    *, text: str = 'f"{heading}\\n{content}"', hash: str = "hashlib.sha256(text.encode()).hexdigest()",
    known: str = '"SELECT hash, embedding FROM chunks WHERE source = %s", [source]', new: str = "hash not in vectors",
    embedded: str = "embed_texts(list(new.values()))", rows: str = "zip(chunks, hashes)", begin: str = "0",
    before: str = "pass", upsert: str = UPSERT + IF_CHANGED, stale: str = STALE,
    first: str = "with conn, conn.cursor()",
) -> str:  # fmt: skip
    return f"""
def index_document(conn, source, chunks, embed_texts):
    texts = [{text} for heading, content in chunks]
    hashes = [{hash} for text in texts]
    with conn, conn.cursor() as cur:
        cur.execute({known})
        vectors = dict(cur.fetchall())
        {before}
    new = {{hash: text for hash, text in zip(hashes, texts) if {new}}}
    vectors |= zip(new, {embedded})
    rows = [(source, position, *chunk, hash, vectors[hash])
            for position, (chunk, hash) in enumerate({rows}, {begin})]
    {first} as cur:
        execute_values(cur, '''{upsert}''', rows)
        {stale}
"""


ALL_ANEW = """
def index_document(conn, source, chunks, embed_texts):
    texts = [f"{heading}\\n{content}" for heading, content in chunks]
    vectors = embed_texts(texts)
    rows = [(source, position, *chunk, hashlib.sha256(text.encode()).hexdigest(), vector)
            for position, (chunk, text, vector) in enumerate(zip(chunks, texts, vectors))]
    with conn, conn.cursor() as cur:
        cur.execute("DELETE FROM chunks WHERE source = %s", [source])
        execute_values(cur, '''INSERT INTO chunks (source, position, heading, content, hash, embedding)
                               VALUES %s''', rows)
"""

DELETES_FIRST = """
def index_document(conn, source, chunks, embed_texts):
    texts = [f"{heading}\\n{content}" for heading, content in chunks]
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    with conn, conn.cursor() as cur:
        cur.execute("SELECT hash, embedding FROM chunks WHERE source = %s", [source])
        vectors = dict(cur.fetchall())
    with conn, conn.cursor() as cur:
        STALE
        new = {hash: text for hash, text in zip(hashes, texts) if hash not in vectors}
        vectors |= zip(new, embed_texts(list(new.values())))
        rows = [(source, place, *chunk, hash, vectors[hash])
                for place, (chunk, hash) in enumerate(zip(chunks, hashes))]
        execute_values(cur, '''UPSERT''', rows)
""".replace("UPSERT", UPSERT + IF_CHANGED).replace("STALE", STALE)

WHERE_THE_HASH_IS_ANOTHER = """
def index_document(conn, source, chunks, embed_texts):
    with conn, conn.cursor() as cur:
        cur.execute("SELECT position, hash FROM chunks WHERE source = %s", [source])
        there = dict(cur.fetchall())
    texts = [f"{heading}\\n{content}" for heading, content in chunks]
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    new = [place for place, hash in enumerate(hashes) if there.get(place) != hash]
    vectors = embed_texts([texts[place] for place in new])
    rows = [(source, place, *chunks[place], hashes[place], vector) for place, vector in zip(new, vectors)]
    with conn, conn.cursor() as cur:
        execute_values(cur, '''UPSERT''', rows)
        STALE
""".replace("UPSERT", UPSERT).replace("STALE", STALE)

BY_CONTENT = """
def index_document(conn, source, chunks, embed_texts):
    with conn, conn.cursor() as cur:
        cur.execute("SELECT content, embedding FROM chunks WHERE source = %s", [source])
        vectors = dict(cur.fetchall())
    new = [chunk for chunk in chunks if chunk[1] not in vectors]
    found = embed_texts([f"{heading}\\n{content}" for heading, content in new])
    vectors |= {content: vector for (_, content), vector in zip(new, found)}
    rows = [(source, place, heading, content,
             hashlib.sha256(f"{heading}\\n{content}".encode()).hexdigest(), vectors[content])
            for place, (heading, content) in enumerate(chunks)]
    with conn, conn.cursor() as cur:
        execute_values(cur, '''UPSERT''', rows)
        STALE
""".replace("UPSERT", UPSERT + IF_CHANGED).replace("STALE", STALE)


def retrieve(
    *, where: str = "WHERE trusted AND embedding <=> %(vector)s <= %(cutoff)s",
    order: str = "ORDER BY embedding <=> %(vector)s", limit: str = "LIMIT %(k)s", columns: str = "id, heading, content",
    result: str = "cur.fetchall()", begin: str = "with conn, conn.cursor()",
) -> str:  # fmt: skip
    return f"""
def retrieve(conn, question, k, cutoff):
    {begin} as cur:
        cur.execute('''SELECT {columns} FROM chunks {where} {order} {limit}''',
                    {{"vector": get_embedding(question), "cutoff": cutoff, "k": k}})
        return {result}
"""


def build_prompt(
    *, clean: str = 're.sub(r"\\[([\\d, ]+)\\]", r"(\\1)", " ".join(text.split()))',
    refuse: str = "reply exactly: I don't know.", cite: str = "like [2]", first: str = "1",
    source: str = '"[" + str(number) + "] " + clean(heading) + ": " + clean(content)',
    ask: str = '"Question: " + clean(question)', user: str = '"\\n\\n".join([*sources, asked])',
    result: str = '[{"role": "system", "content": system}, {"role": "user", "content": user}]',
) -> str:  # fmt: skip
    return f"""
def build_prompt(question, passages):
    def clean(text):
        return {clean}

    system = "Answer from the sources alone. Cite them {cite}. If they do not answer the question, {refuse}"
    sources = [{source} for number, (_, heading, content) in enumerate(passages, {first})]
    asked = {ask}
    user = {user}
    return {result}
"""


def citations(
    *, group: str = r"\[([\d, ]+)\]", number: str = r"\d+", convert: str = "int(number)",
    passage: str = "passages[number - 1] if 1 <= number <= len(passages) else None",
    once: str = "dict.fromkeys(numbers)", keep: str = "",
) -> str:  # fmt: skip
    return f"""
def citations(reply, passages):
    groups = re.findall(r"{group}", reply)
    numbers = [{convert} for group in groups for number in re.findall(r"{number}", group)]
    return [(number, {passage}) for number in {once} {keep}]
"""


def answer(
    *, empty: str = "if not passages: return REFUSAL, []", reply: str = "ask(build_prompt(question, passages)).strip()",
    refuse: str = 'if reply.startswith("I don\'t know"): return REFUSAL, []',
    result: str = "reply, citations(reply, passages)", passages: str = "retrieve(conn, question, k, cutoff)",
) -> str:  # fmt: skip
    return f"""
REFUSAL = "I don't know."

def answer(conn, question, k, cutoff, ask):
    passages = {passages}
    {empty}
    reply = {reply}
    {refuse}
    return {result}
"""


def score(
    *, found: str = "found[:k]", places: str = "[:1]", start: str = "1", left_out: str = "if ids",
    hit: str = "bool(places)", divisor: str = "len(every)", reciprocal: str = "1 / place",
    result: str = "(hits / divisor, total / divisor)",
) -> str:  # fmt: skip
    return f"""
def score(retrieved, right, k):
    every = []
    for found, ids in zip(retrieved, right):
        {left_out + ":" if left_out else "if True:"}
            places = [place for place, id in enumerate({found}, {start}) if id in ids]{places}
            every.append((places, ids))
    hits = sum({hit} for places, ids in every)
    total = sum({reciprocal} for places, ids in every for place in places)
    divisor = {divisor}
    return {result}
"""


WRONG_ANSWERS = {
    "rag.chunk": {
        "forgets the last chunk": (chunk_in_a_loop(), "The end of the text is in no chunk"),
        "an empty chunk before a long sentence": (
            chunk_in_a_loop(
                before="if words > size: found.append((run[0][0], run[-1][1]) if run else (start, start)); run = []",
                last="if run: found.append((run[0][0], run[-1][1]))",
            ),
            "where there is no text",
        ),
        "leaves out long sentences": (
            chunk_in_a_loop(before="if words > size: continue", last="if run: found.append((run[0][0], run[-1][1]))"),
            "Sentence 1, .*, is in no chunk",
        ),
        "fills up to less than size": (chunk(fits="found and count + words < size"), "it has room for it"),
        "counts what is there before it adds": (chunk(fits="found and count < size"), "and at most .* were asked for"),
        "counts characters": (chunk(words="end - start"), "Does it count characters"),
        "a sentence a chunk": (chunk(fits="False"), "Each chunk is one sentence"),
        "cuts after so many words": (FIXED_WORDS, "Chunk ., .*, (begins|ends) within a sentence"),
        "looks for its words": (
            LOOKED_FOR.replace("{result}", '(text.find(" ".join(run)), text.find(" ".join(run)) + len(" ".join(run)))'),
            "where there is no text|is in more than one chunk",
        ),
        "looks for its sentences": (
            LOOKED_FOR.replace("{result}", "(text.find(run[0]), text.find(run[-1]) + len(run[-1]))"),
            "where there is no text|is in more than one chunk",
        ),
        "texts": (LOOKED_FOR.replace("{result}", '" ".join(run)'), "should be a tuple; it is a str"),
        "goes on to the next sentence": (chunk(first="found[-1][0]", new="(start, end + 1)"), "ends with white space"),
        "overlaps": (
            chunk(result="[(max(a - 1, 0) and found[i - 1][0], b) for i, (a, b) in enumerate(found)]"),
            "is in more than one chunk",
        ),
    },
    "rag.chunk_document": {
        "positions in the section": (chunk_document(item="(name, first, last)"), "not from that of the section"),
        "what stands before the first heading is lost": (
            chunk_document(
                names="[heading[1] for heading in headings]",
                starts="[heading.end() for heading in headings]",
                ends="[heading.start() for heading in headings[1:]] + [len(text)]",
            ),
            "What stands before the first heading is in no chunk",
        ),
        "the last section is lost": (
            chunk_document(ends="[heading.start() for heading in headings]"),
            "The end of the text is in no chunk",
        ),
        "with the heading in the chunk": (
            chunk_document(starts="[0] + [heading.start() for heading in headings]"),
            "Chunk .* holds the heading '#",
        ),
        "across headings": (LAST_HEADING_ABOVE, "Chunk .* holds the heading '#"),
        "headings with their #": (
            chunk_document(names='[""] + [heading[0] for heading in headings]'),
            "leave out the # and the space",
        ),
        "a # without a space": (
            chunk_document(mark='"^#+(.*)$", text, re.MULTILINE'),
            "'#7 is a number.*is in no chunk",
        ),
        "a # anywhere": (
            chunk_document(mark='"#+ (.*)$", text, re.MULTILINE'),
            "ends within a sentence, between '.*Amber' and ' ## basil",
        ),
        "an indented #": (
            chunk_document(mark='"^\\s*#+ (.*)$", text, re.MULTILINE'),
            "'# Grove is a comment.*is in no chunk. It is no heading",
        ),
        "strips # at both ends": (
            chunk_document(names='[""] + [heading[0].strip("# ") for heading in headings]'),
            "in C', is cut off",
        ),
        "headings of the first two levels": (
            chunk_document(mark='"^##? (.*)$", text, re.MULTILINE'),
            "Chunk .* holds the heading '### ",
        ),
        "sections by their heading": (SECTIONS_BY_HEADING, "Sentence .* is in no chunk|not in the order of the text"),
        "None before the first heading": (
            chunk_document(names="[None] + [heading[1] for heading in headings]"),
            "holds a heading that is None",
        ),
        "the heading below": (
            chunk_document(names='[heading[1] for heading in headings] + [""]'),
            "stands before the first heading, and the result says that it is under",
        ),
        "texts": (chunk_document(item="(name, text[start:end][first:last])"), r"should be \(heading, start, end\)"),
        "looks for the section's text": (
            chunk_document(item="(name, place := text.find(text[start + first:start + last]), place + last - first)"),
            "the right text in the wrong place",
        ),
    },
    "rag.index_document": {
        "no stale chunk is deleted": (index_document(stale="pass"), "what a shorter version leaves behind is stale"),
        "positions from 1": (index_document(begin="1"), "Positions begin at 0"),
        "deletes other documents": (
            index_document(stale=STALE.replace("source = %s AND ", "").replace("source, ", "")),
            "rows of another document were changed or deleted",
        ),
        "embeds all anew": (ALL_ANEW, "After the same document again: a text was embedded again"),
        "deletes and inserts what stays": (
            index_document(
                before="pass",
                upsert=UPSERT.partition("ON CONFLICT")[0],
                stale="pass",
                first="with conn, conn.cursor() as cur:\n        cur.execute('DELETE FROM chunks WHERE source = %s', "
                "[source])\n    with conn, conn.cursor()",
            ),
            "the same, and its row has a new id",
        ),
        "writes what stays again": (index_document(upsert=UPSERT), "the same, and its row was written again"),
        "compares by position": (
            WHERE_THE_HASH_IS_ANOTHER,
            "After a chunk was added at the front .*: a text was embedded again",
        ),
        "compares contents": (
            BY_CONTENT,
            "After a changed document: the embedding at position 2 is not that of its text",
        ),
        "changes nothing that is there": (
            index_document(upsert=UPSERT.partition("DO UPDATE")[0] + "DO NOTHING"),
            "After a changed document: the table has another text at position 1",
        ),
        "each text by itself": (
            index_document(embedded="[embed_texts([text])[0] for text in new.values()]"),
            "embed_texts was called 7 times|embed_texts was called 8 times",
        ),
        "a single text": (
            index_document(embedded="[embed_texts(text) for text in new.values()]"),
            "embed_texts takes a list of texts",
        ),
        "embeds the content": (index_document(text="content"), "the hash at position 0 is not"),
        "embeds the content, hashes both": (
            index_document(embedded="embed_texts([text.split('\\n')[1] for text in new.values()])"),
            "the embedding at position 0 is not that of its text",
        ),
        "another hash": (
            index_document(hash="hashlib.md5(text.encode()).hexdigest()"),
            "the hash at position 0 is not",
        ),
        "a text that stands twice is stored once": (
            index_document(rows="{hash: (chunk, hash) for chunk, hash in zip(chunks, hashes)}.values()"),
            "The document has this text twice|the table has another text at position 6",
        ),
        "leaves out what another document has": (
            index_document(
                known='"SELECT hash, embedding FROM chunks"',
                rows="[pair for pair in zip(chunks, hashes) if pair[1] in new or source in str(there)]",
                before="cur.execute('SELECT source FROM chunks'); there = cur.fetchall()",
                upsert=UPSERT + IF_CHANGED,
            ).replace("source in str(there)", "any(source == other for other, in there)"),
            "the table has another text at position 4|Another document has this text as well",
        ),
        "deletes before it embeds": (
            index_document(
                before='cur.execute("DELETE FROM chunks WHERE source = %s AND NOT hash = ANY(%s)", [source, hashes])'
            ),
            "When embed_texts fails, the table was changed already",
        ),
        "deletes, then embeds, in one transaction": (DELETES_FIRST, "a transaction is open.* Embed first, then begin"),
        "embeds a new text twice": (
            index_document(
                embedded="dict(zip(texts_new := [text for hash, text in zip(hashes, texts) if hash not in vectors], "
                "embed_texts(texts_new))).values()"
            ),
            "stands twice in the document was embedded twice",
        ),
        "keeps the error to itself": (
            "def index_document(conn, source, chunks, embed_texts):\n    try:\n        _index(conn, source, chunks, "
            "embed_texts)\n    except ConnectionError:\n        return\n"
            + index_document().replace("def index_document", "def _index"),
            "its error is passed over in silence",
        ),
        "embeds in the transaction of its SELECT": (
            index_document()
            .replace(
                "with conn, conn.cursor() as cur:\n        cur.execute",
                "with conn.cursor() as cur:\n        cur.execute",
            )
            .replace("        pass\n    new", "    new"),
            "a transaction is open.* Embed first, then begin.*A SELECT begins one as well",
        ),
        "does not commit": (index_document(first="with conn.cursor()"), "A transaction is still open. End it: commit"),
    },
    "rag.retrieve": {
        "whatever the trust": (
            retrieve(where="WHERE embedding <=> %(vector)s <= %(cutoff)s"),
            "the passage that repeats the question",
        ),
        "what nobody has looked at": (
            retrieve(where="WHERE trusted IS NOT FALSE AND embedding <=> %(vector)s <= %(cutoff)s"),
            "whose trusted is NULL",
        ),
        "filters after the limit": (
            retrieve(
                where="WHERE embedding <=> %(vector)s <= %(cutoff)s",
                columns="id, heading, content, trusted",
                result="[row[:3] for row in cur.fetchall() if row[3]]",
            ),
            "Does LIMIT count passages that are left out later|The result is empty",
        ),
        "no cutoff": (retrieve(where="WHERE trusted"), "the cutoff is .*, and it is a distance, no similarity"),
        "nearer than the cutoff": (
            retrieve(where="WHERE trusted AND embedding <=> %(vector)s < %(cutoff)s"),
            "whose distance equals the cutoff",
        ),
        "the cutoff as a similarity": (
            retrieve(where="WHERE trusted AND 1 - (embedding <=> %(vector)s) >= %(cutoff)s"),
            "Is it taken for a similarity",
        ),
        "the cutoff the other way round": (
            retrieve(where="WHERE trusted AND embedding <=> %(vector)s >= %(cutoff)s"),
            "The result is empty, although",
        ),
        "Euclidean distance": (
            retrieve(order="ORDER BY embedding <-> %(vector)s"),
            "the nearest by Euclidean distance",
        ),
        "inner product": (retrieve(order="ORDER BY embedding <#> %(vector)s"), "the nearest by inner product"),
        "no limit": (retrieve(limit=""), "passages, which is too many"),
        "ids only": (retrieve(columns="id"), r"should be \(id, heading, content\); it holds 1 values"),
        "no order": (retrieve(order="ORDER BY id"), "The result is out of order|is not the nearest"),
        "with the distance": (
            retrieve(columns="id, heading, content, embedding <=> %(vector)s"),
            r"should be \(id, heading, content\); it holds 4 values",
        ),
        "leaves the transaction open": (retrieve(begin="with conn.cursor()"), "A transaction is still open"),
    },
    "rag.build_prompt": {
        "passages as they are": (
            build_prompt(clean="text"),
            "A passage holds a line that begins with \\[1\\]:(.|\n)*A reader",
        ),
        "on one line, brackets as they are": (
            build_prompt(clean='" ".join(text.split())'),
            "A passage holds a line that begins with \\[1\\]:(.|\n)*within a line",
        ),
        "brackets replaced, lines as they are": (
            build_prompt(clean='re.sub(r"\\[([\\d, ]+)\\]", r"(\\1)", text)'),
            "A passage holds a line that begins with 'Question:'(.|\n)*Two lines of the user message",
        ),
        "one number a bracket": (
            build_prompt(clean='re.sub(r"\\[(\\d+)\\]", r"(\\1)", " ".join(text.split()))'),
            r"A passage holds numbers in brackets(.|\n)*holds \[1, \d+\] within a line",
        ),
        "the content on a line of its own": (
            build_prompt(source='"[" + str(number) + "] " + clean(heading) + "\\n" + clean(content)'),
            "A passage holds 'Question:' at its beginning:(.|\n)*Two lines of the user message",
        ),
        "removes the brackets with what is in them": (
            build_prompt(clean='re.sub(r"\\[[^]]*\\]", "", " ".join(text.split()))'),
            "does not have all the words of its passage's content",
        ),
        "drops the lines": (
            build_prompt(clean='re.sub(r"\\[([\\d, ]+)\\]", r"(\\1)", text.split("\\n")[0])'),
            "does not have all the words of its passage's content",
        ),
        "a template": (
            build_prompt(
                ask='"Question: {question}"', user='"\\n\\n".join([*sources, asked]).format(question=clean(question))'
            ),
            "A passage holds braces and percent signs(.|\n)*build_prompt raised (KeyError|IndexError)",
        ),
        "the question as it is": (
            build_prompt(ask='"Question: " + question'),
            "A question holds a line that begins with \\[1\\]",
        ),
        "the heading as it is": (
            build_prompt(source='"[" + str(number) + "] " + heading + ": " + clean(content)'),
            "A heading holds a line that begins with \\[1\\]",
        ),
        "without the heading": (
            build_prompt(source='"[" + str(number) + "] " + clean(content)'),
            "^Source .1. does not have all the words of its passage's heading",
        ),
        "numbered from 0": (build_prompt(first="0"), "The sources are numbered from 0"),
        "no numbers": (build_prompt(source='clean(heading) + ": " + clean(content)'), "has no numbered sources"),
        "ids instead of numbers": (
            build_prompt(source='"[" + str(_) + "] " + clean(heading) + ": " + clean(content)'),
            "count them from 1, in their order",
        ),
        "other words of refusal": (
            build_prompt(refuse="say that you do not know."),
            "lacks the exact words of refusal",
        ),
        "does not say how to cite": (build_prompt(cite="by number"), "does not show how to cite"),
        "no question": (build_prompt(ask='""'), "no line that begins with Question:"),
        "the question first": (
            build_prompt(user='"\\n\\n".join([asked, *sources])'),
            "The last line .* should be the question",
        ),
        "one message": (
            build_prompt(result='[{"role": "user", "content": system + user}]'),
            "should be two messages, of the roles system and user",
        ),
        "a text": (build_prompt(result="system + user"), "The result should be a list; it is a str"),
        "the question to the wrong role": (
            build_prompt(result='[{"role": "user", "content": user}, {"role": "system", "content": system}]'),
            "their roles are: \\['user', 'system'\\]",
        ),
    },
    "rag.citations": {
        "one number a bracket": (citations(group=r"\[(\d+)\]"), r"For the reply 'One \[., .\].* lacks"),
        "one digit": (citations(number=r"\d"), r"For the reply 'One \[12\]"),
        "one digit a bracket": (citations(group=r"\[(\d(?:, ?\d)*)\]"), r"For the reply 'One \[12\].* lacks 12"),
        "drops what no source has": (
            citations(keep="if 1 <= number <= len(passages)"),
            "which no source has: report it, with None",
        ),
        "does not ask whether there is a source": (
            citations(passage="passages[number - 1]"),
            "citations raised IndexError",
        ),
        "the last for 0": (
            citations(passage="passages[number - 1] if number <= len(passages) else None"),
            "the number 0 leads to a passage, although no source has this number",
        ),
        "counts from 0": (
            citations(passage="passages[number] if number < len(passages) else None"),
            "leads to another passage: the first has the number 1",
        ),
        "each time": (citations(once="numbers"), "holds a number twice"),
        "sorted": (citations(once="sorted(set(numbers))"), "is in another order|lacks"),
        "all numbers": (citations(group="(.+)"), r"For the reply 'In 1969.* holds 1969, which the reply does not cite"),
        "all brackets": (citations(group=r"\[([^]]+)\]"), r"For the reply 'In 1969.* which the reply does not cite"),
        "numbers as texts": (
            citations(convert="number", passage="passages[int(number) - 1]"),
            "each number should be an int; it is a str",
        ),
        "the passages only": (
            citations().replace("(number, passages[", "(passages[").replace("else None)", "else None)"),
            "each item should be|should be an int",
        ),
        "a dictionary": (
            citations().replace("return [", "return dict([").replace("numbers) ]", "numbers) ])"),
            "should be a list",
        ),
    },
    "rag.answer": {
        "asks without a source": (answer(empty="pass"), "within|is asked all the same"),
        "asks without a source, and refuses": (
            answer(empty="pass", refuse="if not passages or reply.startswith(REFUSAL[:-1]): return REFUSAL, []"),
            "When every passage is further away than the cutoff, the model is asked all the same",
        ),
        "no cutoff": (
            answer(passages="retrieve(conn, question, k, 2)"),
            "When every passage is further away than the cutoff, the model is asked",
        ),
        "None instead of a refusal": (
            answer(empty="if not passages: return None"),
            "The result should be a tuple; it is a NoneType|The result should be a tuple; it is None",
        ),
        "an empty text": (
            answer(empty='if not passages: return "", []'),
            "the text is ''; it should be the words of refusal",
        ),
        "the model's refusal as it is": (answer(refuse="pass"), "there are sources beside the refusal|the text is"),
        "compares the whole reply": (
            answer(refuse="if reply == REFUSAL: return REFUSAL, []"),
            "are about other things.*the text is",
        ),
        "with its full stop alone": (
            answer(refuse="if reply.startswith(REFUSAL): return REFUSAL, []"),
            "do not say it.*the text is",
        ),
        "a refusal anywhere": (
            answer(refuse="if REFUSAL in reply: return REFUSAL, []"),
            "It does not begin with the words: it is no refusal",
        ),
        "the refusal with what follows": (
            answer(refuse="if reply.startswith(REFUSAL): return reply, []"),
            "are about other things.*the text is",
        ),
        "all passages as sources": (
            answer(result="reply, list(enumerate(passages, 1))"),
            "which the reply does not cite|another order|For the model's reply",
        ),
        "the passages without their numbers": (
            answer(result="reply, passages"),
            r"each item should be \(number, passage\); one holds 3 values",
        ),
        "white space around the reply": (
            answer(
                reply="ask(build_prompt(question, passages))",
                refuse="if reply.strip().startswith(REFUSAL): return REFUSAL, []",
            ),
            "has white space around it",
        ),
        "asks with the question alone": (answer(reply="ask(question)"), "ask takes a list of messages"),
        "asks twice": (
            answer(reply="ask(build_prompt(question, passages)) and ask(build_prompt(question, passages)).strip()"),
            "ask was called 2 times",
        ),
        "more passages than asked for": (
            answer(passages="retrieve(conn, question, 100, cutoff)"),
            "More passages than k are in the prompt",
        ),
        "the text only": (answer(result="reply"), "The result should be a tuple; it is a str"),
        "refuses what cites no known source": (
            answer(
                result="(reply, cited) if all(passage for _, passage in cited) else (REFUSAL, [])",
                refuse="if reply.startswith(REFUSAL): return REFUSAL, []\n    cited = citations(reply, passages)",
            ),
            "it is no refusal",
        ),
    },
    "rag.score": {
        "questions without an answer count": (score(left_out=""), "nothing can find what is not there"),
        "looks beyond k": (score(found="found"), "It looks beyond the first k"),
        "places from 0": (score(start="0"), "score raised ZeroDivisionError"),
        "places from 2": (score(start="2"), "The first place counts 1 / 1"),
        "one place more": (score(found="found[:k + 1]"), "one too few, or too many"),
        "every right id": (score(places="", hit="len(places)"), "Each right id counts"),
        "every reciprocal rank": (score(places=""), "The MRR for k = 3 is wrong. Each right id counts"),
        "recall": (score(places="", hit="len(places) / len(ids)"), "the share of right ids that were found"),
        "precision": (score(places="", hit="len(places) / k"), "the share of right ones among the k"),
        "the mean over the hits": (score(divisor="hits"), "the mean over the hits alone"),
        "sums": (score(divisor="1"), "It is a sum"),
        "the MRR first": (score(result="(total / divisor, hits / divisor)"), "The hit rate comes first"),
        "the hit rate only": (score(result="hits / divisor"), "The result should be a tuple; it is a float"),
        "rounded": (score(result="(round(hits / divisor, 2), round(total / divisor, 2))"), "Was it rounded"),
        "leaves out what found nothing": (
            score(left_out="if ids and found"),
            "A question for which nothing was retrieved is left out",
        ),
    },
}
