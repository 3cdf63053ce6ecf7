"""Answers worked out a second time, from the text of a row alone, by other means than those that made them.

`solve(row)` reads instruction and input as a careful person would: regular expressions for what is copied, `datetime`
for times, rules and word lists for grammar. It shares no code and no tables with the families, but for the labels of
`topic`, `language`, `intent` and the like, which it decides by key words.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import datetime

Solver = Callable[[str, str], str]
SMALL_NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen"""
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
STRONG_VERBS = """
    go:went see:saw eat:ate write:wrote take:took sing:sang give:gave run:ran come:came buy:bought know:knew find:found
    drink:drank make:made speak:spoke keep:kept swim:swam tell:told think:thought break:broke begin:began leave:left
    drive:drove sell:sold
"""

ANTONYMS = """
    bad/good big/small bitter/sweet buy/sell cheap/expensive clean/dirty closed/open cold/hot dead/alive deep/shallow
    difficult/easy down/up dry/wet early/late empty/full false/true far/near fast/slow finish/start first/last happy/sad
    hard/soft hate/love heavy/light high/low inside/outside loud/quiet lose/win narrow/wide old/young poor/rich
    push/pull right/wrong sharp/blunt short/tall strong/weak thick/thin light/dark day/night
"""


def found(pattern: str) -> Solver:
    """The one match of a pattern in the material."""

    def solve(_: str, text: str) -> str:
        matches = re.findall(pattern, text)
        assert len(matches) == 1, (pattern, text)
        return matches[0]

    return solve


def items(text: str) -> list[str]:
    return [item.strip() for item in re.split(r"[,;\n/]", text)]


def named(instruction: str) -> list[str]:
    """What stands in single quotes in an instruction."""
    return re.findall(r"'([^']+)'", instruction)


def by_words(**patterns: str) -> Solver:
    """The one label whose pattern is found in the text; `not_spam` is read as 'not spam'; `otherwise` as a name too."""

    def solve(_: str, text: str) -> str:
        labels = [label for label, pattern in patterns.items() if re.search(pattern, text, re.IGNORECASE)]
        assert len(labels) == 1, (text, labels)
        return labels[0]

    return solve


def full_name(_: str, text: str) -> str:
    (name,) = re.findall(r"\b([A-Z][a-z]+ [A-Z][a-z]+)\b", re.sub(r"^(Yesterday|In) ", "", text))
    return name


def joined_with_and(_: str, text: str) -> str:
    return re.sub(r", ([^,]+)$", r" and \1", ", ".join(text.splitlines()))


def delimited(instruction: str, text: str) -> str:
    (mark,) = named(instruction)
    return text.replace(", ", mark)


def replaced(instruction: str, text: str) -> str:
    """The word of the two that the text has gives way to the other."""
    first, second = named(instruction)
    old, new = (first, second) if re.search(rf"\b{first}\b", text) else (second, first)
    return re.sub(rf"\b{old}\b", new, text)


def slug(_: str, text: str) -> str:
    return re.sub(r"\s+", "-", re.sub(r"[^a-z ]", "", text.lower()))


def person_json(_: str, text: str) -> str:
    age = int(found(r"\d+")("", text))
    words = [word for word in re.findall(r"[A-Z][a-z]+", text) if word not in ("Meet", "At", "My")]
    city_first = re.search(r"from [A-Z]|in [A-Z]|to [A-Z]", text)
    assert city_first is not None
    city = text[city_first.end() - 1 :]
    city = re.match(r"[A-Z][a-z]+", city).group()  # type: ignore[union-attr]
    (name,) = [word for word in words if word != city]
    return f'{{"name": "{name}", "age": {age}, "city": "{city}"}}'


def thing_json(_: str, text: str) -> str:
    price = int(found(r"\d+")("", text))
    phrase = re.sub(r"For \d+ dollars you get a |^The | costs \d+ dollars|\.", "", text).split()
    return json.dumps(dict(zip(("item", "colour", "price"), (phrase[1], phrase[0], price), strict=True)))


def record_csv(_: str, text: str) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(re.findall(r": ([^;]+)", text))
    return line.getvalue()


def filled(_: str, text: str) -> str:
    template, values = text.split("\n")
    for pair in values.split(", "):
        key, value = pair.split("=")
        template = template.replace(f"[{key}]", value)
    return template


def nth(instruction: str, text: str) -> str:
    (place,) = re.findall(r"\b(first|second|third|last)\b", instruction)
    return items(text)[("first", "second", "third", "last").index(place)]


