"""What the benchmark of generation asks: real prompts of mixed length, the same with repeats, and with long prefixes.

Every row has its own bound of 32 to 96 tokens.  A seed decides everything that is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.routing_sets import folder as data_folder
from benchmarks.scoring_queries import found_queries

LEAST_TOKENS, MOST_TOKENS = 32, 96
"""Bounds of an answer."""

MOST_PROMPT_TOKENS: Final = 640
PREFIX_TOKENS: Final = 400
MOST_QUESTION_TOKENS: Final = 64
"""Of what comes after a shared prefix."""

DUPLICATES: Final = 0.40
_POOL = 4000


@dataclass(frozen=True)
class Row:
    """One request: a chat of one turn, answered in at most ``max_tokens`` tokens."""

    query_id: str
    prompt: str
    max_tokens: int

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self.prompt}]


class Texts:
    """Real texts, in an order that their hashes decide, with their lengths in tokens of the model in ``model``."""

    def __init__(self, model: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(str(model))
        self.all, self.source = _found()

    def ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids)

    def at_most(self, tokens: int) -> Iterator[str]:
        """The texts of at most so many tokens."""
        return (text for text in self.all if len(self.ids(text)) <= tokens)


@lru_cache(maxsize=1)
def _found() -> tuple[list[str], str]:
    return found_queries(data_folder(), _POOL)


def mixed(texts: Texts, count: int) -> list[Row]:
    """``count`` different prompts of all lengths up to a bound that the model's window sets."""
    return _rows(list(islice(texts.at_most(MOST_PROMPT_TOKENS), count)), Random(0))


def duplicates(texts: Texts, count: int) -> list[Row]:
    """The same, but a share of the requests ask again what another one asks; in random order."""
    random = Random(0)
    repeats = round(count * DUPLICATES)
    own = mixed(texts, count - repeats)
    asked = own + [random.choice(own) for _ in range(repeats)]
    random.shuffle(asked)
    return [Row(f"{place:06d}", row.prompt, row.max_tokens) for place, row in enumerate(asked)]


def with_prefixes(texts: Texts, count: int, prefixes: int) -> list[Row]:
    """``count`` questions, each after one of so many documents of ``PREFIX_TOKENS`` tokens; in random order."""
    random = Random(0)
    documents = list(islice(_documents(texts), prefixes))
    if len(documents) < prefixes:
        raise ValueError(f"the texts make {len(documents)} documents, {prefixes} are needed: lower --kv-blocks")
    questions = list(islice(texts.at_most(MOST_QUESTION_TOKENS), count))
    if len(questions) < count:
        raise ValueError(f"there are {len(questions)} questions, {count} are needed: lower --prefix-prompts")
    prompts = [f"{documents[place % prefixes]}\n\n{question}" for place, question in enumerate(questions)]
    random.shuffle(prompts)
    return _rows(prompts, random)


def _documents(texts: Texts) -> Iterator[str]:
    """Texts from the end of the list, which no question comes from, joined and cut."""
    ids: list[int] = []
    for text in reversed(texts.all):
        ids += texts.ids(text + "\n")
        if len(ids) >= PREFIX_TOKENS:
            yield texts.text(ids[:PREFIX_TOKENS])
            ids = []


def _rows(prompts: Sequence[str], random: Random) -> list[Row]:
    return [Row(f"{place:06d}", text, random.randint(LEAST_TOKENS, MOST_TOKENS)) for place, text in enumerate(prompts)]


def write_rows(rows: Sequence[Row], path: Path) -> Path:
    """For a process of its own; :func:`read_rows` is the inverse."""
    path.write_text(json.dumps([asdict(row) for row in rows]))
    return path


def read_rows(path: str) -> list[Row]:
    return [Row(**row) for row in json.loads(Path(path).read_text())]
