"""The tasks of the question set: name -> function that makes items from a seeded random source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from types import MappingProxyType

from hybrid_batch.demo.tasks import facts, language, numbers, reading, words
from hybrid_batch.demo.tasks.item import Item

TASKS: Mapping[str, Callable[[Random], Iterable[Item]]] = MappingProxyType(
    {
        "world": facts.world,
        "science": facts.science,
        "category": facts.category,
        "choice": facts.choice,
        "arith": numbers.arithmetic,
        "story": numbers.stories,
        "units": numbers.units,
        "dates": numbers.dates,
        "compare": numbers.compare,
        "sequence": numbers.sequences,
        "letters": words.letters,
        "rewrite": words.rewrite,
        "translate": language.translate,
        "sentiment": reading.sentiment,
        "extract": reading.extract,
        "code": reading.code,
    }
)
