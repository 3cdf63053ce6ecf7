"""Families that turn one notation into another, and a few hard ones: counting, sorting, grammar, code."""

from __future__ import annotations

from . import pools
from .family import Draw, Family, Task
from .pools import words

UNITS = (
    ("m", "cm", 100),
    ("kg", "g", 1000),
    ("hours", "minutes", 60),
    ("minutes", "seconds", 60),
    ("km", "m", 1000),
    ("days", "hours", 24),
    ("weeks", "days", 7),
    ("cm", "mm", 10),
)
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


def unit(draw: Draw) -> Task:
    source, target, factor = draw.rng.choice(UNITS)
    amount = draw.number(2, 12 if factor < 100 and factor != 10 else 60)
    return Task(f"{amount} {source}", f"{amount * factor} {target}", {"target": target})


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


def equation(draw: Draw) -> Task:
    first, second = draw.number(2, 30), draw.number(2, 30)
    return Task(f"{first} + {second}", str(first + second))


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


def spell(draw: Draw) -> Task:
    word = draw.rng.choice([word for word in draw.side(pools.THINGS + pools.FOODS) if len(word) <= 6])
    return Task(word, "-".join(word))


def acronym(draw: Draw) -> Task:
    phrase = draw.one(ACRONYMS)
    return Task(phrase, "".join(word[0].upper() for word in phrase.split()))


