"""Loading by langchain-postgres, llama-index and vecs: a worker of loading.py in the environment of peers.txt.

Each line of stdin is a command in JSON, and each is answered by a line of JSON on stdout:
`{"urls": …, "schema": …}` connects, `{"vectors": file, "contents": …, "categories": …}` gives the
data, and `{"load": peer}` loads them into a new table and answers with the seconds, the seconds of
this process's CPU, and the number of rows that the table then has.
"""

import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from gc import freeze

import numpy as np
import psycopg
import vecs
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_postgres import PGEngine, PGVectorStore
from llama_index.core.schema import TextNode
from llama_index.vector_stores.postgres import PGVectorStore as LlamaIndexStore
from psycopg import sql


@dataclass
class Place:
    """Where to load: URLs by driver, and a schema whose name is also that of each new table."""

    urls: dict[str, str]
    schema: str


class Data:
    """What to load, in the shapes that the three ask for."""

    def __init__(self, vectors: str, contents: list[str], categories: list[str]):
        self.contents = contents
        self.embeddings = np.load(vectors).tolist()
        self.dimension = len(self.embeddings[0])
        self.metadata = [{"category": category} for category in categories]
        self.nodes = [
            TextNode(text=content, metadata=metadata, embedding=embedding)
            for content, metadata, embedding in zip(contents, self.metadata, self.embeddings)
        ]
        self.records = [
            (str(id), embedding, {"content": content, **metadata})
            for id, (content, metadata, embedding) in enumerate(zip(contents, self.metadata, self.embeddings))
        ]


Prepared = tuple[sql.Identifier, Callable[[], object]]
"""A new table, and what fills it and is measured."""


def langchain(place: Place, data: Data) -> Prepared:
    engine = PGEngine.from_connection_string(place.urls["sqlalchemy+psycopg"])
    engine.init_vectorstore_table(place.schema, data.dimension, schema_name=place.schema)
    store = PGVectorStore.create_sync(
        engine, DeterministicFakeEmbedding(size=data.dimension), place.schema, schema_name=place.schema
    )
    load = partial(store.add_embeddings, data.contents, data.embeddings, data.metadata)
    return sql.Identifier(place.schema, place.schema), load


def llama_index(place: Place, data: Data) -> Prepared:
    store = LlamaIndexStore.from_params(
        connection_string=place.urls["sqlalchemy+psycopg2"],
        async_connection_string=place.urls["sqlalchemy+asyncpg"],
        schema_name=place.schema,
        table_name=place.schema,
        embed_dim=data.dimension,
    )
    store.add([])  # makes the table
    return sql.Identifier(place.schema, f"data_{place.schema}"), partial(store.add, data.nodes)


def vecs_collection(place: Place, data: Data) -> Prepared:
    client = vecs.create_client(place.urls["sqlalchemy+psycopg2"])
    collection = client.get_or_create_collection(place.schema, dimension=data.dimension)
    return sql.Identifier("vecs", place.schema), partial(collection.upsert, data.records)


PEERS = {"langchain-postgres": langchain, "llama-index": llama_index, "vecs": vecs_collection}


def load(peer: str, place: Place, data: Data) -> dict[str, float]:
    """One measurement; the table is dropped afterwards."""
    table, fill = PEERS[peer](place, data)
    started, cpu = time.perf_counter(), time.process_time()
    fill()
    answer = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    with psycopg.connect(place.urls["psycopg"]) as conn:
        (answer["rows"],) = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
        conn.execute(sql.SQL("DROP TABLE {}").format(table))
    return answer


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # loading.py ends this process
    answers, sys.stdout = sys.stdout, sys.stderr
    place = data = None
    for line in sys.stdin:
        answer = {}
        match json.loads(line):
            case {"urls": _} as given:
                place = Place(**given)
            case {"vectors": _} as given:
                data = Data(**given)
                freeze()  # else the garbage collector walks through the data again and again
            case {"load": peer}:
                answer = load(peer, place, data)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
