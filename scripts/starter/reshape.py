"""Families that keep the content and change its form: lists, case, delimiters, JSON, CSV, markup."""

from __future__ import annotations

import json

from . import pools
from .extract import person
from .family import Draw, Drawer, Task

DELIMITERS = (";", "/", "|", "-", "+")
PERSON_LINES = (
    "{name} is {age} and lives in {city}.",
    "{name}, {age}, comes from {city}.",
    "Meet {name} from {city}, who is {age} years old.",
    "At {age}, {name} moved to {city}.",
    "{name} lives in {city} and is {age}.",
    "My friend {name} ({age}) works in {city}.",
)
TEMPLATES = (
    "Dear {name}, your {thing} is ready.",
    "{name} forgot a {thing} in {city}.",
    "Hello {name}! Welcome to {city}.",
    "Ship one {thing} to {name}, {city}.",
    "{name} won a {thing}.",
    "{name} is waiting in {city}.",
    "A {thing} for {name}, please.",
    "From {city} with love, {name}.",
)


def a_list(draw: Draw, low: int = 3, high: int = 4) -> list[str]:
    pool = draw.rng.choice([pools.THINGS, pools.FOODS, pools.ANIMALS, pools.CITIES, pools.FIRST_NAMES])
    return draw.some(pool, draw.size(low, high))


def bullets(draw: Draw) -> Task:
    items = a_list(draw)
    return Task(", ".join(items), "\n".join(f"- {item}" for item in items))


def numbered(draw: Draw) -> Task:
    items = a_list(draw, 3, 3)
    return Task(", ".join(items), "\n".join(f"{place}. {item}" for place, item in enumerate(items, 1)))


def join_and(draw: Draw) -> Task:
    items = a_list(draw)
    return Task("\n".join(items), f"{', '.join(items[:-1])} and {items[-1]}")


def change_delimiter(draw: Draw) -> Task:
    items, delimiter = a_list(draw), draw.rng.choice(DELIMITERS)
    return Task(", ".join(items), delimiter.join(items), {"delimiter": delimiter})


def quote_items(draw: Draw) -> Task:
    items = a_list(draw)
    return Task(", ".join(items), ", ".join(f'"{item}"' for item in items))


def python_list(draw: Draw) -> Task:
    items = a_list(draw)
    return Task(", ".join(items), "[" + ", ".join(f'"{item}"' for item in items) + "]")


def one_per_line(draw: Draw) -> Task:
    items = a_list(draw)
    return Task(draw.rng.choice([", ", "; ", " / "]).join(items), "\n".join(items))


def html_items(draw: Draw) -> Task:
    items = a_list(draw, 2, 3)
    return Task(", ".join(items), "".join(f"<li>{item}</li>" for item in items))


def reverse_list(draw: Draw) -> Task:
    items = a_list(draw, 3, 3)
    return Task(", ".join(items), ", ".join(reversed(items)))


def drop_duplicates(draw: Draw) -> Task:
    items = a_list(draw, 3, 3)
    places = draw.rng.choice([(0, 1, 0, 2), (0, 1, 2, 1), (0, 0, 1, 2), (0, 1, 1, 2), (0, 1, 2, 0), (0, 1, 2, 2)])
    return Task(", ".join(items[place] for place in places), ", ".join(items))


def uppercase(draw: Draw) -> Task:
    text = f"{draw.one(pools.ADJECTIVES)} {draw.one(pools.COLOURS)} {draw.one(pools.THINGS)}"
    return Task(text, "".join(letter.upper() for letter in text))


def lowercase(draw: Draw) -> Task:
    text = draw.one(pools.SENTENCES)
    shown = text.upper() if draw.rng.random() < 0.5 else text.title()
    return Task(shown, text.lower())


def title_case(draw: Draw) -> Task:
    text = f"{draw.one(pools.ADJECTIVES)} {draw.one(pools.COLOURS)} {draw.one(pools.PLACES)}"
    return Task(text, " ".join(word[0].upper() + word[1:] for word in text.split()))