FAMILIES = (
    Family(
        "clock_24",
        clock,
        (
            "Write this time in 24-hour form, HH:MM.",
            "Convert to the 24-hour clock (HH:MM). Only the time.",
            "What is it on a 24-hour clock? Answer as HH:MM.",
            "Change to military style with a colon, as in 07:05.",
            "Give the 24-hour time with two digits for hours and minutes.",
            "Rewrite the time as HH:MM, 24 hours.",
            "How does a 24-hour clock (HH:MM) show this: {input}",
            "Turn am/pm into 24-hour notation, HH:MM, nothing else.",
            "State the time as on a railway timetable, HH:MM from 00:00 to 23:59.",
        ),
        hard=True,
    ),
    Family(
        "long_date",
        long_date,
        (
            "Write the date as in '5 March 2021'.",
            "Convert this to day, month name, year, like 5 March 2021.",
            "Spell out the month: '5 March 2021' style, nothing else.",
            "Change the ISO date to the form '5 March 2021'.",
            "Give this date in words and numbers, such as 5 March 2021.",
            "Rewrite as day, then the month's name, then the year.",
            "Express this date the long way, as in 5 March 2021: {input}",
            "Put the date in the style of '5 March 2021'. Only the date.",
            "How would a letter show this date? Follow '5 March 2021'.",
        ),
    ),
    Family(
        "units",
        unit,
        (
            "Convert to {target}. Give number and unit.",
            "How much is this in {target}? Answer like '20 {target}'.",
            "Change the unit to {target}; write only the result with its unit.",
            "Express this in {target}, number and unit only.",
            "Turn it into {target}. Only the amount and '{target}'.",
            "Write the same quantity in {target}.",
            "What does this make in {target}? Number and unit, no more.",
            "State the value in {target} (with the unit).",
        ),
        hard=True,
    ),
    Family(
        "number_words",
        digits,
        (
            "Write this number in digits.",
            "Convert the words to a number, digits only.",
            "Give the number as figures.",
            "Which number is this? Digits only.",
            "Change the number words to digits.",
            "Type it as a number.",
            "Show in digits what these words say: {input}",
            "Put the spelled-out number into figures, nothing else.",
            "Use numerals instead of words.",
        ),
    ),
    Family(
        "count_items",
        count_items,
        (
            "How many items are there? Only the number.",
            "Count the items and answer with a digit.",
            "Give the number of entries, in digits.",
            "How long is the list? One number.",
            "Count what is listed. Number only.",
            "Return how many things are named, as a digit.",
            "State the number of items in this list, nothing else.",
            "What number of entries do you see? Digits only.",
        ),
        hard=True,
    ),
    Family(
        "sort_words",
        sort_words,
        (
            "Sort alphabetically, separated by commas.",
            "Put the words in A-Z order with commas.",
            "Arrange these in alphabetical order, comma-separated.",
            "Order the list from A to Z and keep the commas.",
            "Write the words alphabetically, ', ' between them.",
            "Alphabetise this list. Same format.",
            "Rearrange as in a dictionary, with commas between.",
            "Which order would an index use? Comma-separated.",
        ),
        hard=True,
    ),
    Family(
        "sort_numbers",
        sort_numbers,
        (
            "Sort from smallest to largest, with commas.",
            "Put the numbers in ascending order, comma-separated.",
            "Order these numbers, lowest first, ', ' between.",
            "Arrange from low to high and keep the commas.",
            "Write them in increasing order, separated by commas.",
            "Rank the numbers upward. Same format.",
            "Begin with the least and end with the greatest, commas between.",
            "Line these numbers up by size, smallest first, with commas.",
        ),
        hard=True,
    ),
    Family(
        "plural",
        plural,
        (
            "Write the plurals, separated by a comma.",
            "Give the plural of each noun, same order, comma-separated.",
            "Make both nouns plural. Keep the comma.",
            "Change to plural and keep the format.",
            "What are the plurals? Only the words, with a comma.",
            "Turn each word into its plural form.",
            "More than one of each: write the words with a comma.",
            "Pluralise these two nouns and nothing more.",
        ),
    ),
    Family(
        "past_tense",
        past,
        (
            "Write the past tense of each verb, separated by a comma.",
            "Give the simple past, same order, comma-separated.",
            "Put both verbs into the past. Keep the comma.",
            "Change to the past tense and keep the format.",
            "What is the simple past of these? Only the words.",
            "Turn each verb into its past form.",
            "How were these done yesterday? Past tense, with a comma.",
            "Conjugate in the simple past; answer in the same format.",
        ),
        hard=True,
    ),
    Family(
        "opposite",
        opposite,
        (
            "What is the opposite? One word.",
            "Give a word that means the contrary.",
            "Write the opposite of this word.",
            "Name its antonym, only the word.",
            "Which word is the opposite of this one?",
            "Answer with the antonym.",
            "Say the contrary of this in one word: {input}",
            "Turn the meaning around: one word only.",
            "State just the reverse of this term.",
        ),
        hard=True,
    ),
    Family(
        "sql",
        sql,
        (
            "Write the SQL query. Quote text with '.",
            "Translate to a SELECT statement, SQL only.",
            "Make one line of SQL that ends with a semicolon.",
            "Give the SELECT ... FROM ... WHERE ...; for this.",
            "Which SQL query finds this? Only the query.",
            "Turn the request into SQL.",
            "Express this as SQL, single quotes around text: {input}",
            "Put the request as a SELECT query and end it with ';'.",
            "I need it in SQL, nothing else.",
        ),
    ),
    Family(
        "shell",
        shell,
        (
            "Write the Linux command.",
            "Which shell command does this? Only the command.",
            "Translate to a bash command.",
            "Give the terminal command and nothing else.",
            "What do I type in a Unix shell? Just the line.",
            "Turn the request into one shell command.",
            "Name only the Unix command line for this: {input}",
            "Answer with the command for bash, no comment.",
            "How is it done in a terminal? Command only.",
        ),
    ),
    Family(
        "addition",
        equation,
        (
            "Add the numbers. Only the result.",
            "What is the sum? Just the number.",
            "Calculate; answer with a number only.",
            "Give the total and nothing else.",
            "Work this out. Digits only.",
            "Write the result of the addition.",
            "Compute this and write only the number: {input}",
            "How much do they make together? One number.",
            "Find the sum; no working, no words.",
        ),
        hard=True,
    ),
    Family(
        "key_value",
        key_value,
        (
            "What is the {key}? Only the value.",
            "Give the value of '{key}' and nothing else.",
            "Look up '{key}' and return its value.",
            "Which {key} is given? Just that.",
            "Read the {key} from the record; write only it.",
            "Return the field '{key}'.",
            "In this record, what stands for {key}? Only that: {input}",
            "Copy what follows '{key}:' in the record.",
            "State the {key} alone.",
        ),
    ),
    Family(
        "spell_out",
        spell,
        (
            "Spell the word with a dash between letters.",
            "Put '-' between all letters.",
            "Write the letters of the word, joined by dashes.",
            "Separate each letter by a dash.",
            "Spell it letter by letter, like c-a-t.",
            "Break the word into letters with '-'.",
            "Insert a hyphen after every letter but the last.",
            "How is this spelled? Use the form c-a-t.",
        ),
        hard=True,
    ),
    Family(
        "acronym",
        acronym,
        (
            "Make an acronym of the first letters, in capitals.",
            "Give the acronym, capitals only, no dots.",
            "Take the first letter of each word and write them in capitals.",
            "Shorten to an acronym without dots.",
            "What is the abbreviation? First letters, upper case.",
            "Write only the acronym (capital letters).",
            "Form an acronym from these words, nothing else.",
            "Abbreviate with the capital initial of each word.",
        ),
        test_only=True,
    ),
)