def contains(instruction: str, text: str) -> str:
    return "yes" if re.search(rf"(^|, ){named(instruction)[0]}(,|$)", text) else "no"


def clock_24(_: str, text: str) -> str:
    return datetime.strptime(text.upper(), "%I:%M %p").strftime("%H:%M")


def long_date(_: str, text: str) -> str:
    return datetime.strptime(text, "%Y-%m-%d").strftime("%d %B %Y").lstrip("0")


def from_words(_: str, text: str) -> str:
    value = {name: number for number, name in enumerate(re.split(r"\s+", SMALL_NUMBERS))}
    value |= {name: 10 * place for place, name in enumerate(re.split(r"\s+", TENS), 2)}
    total = 0
    for word in re.findall(r"[a-z]+", text):
        total = total * 100 if word == "hundred" else total + value.get(word, 0)
    return str(total)


def plural(word: str) -> str:
    irregular = {"child": "children", "foot": "feet", "man": "men", "tooth": "teeth", "mouse": "mice"}
    if word in irregular:
        return irregular[word]
    if re.search(r"(l|ar|ea|el|ol|i)fe?$", word):
        return re.sub(r"fe?$", "ves", word)
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|ch|sh)$", word) else "s")


def past(word: str) -> str:
    irregular = dict(pair.split(":") for pair in STRONG_VERBS.split())
    if word in irregular:
        return irregular[word]
    if word.endswith("e"):
        return word + "d"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ied"
    doubled = re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", word)
    return word + (word[-1] if doubled else "") + "ed"


def antonym(_: str, word: str) -> str:
    """By a list in both directions; of two pairs with the same word, the one in which it comes first."""
    pairs = [pair.split("/") for pair in ANTONYMS.split()]
    return next(second for first, second in [*pairs, *(pair[::-1] for pair in pairs)] if first == word)


def each(change: Callable[[str], str]) -> Solver:
    return lambda _, text: ", ".join(change(item) for item in items(text))


def query(_: str, text: str) -> str:
    column, table, other, value = re.fullmatch(r"(\w+) of (\w+) with (\w+) (.+)", text).groups()  # type: ignore[union-attr]
    condition = f"> {value[5:]}" if value.startswith("over ") else f"= '{value}'"
    return f"SELECT {column} FROM {table} WHERE {other} {condition};"


def command(_: str, text: str) -> str:
    files = [word for word in text.split() if "." in word]
    verbs = {"make": "mkdir", "copy": "cp", "rename": "mv", "delete": "rm", "go": "cd", "count": "wc -l"}
    return " ".join([verbs[text.split()[0]], *(files or text.split()[-1:])])


def value_of(instruction: str, text: str) -> str:
    record = dict(pair.split(": ") for pair in text.split("; "))
    (key,) = {key for key in record if re.search(rf"\b{key}\b", instruction)}
    return record[key]


def spam_or_not(_: str, text: str) -> str:
    suspicious = re.search(r"!|\$|free|cheap|bitcoin|PIN|prince|dollar", text) and "birthday" not in text
    return "spam" if suspicious else "not spam"


