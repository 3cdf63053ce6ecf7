"""Families that copy one thing out of a text, exactly as it stands there."""

from __future__ import annotations

from . import pools
from .family import Draw, Drawer, Task
from .pools import LINES


def address(draw: Draw) -> str:
    first, last = draw.one(pools.FIRST_NAMES).lower(), draw.one(pools.LAST_NAMES).lower()
    local = draw.rng.choice([f"{first}.{last}", first, f"{first}{draw.number(2, 99)}", f"{first[0]}.{last}"])
    return f"{local}@{draw.one(pools.DOMAINS)}.example"


def person(draw: Draw) -> str:
    return f"{draw.one(pools.FIRST_NAMES)} {draw.one(pools.LAST_NAMES)}"


def around(line: str, draw: Draw, value: str) -> str:
    return line.format(value, name=draw.one(pools.FIRST_NAMES), city=draw.one(pools.CITIES))


def email(draw: Draw) -> Task:
    value = address(draw)
    return Task(draw.one(LINES["email"]).format(value), value)


def price(draw: Draw) -> Task:
    value = f"${draw.number(2, 180)}.{draw.number(0, 99):02d}"
    return Task(draw.one(LINES["price"]).format(draw.one(pools.THINGS), value), value)


def date(draw: Draw) -> Task:
    value = f"{draw.number(1, 28)} {draw.one(pools.MONTHS)} {draw.number(1990, 2030)}"
    return Task(around(draw.one(LINES["date"]), draw, value), value)


def phone(draw: Draw) -> Task:
    value = f"555-01{draw.number(0, 99):02d}"
    return Task(around(draw.one(LINES["phone"]), draw, value), value)


def name(draw: Draw) -> Task:
    value = person(draw)
    return Task(draw.one(LINES["name"]).format(value, city=draw.one(pools.CITIES)), value)


def hashtags(draw: Draw) -> Task:
    value = " ".join(f"#{tag}" for tag in draw.some(pools.TAGS, draw.size(2, 3)))
    return Task(f"{draw.one(LINES['hashtags'])} {value}", value)


def quoted(draw: Draw) -> Task:
    value = draw.one(LINES["phrases"])
    return Task(draw.one(LINES["quoted"]).format(value), value)


def time(draw: Draw) -> Task:
    value = f"{draw.number(0, 23):02d}:{draw.number(0, 59):02d}"
    return Task(around(draw.one(LINES["time"]), draw, value), value)


def url(draw: Draw) -> Task:
    value = f"https://{draw.one(pools.DOMAINS)}.example/{draw.one(pools.TAGS)}"
    return Task(draw.one(LINES["url"]).format(value), value)


FAMILIES: dict[str, Drawer] = {
    "extract_email": email,
    "extract_price": price,
    "extract_date": date,
    "extract_phone": phone,
    "extract_name": name,
    "extract_hashtags": hashtags,
    "extract_quoted": quoted,
    "extract_time": time,
    "extract_url": url,
}
