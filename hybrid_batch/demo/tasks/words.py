"""Questions on words: letters and spelling, forms, order."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from hybrid_batch.demo.tasks.item import Item, table

_ONLY = "Answer with that only."
_SHORT = ("sun", "tree", "bird", "lamp", "gold", "ship", "wolf", "milk", "door", "rock")
_LONG = ("planet", "garden", "bottle", "winter", "monkey", "silver", "forest", "dragon", "pocket", "hammer")
_LONGER = ("mountain", "elephant", "umbrella", "keyboard", "sandwich", "treasure", "blueberry", "telephone")

_FORMS = table("""
the plural of the word "cat" => cats
the plural of the word "box" => boxes
the plural of the word "city" => cities
the plural of the word "child" => children
the plural of the word "mouse" => mice
the plural of the word "tooth" => teeth
the plural of the word "leaf" => leaves
the plural of the word "criterion" => criteria
the past tense of the verb "walk" => walked
the past tense of the verb "go" => went
the past tense of the verb "eat" => ate
the past tense of the verb "write" => wrote
the past tense of the verb "bring" => brought
the past tense of the verb "swim" => swam
the past tense of the verb "teach" => taught
the opposite of the word "hot" => cold
the opposite of the word "up" => down
the opposite of the word "early" => late
the opposite of the word "empty" => full
the opposite of the word "rough" => smooth
the opposite of the word "victory" => defeat
the opposite of the word "day" => night
the opposite of the word "rich" => poor
the opposite of the word "young" => old
the opposite of the word "strong" => weak
the opposite of the word "happy" => sad|unhappy
the opposite of the word "dark" => light|bright
""")


def letters(rng: Random) -> Iterator[Item]:
    words = _SHORT + _LONG + _LONGER
    for word in rng.sample(words, 4):
        yield Item(f'Spell the word "{word}" backwards. {_ONLY}', word[::-1], "contains")
    for word in rng.sample(words, 4):
        prompt = f'How many letters does the word "{word}" have? Answer with the number only.'
        yield Item(prompt, str(len(word)), "number")
    for word in rng.sample(words, 20):
        letter = rng.choice(sorted(set(word)))
        prompt = f'How many times does the letter "{letter}" occur in "{word}"? Answer with the number only.'
        yield Item(prompt, str(word.count(letter)), "number")
    for word in rng.sample([word for word in words if word[0] not in "ai"], 16):
        yield Item(f'What is the first letter of the word "{word}"? {_ONLY}', word[0], "contains")
    for word in rng.sample([word for word in words if word[-1] not in "ai"], 4):
        yield Item(f'What is the last letter of the word "{word}"? {_ONLY}', word[-1], "contains")


def rewrite(rng: Random) -> Iterator[Item]:
    for form, answer in _FORMS:
        yield Item(f"What is {form}? Answer with one word.", answer, "contains")
    for count in (1, 1, 2, 2, 2, 3, 3, 3):
        text = " ".join(rng.sample(_LONG, count))
        yield Item(f'Write "{text}" in capital letters. {_ONLY}', text.upper(), "case")
    for text in rng.sample(_LONG + _LONGER, 12):
        yield Item(f'Write "{text.upper()}" in small letters. {_ONLY}', text, "case")
    for count in (3, 3, 4, 5):
        row = rng.sample(_LONG + _SHORT, count)
        if row == sorted(row):
            row.reverse()
        prompt = f"Sort these words alphabetically: {', '.join(row)}. Answer with the sorted words only."
        yield Item(prompt, " ".join(sorted(row)), "contains")
