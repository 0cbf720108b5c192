"""Questions on numbers: sums, word problems, units, dates, comparisons, sequences."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Iterator
from random import Random

from hybrid_batch.demo.tasks.item import Item, table

_ONLY = "Answer with the number only."
_WORKED = "Write the calculation in one line, ending with the result."
_NAMES = ("Anna", "Ben", "Clara", "David", "Ella", "Farid", "Grace", "Hugo", "Ines", "Jon")
_THINGS = ("apples", "pencils", "stickers", "marbles", "cards", "books", "coins", "shells")
_DAYS = tuple(calendar.day_name)
_MONTHS = tuple(calendar.month_name)[1:]

_UNITS = table("""
kilometres => metres 1000
metres => centimetres 100
centimetres => millimetres 10
kilograms => grams 1000
tonnes => kilograms 1000
litres => millilitres 1000
hours => minutes 60
minutes => seconds 60
days => hours 24
weeks => days 7
years => months 12
feet => inches 12
yards => feet 3
pounds => ounces 16
dozens => pieces 12
gallons => quarts 4
""")


def arithmetic(rng: Random) -> Iterator[Item]:
    for (low, high), times in (((2, 9), 4), ((11, 99), 6), ((101, 999), 5), ((1001, 9999), 3)):
        for _ in range(times):
            a, b = rng.randint(low, high), rng.randint(low, high)
            yield Item(f"What is {a} + {b}? {_ONLY}", str(a + b), "number")
            a, b = max(a, b), min(a, b)
            yield Item(f"What is {a} - {b}? {_ONLY}", str(a - b), "number")
    for (low, high), times in (((2, 9), 5), ((11, 49), 9), ((101, 399), 2)):
        for _ in range(times):
            a, b = rng.randint(low, high), rng.randint(2, 9)
            yield Item(f"What is {a} times {b}? {_ONLY}", str(a * b), "number")
    for high in (9, 9, 9, 9, 40, 40, 40, 40):
        a, b = rng.randint(2, high), rng.randint(2, 9)
        yield Item(f"What is {a * b} divided by {b}? {_ONLY}", str(a), "number")


def stories(rng: Random) -> Iterator[Item]:
    for size in (9, 20, 60, 120):
        for story in (_bought, _gave, _shared, _packs, _trip, _change, _ages, _two_steps, _rows, _left):
            prompt, answer = story(rng, size)
            yield Item(f"{prompt} {_WORKED}", str(answer), "number")


def _bought(rng: Random, size: int) -> tuple[str, int]:
    name, thing = rng.choice(_NAMES), rng.choice(_THINGS)
    a, b = rng.randint(2, size), rng.randint(2, size)
    return f"{name} has {a} {thing} and buys {b} more. How many {thing} does {name} have now?", a + b


def _gave(rng: Random, size: int) -> tuple[str, int]:
    (name, friend), thing = rng.sample(_NAMES, 2), rng.choice(_THINGS)
    b = rng.randint(2, size)
    a = b + rng.randint(1, size)
    return f"{name} has {a} {thing} and gives {b} to {friend}. How many {thing} are left?", a - b


def _shared(rng: Random, size: int) -> tuple[str, int]:
    thing, friends, each = rng.choice(_THINGS), rng.randint(2, 8), rng.randint(2, size)
    return f"{friends} friends share {friends * each} {thing} equally. How many does each get?", each


def _packs(rng: Random, size: int) -> tuple[str, int]:
    thing, packs, each = rng.choice(_THINGS), rng.randint(2, 9), rng.randint(3, size)
    return f"A box holds {each} {thing}. How many {thing} are in {packs} boxes?", packs * each


def _trip(rng: Random, size: int) -> tuple[str, int]:
    hours, speed = rng.randint(2, 6), rng.randint(2, size) + 30
    return f"A car drives {speed} km every hour. How many km does it drive in {hours} hours?", hours * speed


def _change(rng: Random, size: int) -> tuple[str, int]:
    name, price, count = rng.choice(_NAMES), rng.randint(2, max(3, size // 4)), rng.randint(2, 5)
    paid = price * count + rng.randint(1, 20)
    text = f"{name} buys {count} tickets for {price} euros each and pays with {paid} euros."
    return f"{text} How many euros does {name} get back?", paid - price * count


def _ages(rng: Random, size: int) -> tuple[str, int]:
    (name, friend), gap, years = rng.sample(_NAMES, 2), rng.randint(2, 9), rng.randint(2, 9)
    age = rng.randint(5, 5 + size)
    text = f"{name} is {age} years old. {friend} is {gap} years older than {name}."
    return f"{text} How old will {friend} be in {years} years?", age + gap + years


def _two_steps(rng: Random, size: int) -> tuple[str, int]:
    name, thing = rng.choice(_NAMES), rng.choice(_THINGS)
    bags, each = rng.randint(2, 6), rng.randint(3, size)
    lost = rng.randint(1, bags * each - 1)
    text = f"{name} has {bags} bags with {each} {thing} each and loses {lost} {thing}."
    return f"{text} How many {thing} remain?", bags * each - lost


def _rows(rng: Random, size: int) -> tuple[str, int]:
    rows, seats = rng.randint(3, 9), rng.randint(4, size)
    return f"A hall has {rows} rows with {seats} seats each. How many seats are there?", rows * seats


def _left(rng: Random, size: int) -> tuple[str, int]:
    name, per_day, days = rng.choice(_NAMES), rng.randint(2, max(3, size // 3)), rng.randint(2, 7)
    pages = per_day * days + rng.randint(5, 5 + size)
    text = f"A book has {pages} pages. {name} reads {per_day} pages a day for {days} days."
    return f"{text} How many pages are still to read?", pages - per_day * days


def units(rng: Random) -> Iterator[Item]:
    for unit, right in _UNITS:
        smaller, factor = right.split()
        count = rng.randint(2, 9)
        yield Item(f"How many {smaller} are in {count} {unit}? {_ONLY}", str(count * int(factor)), "number")
    for celsius in rng.sample(range(-20, 105, 5), 8):
        prompt = f"What is {celsius} degrees Celsius in degrees Fahrenheit? {_WORKED}"
        yield Item(prompt, str(celsius * 9 // 5 + 32), "number")


def dates(rng: Random) -> Iterator[Item]:
    for ahead in (1, 1, 1, 1, 2, 3, 8):
        day = rng.randrange(7)
        prompt = f"Today is {_DAYS[day]}. Which day of the week is it in {ahead} days?".replace("in 1 days", "tomorrow")
        later = _DAYS[(day + ahead) % 7]
        yield Item(f"{prompt} Answer with the day only.", later, f"final:{'|'.join(_DAYS)}")
    final = f"final:{'|'.join(_MONTHS)}"
    for month in range(12):
        prompt = f"Which month comes right {{}} {_MONTHS[month]}? Answer with the month only."
        yield Item(prompt.format("after"), _MONTHS[(month + 1) % 12], final)
        yield Item(prompt.format("before"), _MONTHS[(month - 1) % 12], final)
    for month in rng.sample([0, 3, 4, 5, 6, 7, 8, 9, 10, 11], 6):
        length = calendar.monthrange(2023, month + 1)[1]
        yield Item(f"How many days does {_MONTHS[month]} have? {_ONLY}", str(length), "number")
    for _ in range(4):
        start = datetime.date(2023, rng.randint(1, 11), rng.randint(1, 28))
        days = rng.randint(3, 30)
        end = start + datetime.timedelta(days=days)
        prompt = f"Which date is {days} days after {_MONTHS[start.month - 1]} {start.day}?"
        answer = f"{_MONTHS[end.month - 1]} {end.day}"
        yield Item(f"{prompt} Answer with month and day only.", answer, "contains")


def compare(rng: Random) -> Iterator[Item]:
    for low, high in ((10, 99), (100, 999), (1000, 9999), (10000, 99999)):
        for word, pick in (("larger", max), ("smaller", min), ("larger", max), ("smaller", min)):
            pair = rng.sample(range(low, high), 2)
            yield _either(f"Which number is {word}", [str(one) for one in pair], str(pick(pair)))
    for _ in range(6):
        decimals = [f"0.{rng.randint(3, 9)}", f"0.{rng.randint(11, 29)}"]
        rng.shuffle(decimals)
        yield _either("Which number is larger", decimals, max(decimals, key=float))
    for _ in range(20):
        hours, minutes = rng.randint(2, 9), rng.randint(100, 600)
        times = [f"{hours} hours", f"{minutes} minutes"]
        yield _either("Which is longer", times, times[0] if hours * 60 > minutes else times[1])


def _either(question: str, pair: list[str], right: str) -> Item:
    return Item(f"{question}, {pair[0]} or {pair[1]}? Answer with that one only.", right, f"label:{'|'.join(pair)}")


def sequences(rng: Random) -> Iterator[Item]:
    for step in (1, 2, 5, 10, 3, 4, 7, 11, 25, 50):
        start = rng.randint(1, 20)
        yield _next([start + step * place for place in range(5)])
    for step in (1, 2, 3, 6):
        start = rng.randint(70, 120)
        yield _next([start - step * place for place in range(5)])
    for factor in (2, 2, 2, 3, 3, 10):
        start = rng.randint(1, 6)
        yield _next([start * factor**place for place in range(5)])
    for start in range(1, 7):
        yield _next([number**2 for number in range(start, start + 5)])
    for _ in range(4):
        first, second = rng.randint(1, 6), rng.randint(1, 6)
        row = [first, second]
        while len(row) < 6:
            row.append(row[-1] + row[-2])
        yield _next(row)


def _next(row: list[int]) -> Item:
    shown = ", ".join(str(number) for number in row[:-1])
    return Item(f"Continue the sequence with one more number: {shown}, ? {_ONLY}", str(row[-1]), "number")
