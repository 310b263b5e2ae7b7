"""Where the sentences of a text begin and end."""

import re

_END = re.compile(r"[.!?][\"'`)\]”’*]*\s+|\n[ \t]*\n|\n(?=[ \t]*(?:[-*•]|\d{1,3}[.)])[ \t])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:e\.g|i\.e|etc|vs|cf|approx|resp|fig|dr|mr|mrs|ms|prof|[A-Z])\.$|^\s*\d{1,3}\.$", re.IGNORECASE
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence: `text[start:end]` is the sentence, without white space around it.

    A sentence ends with . ! or ? before white space, with a blank line or
    before a list item; a dot within a word (3.5, pg_stat.x), after a common
    English abbreviation or the number of a list's item ends none. Between
    sentences there is only white space.
    """
    bounds = [0]
    for end in _END.finditer(text):
        if not _ABBREVIATION.search(text[max(bounds[-1], end.start() - 10) : end.end()].rstrip()):
            bounds.append(end.end())
    spans = []
    for start, end in zip(bounds, [*bounds[1:], len(text)]):
        sentence = text[start:end].strip()
        if sentence:
            start += text[start:end].index(sentence)
            spans.append((start, start + len(sentence)))
    return spans


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, word for word, with each run of white space made one space."""
    return [" ".join(text[start:end].split()) for start, end in sentence_spans(text)]
