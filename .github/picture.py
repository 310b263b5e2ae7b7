"""Draw the picture of the README from the course's own data: python .github/picture.py"""

from pathlib import Path

import numpy as np

from pgv_helpers import embed, get_embedding, load_passages, plot_map

passages = load_passages()[:40]  # the first forty of 248
vectors = embed(passages.content)
question = get_embedding("Why do I cry when chopping onions?")
nearest = np.argsort(-vectors @ question)[:3]
figure = plot_map(vectors, passages.category, question=question, nearest={row: passages.title[row] for row in nearest})
figure.savefig(Path(__file__).with_name("search-by-meaning.png"), dpi=110)
