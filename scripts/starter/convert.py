"""Families that turn one notation into another, and a few hard ones: counting, sorting, grammar, code."""

from __future__ import annotations

from . import pools
from .family import Draw, Drawer, Task
from .pools import words

ONES = words("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen
""")
TENS = words("twenty thirty forty fifty sixty seventy eighty ninety")
PLURALS = tuple(
    pair.split(":")
    for pair in words("""
    box:boxes cat:cats city:cities dish:dishes boy:boys leaf:leaves bus:buses book:books story:stories
    child:children car:cars glass:glasses baby:babies watch:watches dog:dogs knife:knives lady:ladies
    chair:chairs church:churches toy:toys tree:trees foot:feet party:parties brush:brushes key:keys wife:wives
    berry:berries house:houses fox:foxes day:days man:men country:countries class:classes river:rivers
    wolf:wolves puppy:puppies bench:benches song:songs tooth:teeth penny:pennies shelf:shelves bridge:bridges
    kiss:kisses monkey:monkeys cherry:cherries match:matches apple:apples mouse:mice
""")
)
PAST = tuple(
    pair.split(":")
    for pair in words("""
    walk:walked go:went play:played see:saw try:tried eat:ate stop:stopped write:wrote like:liked take:took
    carry:carried sing:sang plan:planned give:gave dance:danced run:ran open:opened come:came study:studied
    buy:bought drop:dropped know:knew close:closed find:found help:helped drink:drank cry:cried make:made
    hope:hoped speak:spoke talk:talked keep:kept hug:hugged swim:swam move:moved tell:told jump:jumped
    think:thought hurry:hurried break:broke clean:cleaned begin:began smile:smiled leave:left grab:grabbed
    drive:drove paint:painted sell:sold
""")
)
OPPOSITES = tuple(
    pair.split(":")
    for pair in words("""
    hot:cold big:small open:closed up:down early:late rich:poor full:empty wet:dry hard:soft old:young fast:slow
    light:dark tall:short strong:weak loud:quiet clean:dirty thick:thin happy:sad near:far heavy:light
    true:false wide:narrow easy:difficult deep:shallow good:bad high:low sharp:blunt right:wrong sweet:bitter
    first:last alive:dead cheap:expensive inside:outside push:pull love:hate start:finish win:lose buy:sell
    day:night
""")
)
COLUMNS = {"users": ("name", "city", "age"), "orders": ("price", "item", "day"), "books": ("title", "author", "year")}
ACRONYMS = (
    "portable network graphics",
    "random access memory",
    "frequently asked questions",
    "central processing unit",
    "light emitting diode",
    "global positioning system",
    "compressed natural gas",
    "automated teller machine",
    "personal flotation device",
    "very important person",
    "optical character recognition",
    "near field communication",
    "world chess federation",
    "north harbor museum",
    "open garden society",
    "young bakers club",
    "blue river trust",
    "green valley school",
    "old stone bridge",
    "royal tennis league",
)
KEYS = ("name", "city", "colour", "pet", "fruit")


def clock(draw: Draw) -> Task:
    hour, minute, half = draw.size(1, 12), draw.number(0, 59), draw.rng.choice(["am", "pm"])
    hour24 = hour % 12 + (12 if half == "pm" else 0)
    return Task(f"{hour}:{minute:02d} {half}", f"{hour24:02d}:{minute:02d}")


def long_date(draw: Draw) -> Task:
    day, month, year = draw.number(1, 28), draw.size(1, 12), draw.number(1980, 2035)
    return Task(f"{year}-{month:02d}-{day:02d}", f"{day} {pools.MONTHS[month - 1]} {year}")


def digits(draw: Draw) -> Task:
    number = draw.number(21, 99) if draw.rng.random() < 0.6 else 100 * draw.size(1, 9) + draw.number(1, 19)
    if number < 100:
        tens, one = divmod(number, 10)
        return Task(TENS[tens - 2] + (f"-{ONES[one]}" if one else ""), str(number))
    hundreds, rest = divmod(number, 100)
    return Task(f"{ONES[hundreds]} hundred and {ONES[rest]}", str(number))


def count_items(draw: Draw) -> Task:
    items = draw.some(draw.rng.choice([pools.FOODS, pools.THINGS, pools.CITIES]), draw.size(2, 6))
    return Task(", ".join(items), str(len(items)))


def sort_words(draw: Draw) -> Task:
    pool = draw.rng.choice([pools.FOODS, pools.THINGS, pools.ANIMALS, pools.FIRST_NAMES])
    items = sorted(draw.some(pool, 3))
    return Task(", ".join(draw.shuffled(items)), ", ".join(items))


def sort_numbers(draw: Draw) -> Task:
    items = sorted(draw.some(range(1, 100), draw.size(3, 4)))
    return Task(", ".join(map(str, draw.shuffled(items))), ", ".join(map(str, items)))


def pairs(draw: Draw, table: tuple[list[str], ...], count: int) -> Task:
    chosen = draw.some(table, count)
    return Task(", ".join(word for word, _ in chosen), ", ".join(answer for _, answer in chosen))


def plural(draw: Draw) -> Task:
    return pairs(draw, PLURALS, 2)


def past(draw: Draw) -> Task:
    return pairs(draw, PAST, 2)


def opposite(draw: Draw) -> Task:
    return pairs(draw, OPPOSITES, 1)


def sql(draw: Draw) -> Task:
    table = draw.rng.choice(sorted(COLUMNS))
    column, other = draw.rng.sample(COLUMNS[table], 2)
    if other in ("age", "price", "year"):
        limit = draw.number(5, 99) if other != "year" else draw.number(1950, 2024)
        return Task(
            f"{column} of {table} with {other} over {limit}", f"SELECT {column} FROM {table} WHERE {other} > {limit};"
        )
    pool = {"name": pools.FIRST_NAMES, "city": pools.CITIES, "item": pools.THINGS, "day": pools.DAYS}
    value = draw.one(pool.get(other, pools.LAST_NAMES))
    return Task(f"{column} of {table} with {other} {value}", f"SELECT {column} FROM {table} WHERE {other} = '{value}';")


def shell(draw: Draw) -> Task:
    first, second = draw.some(pools.THINGS + pools.TAGS, 2)
    return draw.rng.choice(
        [
            Task(f"make a folder {first}", f"mkdir {first}"),
            Task(f"copy {first}.txt to {second}.txt", f"cp {first}.txt {second}.txt"),
            Task(f"rename {first}.txt to {second}.txt", f"mv {first}.txt {second}.txt"),
            Task(f"delete {first}.log", f"rm {first}.log"),
            Task(f"go to the folder {first}", f"cd {first}"),
            Task(f"count the lines of {first}.csv", f"wc -l {first}.csv"),
        ]
    )


def key_value(draw: Draw) -> Task:
    values = (
        draw.one(pools.FIRST_NAMES),
        draw.one(pools.CITIES),
        draw.one(pools.COLOURS),
        draw.one(pools.ANIMALS),
        draw.one(pools.FOODS),
    )
    record = draw.rng.sample(list(zip(KEYS, values, strict=True)), 3)
    key, value = draw.rng.choice(record)
    return Task("; ".join(f"{k}: {v}" for k, v in record), value, {"key": key})


def acronym(draw: Draw) -> Task:
    phrase = draw.one(ACRONYMS)
    return Task(phrase, "".join(word[0].upper() for word in phrase.split()))


FAMILIES: dict[str, Drawer] = {
    "clock_24": clock,
    "long_date": long_date,
    "number_words": digits,
    "count_items": count_items,
    "sort_words": sort_words,
    "sort_numbers": sort_numbers,
    "plural": plural,
    "past_tense": past,
    "opposite": opposite,
    "sql": sql,
    "shell": shell,
    "key_value": key_value,
    "acronym": acronym,
}
