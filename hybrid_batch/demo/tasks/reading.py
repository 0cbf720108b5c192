"""Questions on a text or a program: mood of a review, a detail of a message, what Python prints."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from hybrid_batch.demo.tasks.item import Item, table

_PRAISE = """
I loved every minute of this film.
The food was delicious and the staff were friendly.
Best phone I have ever owned.
What a wonderful, warm and funny book.
The room was clean, quiet and bright.
Great value, and it arrived a day early.
My children play with it every day and never get bored.
The concert was amazing from start to end.
I would buy these shoes again without thinking twice.
Simple to set up and it works perfectly.
I expected little, and was happily surprised.
Not bad at all, I will certainly come back.
I cannot find a single thing to complain about.
The plot is slow at first, but the ending is brilliant.
It took me ages to find a pen this good.
After three broken ones, finally a kettle that lasts.
You will not regret the long drive to this place.
No noise, no leaks, no trouble in five years.
I was ready to hate it; now I recommend it to everyone.
My only regret is that I did not buy it sooner.
"""

_BLAME = """
I hated this film, it was a waste of time.
The food was cold and the waiter was rude.
Worst phone I have ever owned.
A boring book that I could not finish.
The room was dirty and smelled of smoke.
It broke after two days and nobody answered my mails.
The sound is terrible and the screen flickers.
I want my money back.
The seats were uncomfortable and the singer was out of tune.
Poor quality, do not buy it.
I expected a lot, and got very little.
It would be great if it actually worked.
The pictures look nice, the real thing does not.
Five stars for the box, none for what is inside.
I wish I could say something good about it.
If you enjoy waiting in the rain, this hotel is for you.
It did everything except what it was made for.
Nothing about this trip was worth the price.
They promised the moon and delivered a headache.
I have had better coffee from a vending machine.
"""

_PEOPLE = ("Maria", "Tom", "Aisha", "Peter", "Lena", "Omar", "Julia", "Victor")
_CITIES = ("Madrid", "Vienna", "Boston", "Dublin", "Prague", "Sydney", "Lyon", "Turin")
_ALWAYS_ASKED = ("What is the order number?", "How many euros did it cost?", "In which city will it be collected?")
_GOODS = ("lamp", "bicycle", "jacket", "camera", "desk", "guitar", "blanket", "backpack")

_PROGRAMS = table("""
print({a} + {b}) => {sum}
print({big} + {b}) => {larger}
print({a} * {b}) => {product}
print({big} - {a}) => {difference}
print({big} // {a}) => {quotient}
print({big} % {a}) => {rest}
print(max([{a}, {b}, {c}])) => {maximum}
print(sum([{a}, {b}])) => {sum}
print("{word}".upper()) => {upper}
print("{word}"[0]) => {first}
print(len("{word}")) => {length}
""")


def sentiment(rng: Random) -> Iterator[Item]:
    rows = [(text, "positive") for text in _PRAISE.strip().splitlines()]
    rows += [(text, "negative") for text in _BLAME.strip().splitlines()]
    rng.shuffle(rows)
    for text, mood in rows:
        prompt = f"Is this review positive or negative? Answer with one word.\nReview: {text}"
        yield Item(prompt, mood, "label:positive|negative")


def extract(rng: Random) -> Iterator[Item]:
    for _ in range(12):
        (sender, friend), (home, goal) = rng.sample(_PEOPLE, 2), rng.sample(_CITIES, 2)
        thing, price, hour = rng.choice(_GOODS), rng.randint(11, 480), rng.randint(7, 11)
        code = f"{rng.choice('KLMNPRT')}{rng.randint(1000, 9999)}"
        text = (
            f"{sender} from {home} ordered a {thing} for {price} euros. The order number is {code}. "
            f"{friend} will collect it in {goal} at {hour} o'clock."
        )
        asked = {
            "Who ordered something?": sender,
            "Who will collect the order?": friend,
            "In which city will it be collected?": goal,
            "What was ordered?": thing,
            "What is the order number?": code,
            "How many euros did it cost?": str(price),
        }
        for question in (*_ALWAYS_ASKED, rng.choice(sorted(set(asked) - set(_ALWAYS_ASKED)))):
            yield Item(f"{text}\n{question} Answer in a few words.", asked[question], "contains")


def code(rng: Random) -> Iterator[Item]:
    for _ in range(4):
        for program, answer in _PROGRAMS:
            values = _values(rng)
            prompt = f"What does this Python code print? Answer with the output only.\n{program.format(**values)}"
            output = answer.format(**values)
            yield Item(prompt, output, "number" if output.isdigit() else "case")


def _values(rng: Random) -> dict[str, str | int]:
    a, b, c = rng.sample(range(2, 30), 3)
    big, word = (
        rng.randint(31, 99),
        rng.choice(("robot", "cloud", "tiger", "paper", "green", "stone", "music")),
    )
    return {
        "a": a,
        "b": b,
        "c": c,
        "big": big,
        "word": word,
        "sum": a + b,
        "larger": big + b,
        "difference": big - a,
        "product": a * b,
        "quotient": big // a,
        "rest": big % a,
        "length": len(word),
        "upper": word.upper(),
        "first": word[0],
        "maximum": max(a, b, c),
    }