def replace_word(draw: Draw) -> Task:
    name, old, new = draw.one(pools.FIRST_NAMES), *draw.some(pools.THINGS, 2)
    before, after = draw.rng.choice(
        [
            (f"{name} put the", f"in the {draw.one(pools.PLACES)}."),
            (f"The {draw.one(pools.COLOURS)}", f"belongs to {name}."),
            (f"Give {name} the", "today."),
        ]
    )
    return Task(f"{before} {old} {after}", f"{before} {new} {after}", {"old": old, "new": new})


def slugify(draw: Draw) -> Task:
    title = draw.one(pools.TITLES)
    shown = (title[0].upper() + title[1:] if draw.rng.random() < 0.5 else title.title()).replace("'S", "'s")
    shown = shown.replace("'", "")
    return Task(shown, "-".join(title.replace("'", "").split()))


def mask_digits(draw: Draw) -> Task:
    first, second = draw.number(10, 99), draw.number(100, 999)
    line = draw.rng.choice(
        ["Room {1}, bed {0}", "Code {0}-{1}", "Order {1}, {0} boxes", "Bus {0} to gate {1}", "PIN {1}{0}"]
    )
    line = f"{line} ({draw.one(pools.CITIES)})"
    return Task(line.format(first, second), line.format("##", "###"))


def person_to_json(draw: Draw) -> Task:
    record = {"name": draw.one(pools.FIRST_NAMES), "age": draw.number(18, 90), "city": draw.one(pools.CITIES)}
    return Task(draw.rng.choice(PERSON_LINES).format(**record), json.dumps(record))


def record_to_csv(draw: Draw) -> Task:
    values = [person(draw), str(draw.number(18, 90)), draw.one(pools.CITIES)]
    return Task(
        "; ".join(f"{key}: {value}" for key, value in zip(("name", "age", "city"), values, strict=True)),
        ",".join(values),
    )


def fill_template(draw: Draw) -> Task:
    values = {"name": draw.one(pools.FIRST_NAMES), "thing": draw.one(pools.THINGS), "city": draw.one(pools.CITIES)}
    template = draw.rng.choice(TEMPLATES)
    used = {key: value for key, value in values.items() if f"{{{key}}}" in template}
    listed = ", ".join(f"{key}={value}" for key, value in used.items())
    return Task(f"{template.replace('{', '[').replace('}', ']')}\n{listed}", template.format(**used))


def initials(draw: Draw) -> Task:
    name = person(draw)
    first, last = name.split()
    return Task(name, f"{first[0]}.{last[0]}.")


def swap_names(draw: Draw) -> Task:
    first, last = person(draw).split()
    return Task(f"{first} {last}", f"{last}, {first}")


def thing_to_json(draw: Draw) -> Task:
    record = {"item": draw.one(pools.THINGS), "colour": draw.one(pools.COLOURS), "price": draw.number(2, 99)}
    line = draw.rng.choice(
        ["The {colour} {item} costs {price} dollars.", "For {price} dollars you get a {colour} {item}."]
    )
    return Task(line.format(**record), json.dumps(record))


def markdown_link(draw: Draw) -> Task:
    text, link = draw.one(pools.TITLES), f"https://{draw.one(pools.DOMAINS)}.example"
    return Task(f"text: {text}\nurl: {link}", f"[{text}]({link})")


FAMILIES: dict[str, Drawer] = {
    "bullet_list": bullets,
    "numbered_list": numbered,
    "join_with_and": join_and,
    "change_delimiter": change_delimiter,
    "quote_items": quote_items,
    "python_list": python_list,
    "one_per_line": one_per_line,
    "html_items": html_items,
    "reverse_list": reverse_list,
    "drop_duplicates": drop_duplicates,
    "uppercase": uppercase,
    "lowercase": lowercase,
    "title_case": title_case,
    "replace_word": replace_word,
    "slugify": slugify,
    "mask_digits": mask_digits,
    "person_to_json": person_to_json,
    "record_to_csv": record_to_csv,
    "fill_template": fill_template,
    "initials": initials,
    "swap_names": swap_names,
    "thing_to_json": thing_to_json,
    "markdown_link": markdown_link,
}