SOLVERS: dict[str, Solver] = {
    "extract_email": found(r"[\w.]+@\w+\.example"),
    "extract_price": found(r"\$\d+\.\d\d"),
    "extract_date": found(r"\d{1,2} [A-Z][a-z]+ \d{4}"),
    "extract_phone": found(r"555-\d{4}"),
    "extract_name": full_name,
    "extract_hashtags": lambda _, text: " ".join(word for word in text.split() if word.startswith("#")),
    "extract_quoted": found(r'"(.+)"'),
    "extract_time": found(r"\b\d\d:\d\d\b"),
    "extract_url": found(r"https://[\w./]+\w"),
    "bullet_list": lambda _, text: "\n".join("- " + item for item in items(text)),
    "numbered_list": lambda _, text: "1. {}\n2. {}\n3. {}".format(*items(text)),
    "join_with_and": joined_with_and,
    "change_delimiter": delimited,
    "quote_items": lambda _, text: re.sub(r"\w+", r'"\g<0>"', text),
    "python_list": lambda _, text: json.dumps(items(text)),
    "one_per_line": lambda _, text: re.sub(r" ?[,;/] ", "\n", text),
    "html_items": lambda _, text: f"<li>{text.replace(', ', '</li><li>')}</li>",
    "reverse_list": lambda _, text: ", ".join(items(text)[::-1]),
    "drop_duplicates": lambda _, text: ", ".join(dict.fromkeys(items(text))),
    "uppercase": lambda _, text: text.upper(),
    "lowercase": lambda _, text: text.casefold(),
    "title_case": lambda _, text: text.title(),
    "replace_word": replaced,
    "slugify": slug,
    "mask_digits": lambda _, text: re.sub(r"\d", "#", text),
    "person_to_json": person_json,
    "record_to_csv": record_csv,
    "fill_template": filled,
    "initials": lambda _, text: re.sub(r"(\w)\w+ ?", r"\1.", text),
    "swap_names": lambda _, text: re.sub(r"(\w+) (\w+)", r"\2, \1", text),
    "thing_to_json": thing_json,
    "markdown_link": lambda _, text: re.sub(r"text: (.+)\nurl: (.+)", r"[\1](\2)", text),
    "sentiment": by_words(
        positive="joy|best|smile|worth|exceeded|wonderful|love|perfect|happy|great|brilliant|five stars",
        negative="waste|worst|ruined|boring|failed|awful|terrible|rude|angry|broken|dirty|no stars",
    ),
    "topic": by_words(
        sports="goalkeeper|race|coach|tennis|swimming|team|match|cyclist",
        food="sauce|bakery|garlic|soup|noodles|pie|onions|chef",
        weather="rain |fog|sunny|wind |snow|storm|temperatures|clouds",
        music="pianist|album|choir|guitar|orchestra|drum|singer|violin",
    ),
    "language": by_words(
        French=r"\b(où|le|nous|elle|je|il|les|mon)\b",
        Spanish=r"\b(está|el|gusta|ella|quiero|hace|los|mi)\b",
        German=r"\b(wo|die|wir|sie|ich|heute|mein)\b",
        English=r"\b(the|we|she|would|it is|my)\b",
    ),
    "question_or_statement": by_words(
        question=r"^(where|when|who|why|how|can|did|is|what|which|are|have|does|will|could|was)\b",
        statement=r"^(you|the|someone|we|she|this|they|i|it|he)\b",
    ),
    "kingdom": by_words(
        animal="otter|tiger|rabbit|sparrow|dolphin|horse|lizard|eagle|spider|salmon|camel|wolf|beetle|panda|goose|shark|frog|"
        "hedgehog|zebra|parrot|donkey|mouse|turtle|bear|whale|monkey|penguin|squirrel|crab|owl|goat|moth|badger|lobster|"
        "heron|^ant$",
        plant="oak|tulip|fern|cactus|maple|daisy|bamboo|ivy|rose|clover|birch|lavender|willow|sunflower|orchid|pine|moss|"
        "nettle|lily|elm|dandelion|poppy|spruce|jasmine|heather|cedar|marigold|thistle|palm|magnolia|reed|lotus|"
        "hazel|juniper|violet|aspen",
        mineral="quartz|granite|^gold$|marble|copper|salt|iron|diamond|limestone|silver|slate|ruby|basalt|nickel|graphite|"
        "emerald|zinc|sapphire|chalk|^tin$|opal|sandstone|lead|topaz|feldspar|gypsum|platinum|garnet|talc|mica|"
        "cobalt|jade|pyrite|tungsten|obsidian|titanium",
    ),
    "spam": spam_or_not,
    "intent": by_words(
        refund="money back|return the amount|repaid|charged|payment|reimburse",
        delivery="parcel|arrive|package|shipp|shipment|courier",
        password="login|sign|passcode",
        cancel="stop|do not want|end my|call off|terminate|withdraw|no longer",
    ),
    "membership": contains,
    "nth_item": nth,
    "larger_number": lambda _, text: max(items(text), key=int),
    "longest_word": lambda _, text: max(items(text), key=len),
    "first_word": found(r"^\w+"),
    "clock_24": clock_24,
    "long_date": long_date,
    "number_words": from_words,
    "count_items": lambda _, text: str(text.count(",") + 1),
    "sort_words": lambda _, text: ", ".join(sorted(items(text))),
    "sort_numbers": lambda _, text: ", ".join(sorted(items(text), key=int)),
    "plural": each(plural),
    "past_tense": each(past),
    "sql": query,
    "shell": command,
    "key_value": value_of,
    "opposite": antonym,
    "acronym": lambda _, text: "".join(re.findall(r"\b\w", text)).upper(),
}


def material(instruction: str, text: str) -> tuple[str, str]:
    """The bare instruction and what it is about, which a few wordings carry themselves, after a colon."""
    if text:
        return instruction, text
    head, _, tail = instruction.partition(": ")
    return head, tail


def solve(family: str, instruction: str, text: str) -> str:
    """The answer that a row of this family should have."""
    return SOLVERS[family](*material(instruction, text))
