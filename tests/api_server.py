"""An OpenAI-compatible API on 127.0.0.1 that speaks the real protocol, and fails when it is told to.

    with serve() as api:
        api.script = [OK, RATE_LIMITED, Turn(cut=0.5)]
        OpenAI(base_url=api.url, api_key=api.key).embeddings.create(…)

Its answers are the course's offline model's, under the names of OpenAI's models.
"""

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx2
import numpy as np

from pgv_helpers import settings
from pgv_helpers.models.embed import DIMENSIONS
from pgv_helpers.models.offline import OfflineTransport

Json = dict[str, Any]

KEY = "sk-secret-0123456789"

MODELS = {
    settings.OPENAI_EMBEDDING_MODEL: settings.OFFLINE_EMBEDDING_MODEL,
    settings.OPENAI_CHAT_MODEL: settings.OFFLINE_CHAT_MODEL,
}


@dataclass(frozen=True)
class Turn:
    """How the server meets one request: as it should, unless told otherwise."""

    status: int = 200
    body: Json | Sequence[Json] | str | None = None
    """In the place of the answer; a list is the events of a stream."""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds of silence before the answer."""
    pause: float = 0.0
    """Seconds between the events of a stream."""
    cut: float = 1.0
    """The share of the answer after which the connection breaks; at 0 not even the status line is sent."""


def error(message: str, code: str | None = None, type: str = "invalid_request_error", param: str | None = None) -> Json:
    """An error as the API words it."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def completion(content: str | None, *, refusal: str | None = None, usage: Json | None = None) -> Json:
    """An answer of the chat."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    whole = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return whole | ({"usage": usage} if usage else {})


def events(*deltas: Json, finish_reason: str | None = "stop") -> list[Json]:
    """A stream of the chat."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    reasons = [None] * len(deltas) + [finish_reason] * bool(finish_reason)
    return [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]}
        for delta, reason in zip([*deltas, {}], reasons)
    ]


OK = Turn()
RATE_LIMITED = Turn(
    429,
    error("Rate limit reached for requests. Please try again in 100ms.", "rate_limit_exceeded", "requests"),
    {"Retry-After": "0.1"},
)
NO_CREDIT = Turn(
    429,
    error("You exceeded your current quota, please check your plan and billing details.", *["insufficient_quota"] * 2),
    {"Retry-After": "0.01"},
)
FAILED = Turn(
    500, error("The server had an error while processing your request.", type="server_error"), {"Retry-After": "0.01"}
)
EMBEDDING_TOO_LONG = Turn(
    400,
    error(
        "This model's maximum context length is 8192 tokens, however you requested 8610 tokens (8610 in your prompt; "
        "0 for the completion). Please reduce your prompt; or completion length."
    ),
)
PROMPT_TOO_LONG = Turn(
    400,
    error(
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 8227 tokens. Please "
        "reduce the length of the messages.",
        "context_length_exceeded",
        param="messages",
    ),
)
HTML = Turn(200, "<!doctype html><title>Welcome</title>", {"Content-Type": "text/html"})


class Request(NamedTuple):
    path: str
    key: str | None
    body: Json


class Api:
    """A server that runs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.key: str | None = KEY  # None: it wants none
        self.models = dict(MODELS)  # name -> the offline model that answers
        self.script: list[Turn] = []  # how it meets the next requests
        self.requests: list[Request] = []
        self.closing = threading.Event()

    def answer(self, method: str, path: str, body: Json) -> httpx2.Response:
        """What the offline API says to a request for OpenAI's models."""
        asked = body.get("model")
        body = body | {"model": self.models.get(asked, asked)} if "model" in body else body
        encoding, body = body.get("encoding_format"), {**body, "encoding_format": "float"}
        answer = OfflineTransport().handle_request(httpx2.Request(method, self.url + path, json=body))
        if path == "/models":
            listed = [{"id": name, "object": "model", "created": 1, "owned_by": "openai"} for name in self.models]
            return httpx2.Response(200, json={"object": "list", "data": listed})
        if path == "/embeddings" and answer.status_code == 200:
            return httpx2.Response(200, json=_as_asked(answer.json(), asked, encoding))
        return answer


def _as_asked(answer: Json, model: str, encoding: str | None) -> Json:
    """Embeddings of the length that the model's have, the last first: the index counts, and not the place."""
    for item in answer["data"]:
        vector = np.zeros(DIMENSIONS.get(model, len(item["embedding"])), "<f4")
        vector[: len(item["embedding"])] = item["embedding"]
        item["embedding"] = base64.b64encode(vector).decode() if encoding == "base64" else vector.tolist()
    return answer | {"model": model, "data": answer["data"][::-1]}


@contextmanager
def serve() -> Iterator[Api]:
    """Run a server of one's own, on a port that is free."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:  # whoever asked has gone
                self.close_connection = True

        def do_GET(self) -> None:
            self.meet({})

        def do_POST(self) -> None:
            self.meet(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def meet(self, body: Json) -> None:
            key = self.headers["Authorization"]
            api.requests.append(Request(self.path, key, body))
            turn = api.script.pop(0) if api.script else OK
            if api.closing.wait(turn.delay):
                return
            self.send(turn, *self.answer(turn, body, key))

        def answer(self, turn: Turn, body: Json, key: str | None) -> tuple[int, str, list[bytes]]:
            """Status, content type, and the pieces of the body."""
            if turn.body is None and turn.status == 200:
                if api.key and key != f"Bearer {api.key}":
                    said = f"Incorrect API key provided: {(key or '').removeprefix('Bearer ')}."
                    return 401, "application/json", [json.dumps(error(said, "invalid_api_key")).encode()]
                answer = api.answer(self.command, self.path.removeprefix("/v1"), body)
                pieces = answer.content.split(b"\n\n") if body.get("stream") else [answer.content]
                streamed = len(pieces) > 1
                pieces = [piece + b"\n\n" for piece in pieces if piece] if streamed else pieces
                return answer.status_code, answer.headers["content-type"], pieces
            if isinstance(turn.body, (list, tuple)):
                sent = [f"data: {json.dumps(event)}\n\n".encode() for event in turn.body]
                return turn.status, "text/event-stream", [*sent, b"data: [DONE]\n\n"]
            said = turn.body if isinstance(turn.body, str) else json.dumps(turn.body)
            return turn.status, "application/json", [said.encode()]

        def send(self, turn: Turn, status: int, kind: str, pieces: list[bytes]) -> None:
            streamed = kind.startswith("text/event-stream")
            if turn.cut:
                self.send_response(status)
                for name, value in ({"Content-Type": kind} | turn.headers).items():
                    self.send_header(name, value)
                self.send_header(
                    *("Transfer-Encoding", "chunked") if streamed else ("Content-Length", str(len(pieces[0])))
                )
                self.end_headers()
            if streamed:
                for piece in pieces[: int(turn.cut * len(pieces))]:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    self.wfile.flush()
                    time.sleep(turn.pause)
                self.wfile.write(b"0\r\n\r\n" if turn.cut == 1 else b"")
            else:
                self.wfile.write(pieces[0][: int(turn.cut * len(pieces[0]))])
            if turn.cut < 1:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api = Api(f"http://127.0.0.1:{server.server_port}/v1")
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    try:
        yield api
    finally:
        api.closing.set()
        server.shutdown()
        server.server_close()
