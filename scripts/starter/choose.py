"""Families whose answer is one of a few labels, or one of the things shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import pools
from .family import Draw, Drawer, Task

SUBJECTS = (
    "The film",
    "This hotel",
    "The new phone",
    "Our waiter",
    "The concert",
    "That book",
    "The lunch menu",
    "My dentist",
    "This jacket",
    "The city tour",
    "The online course",
    "Their coffee",
    "The museum guide",
    "This vacuum cleaner",
    "The bus ride",
    "The garden party",
)
LABELLED = pools.sections("labelled.txt")
PLACE_NAMES = ("first", "second", "third", "last")


def classify(family: str) -> Drawer:
    """A sentence of one of the family's labels in labelled.txt; the labels are equally likely."""
    by_label = {
        heading.split(": ")[1]: lines for heading, lines in LABELLED.items() if heading.startswith(f"{family}: ")
    }
    return lambda draw: pick(draw, by_label)


def pick(draw: Draw, by_label: Mapping[str, Sequence[str]]) -> Task:
    label = draw.rng.choice(sorted(by_label))
    return Task(draw.one(by_label[label]), label)


def sentiment(draw: Draw) -> Task:
    task = classify("sentiment")(draw)
    return Task(f"{draw.one(SUBJECTS)} {task.input}", task.output)


def kingdom(draw: Draw) -> Task:
    return pick(draw, {"animal": pools.ANIMALS, "plant": pools.PLANTS, "mineral": pools.MINERALS})


def member(draw: Draw) -> Task:
    *items, other = draw.some(draw.rng.choice([pools.FOODS, pools.CITIES, pools.THINGS]), 5)
    wanted, answer = draw.rng.choice([(draw.rng.choice(items), "yes"), (other, "no")])
    return Task(", ".join(items), answer, {"word": wanted})


def nth_item(draw: Draw) -> Task:
    items = draw.some(draw.rng.choice([pools.FOODS, pools.CITIES, pools.THINGS, pools.ANIMALS]), 4)
    place = draw.rng.choice(PLACE_NAMES)
    return Task(", ".join(items), items[{"first": 0, "second": 1, "third": 2, "last": 3}[place]], {"place": place})


def larger_number(draw: Draw) -> Task:
    first, second = draw.some(range(10, 1000), 2)
    return Task(f"{first}, {second}", str(first if first > second else second))


def longest_word(draw: Draw) -> Task:
    chosen = draw.rng.choice([w for w in draw.side(pools.THINGS + pools.FOODS) if len(w) > 6])
    others = draw.rng.sample([w for w in draw.side(pools.THINGS + pools.FOODS) if len(w) < 5], 2)
    return Task(", ".join(draw.shuffled([chosen, *others])), chosen)


def first_word(draw: Draw) -> Task:
    text = draw.one(pools.SENTENCES)
    return Task(text, text.split()[0])


FAMILIES: dict[str, Drawer] = {
    "sentiment": sentiment,
    "topic": classify("topic"),
    "language": classify("language"),
    "question_or_statement": classify("question_or_statement"),
    "kingdom": kingdom,
    "spam": classify("spam"),
    "intent": classify("intent"),
    "membership": member,
    "nth_item": nth_item,
    "larger_number": larger_number,
    "longest_word": longest_word,
    "first_word": first_word,
}
