"""Families that keep the content and change its form: lists, case, delimiters, JSON, CSV, markup."""

from __future__ import annotations

import json

from . import pools
from .extract import person
from .family import Draw, Family, Task

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
    text = f"{draw.one(pools.ADJECTIVES)} {draw.one(pools.PLACES)} in {draw.one(pools.CITIES).lower()}"
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


FAMILIES = (
    Family(
        "bullet_list",
        bullets,
        (
            "Turn this into a bullet list, one item per line, each after '- '.",
            "Write every item on its own line with '- ' before it.",
            "Make a list with dashes ('- item'), nothing else.",
            "Format as bullets: '- ' then the item, one a line.",
            "Rewrite the items as lines that begin with '- '.",
            "Put each item on a new line, starting with '- '.",
            "Show this as a dashed list ('- item'): {input}",
            "Please bullet these with '- ', a line for each.",
            "Break the enumeration into lines, each opened by '- '.",
        ),
    ),
    Family(
        "numbered_list",
        numbered,
        (
            "Number the items: '1. ' and so on, one per line.",
            "Make a numbered list, a line for each item, as in '1. item'.",
            "Rewrite as a list with 1., 2., 3., each on its own line.",
            "Put a number and a dot before each item, one item a line.",
            "Turn this into a numbered list ('1. item'), nothing else.",
            "Format the items as numbered lines like '1. item'.",
            "List these with numbers, one line each, in the form '1. item'.",
            "Give every item its number, a dot and a line of its own.",
        ),
    ),
    Family(
        "join_with_and",
        join_and,
        (
            "Join these lines with commas and 'and' before the last.",
            "Write the items in one line, commas between them and 'and' before the last one.",
            "Make one phrase of the list, as in 'a, b and c'.",
            "Put the items into a single line: commas, then 'and'. No full stop.",
            "Connect the words the way 'x, y and z' does.",
            "Turn the lines into running text such as 'a, b and c', nothing else.",
            "Combine everything in one line in the style 'a, b and c'.",
            "List the items as a writer would within a sentence: 'a, b and c'.",
        ),
    ),
    Family(
        "change_delimiter",
        change_delimiter,
        (
            "Separate the items with '{delimiter}' in place of commas, without spaces.",
            "Replace each comma and the space after it by '{delimiter}'.",
            "Use '{delimiter}' as the separator, no spaces around it.",
            "Rewrite the list with '{delimiter}' between items and no spaces.",
            "Change the delimiter to '{delimiter}', no blanks.",
            "Join the items with '{delimiter}' only.",
            "Put '{delimiter}' between the entries, with no comma and no space.",
            "Give the same list, split by '{delimiter}' and without any space.",
        ),
    ),
    Family(
        "quote_items",
        quote_items,
        (
            "Put double quotes around each item and keep the commas.",
            'Quote every item with " and change nothing else.',
            "Wrap each word in double quotation marks, separated by ', '.",
            'Rewrite it so that each item looks like "this", with commas between.',
            "Add double quotes to all the items, same order.",
            "Surround each entry by double quotes; keep ', ' between.",
            'Enclose all entries in "double quotes" and leave the rest as is.',
            "Every item should stand in double quotation marks. Keep order and commas.",
        ),
    ),
    Family(
        "python_list",
        python_list,
        (
            "Write this as a Python list of strings in double quotes.",
            "Convert to a Python list literal with double-quoted strings, code only.",
            "Give me the items as a Python list, double quotes, nothing else.",
            "Turn the items into a list for Python: square brackets, double quotes.",
            "Format as a Python list. Use double quotes and output only the list.",
            "Make a Python list of these words with double-quoted items.",
            "Type these as a literal list in Python (double quotes, no variable): {input}",
            "How is this written as a Python list of double-quoted strings? Only the list.",
            "Put these into Python's list notation with double quotes. No explanation.",
        ),
    ),
    Family(
        "one_per_line",
        one_per_line,
        (
            "Write one item per line, with nothing before it.",
            "Split this into lines, an item on each.",
            "Put every item on its own line. No numbers, no dashes.",
            "Place each entry on a new line and drop the separators.",
            "List the items, each on a separate line, no marks.",
            "Give one line to each item, plain.",
            "Break this into plain lines, one for each item.",
            "Return the items line by line without any symbols.",
        ),
    ),
    Family(
        "html_items",
        html_items,
        (
            "Wrap each item in <li> and </li>, all on one line.",
            "Make HTML list items (<li>…</li>) of these, without spaces between.",
            "Write the items as <li> elements in a single line, no <ul>.",
            "Put <li> before and </li> after every item; no spaces or commas.",
            "Convert to HTML: one <li>…</li> per item, on one line.",
            "Turn the items into <li> tags, one after the other, nothing else.",
            "Mark up the items with <li> tags, on a single line, without <ul>.",
            "Output only <li> elements for these, joined with no gap.",
        ),
    ),
    Family(
        "reverse_list",
        reverse_list,
        (
            "Write the items in reverse order, separated by commas.",
            "Reverse this list and keep the commas.",
            "Turn the order around: last item first. Same format.",
            "Give the list backwards, with ', ' between items.",
            "List the items from last to first, commas between.",
            "Put the last item first and the first one last, as a comma list.",
            "Go through the list from its end and write it with commas.",
            "Return the same entries in opposite order, comma-separated.",
        ),
        hard=True,
    ),
    Family(
        "drop_duplicates",
        drop_duplicates,
        (
            "Remove the repeated item and keep the order. Comma-separated.",
            "Write each item once, in order of first appearance, with commas.",
            "Delete duplicates from the list; keep its format.",
            "Give the list without repetitions, same order, commas between.",
            "One item is there twice: keep only its first mention. Use commas.",
            "Drop what is repeated and return the comma list.",
            "De-duplicate this list, order kept, separated by ', '.",
            "Return the distinct items as they first occur, with commas.",
        ),
        hard=True,
    ),
    Family(
        "uppercase",
        uppercase,
        (
            "Write this in capital letters.",
            "Convert the text to upper case, nothing else.",
            "Change every letter to a capital.",
            "Give the same words in ALL CAPS.",
            "Make it upper case and change nothing else.",
            "Return the text with all letters capitalised.",
            "Put these words in block capitals: {input}",
            "Shout it: the same text, all in capitals, no exclamation mark.",
            "Rewrite with upper-case letters throughout.",
        ),
    ),
    Family(
        "lowercase",
        lowercase,
        (
            "Write this sentence in small letters.",
            "Convert the text to lower case, nothing else.",
            "Change every capital to a small letter.",
            "Return the same words, all in lower case.",
            "Make everything lower case and keep the punctuation.",
            "Give the text without any capital letters.",
            "Put this in lower-case letters only: {input}",
            "No capitals, please: the same sentence in small letters.",
            "Rewrite with lower-case letters throughout.",
        ),
    ),
    Family(
        "title_case",
        title_case,
        (
            "Begin each word with a capital letter.",
            "Capitalise the first letter of every word, nothing else.",
            "Write this in title case, every word capitalised.",
            "Make the first letter of each word a capital.",
            "Change it so that all words start with a capital.",
            "Return the phrase with Each Word Capitalised.",
            "Give every single word a capital first letter.",
            "Turn this into a headline: a capital at the start of each word.",
        ),
    ),
    Family(
        "replace_word",
        replace_word,
        (
            "Replace the word '{old}' with '{new}'.",
            "Change '{old}' to '{new}' and keep the rest.",
            "Write the sentence again with '{new}' where it says '{old}'.",
            "Swap '{old}' for '{new}'. Output the sentence only.",
            "Use '{new}' instead of '{old}' here.",
            "Put '{new}' in place of '{old}'.",
            "Let '{old}' become '{new}' and leave the other words alone.",
            "Rewrite the line so that '{old}' reads '{new}'.",
        ),
    ),
    Family(
        "slugify",
        slugify,
        (
            "Make a URL slug: small letters, dashes for spaces.",
            "Turn this title into a slug (lower case, hyphens).",
            "Write it in lower case with '-' between the words.",
            "Convert to a slug with hyphens, nothing else.",
            "Give the web slug: lower-case words joined by '-'.",
            "Rewrite the title as lower-case-words-with-hyphens.",
            "What slug fits this title? Lower case and hyphens only.",
            "Kebab-case this title, in small letters.",
        ),
    ),
    Family(
        "mask_digits",
        mask_digits,
        (
            "Replace every digit with '#'.",
            "Hide the numbers: write # for each digit.",
            "Change each digit to # and keep all else.",
            "Mask the digits with '#', one for one.",
            "Put # in place of each digit.",
            "Write the text again with # for every digit.",
            "Cover up each digit by a '#', leaving the words.",
            "Make the numbers unreadable: one # for every digit.",
        ),
    ),
    Family(
        "person_to_json",
        person_to_json,
        (
            'Give this as JSON with the keys "name", "age" and "city".',
            'Convert to one line of JSON: "name", "age" (a number), "city".',
            'Write a JSON object with "name", "age", "city". Output only JSON.',
            'Extract "name", "age" and "city" as JSON, nothing else.',
            'Fill {{"name": ..., "age": ..., "city": ...}} from the text.',
            "Return JSON on one line with name, age and city.",
            'Describe the person as a JSON object (keys "name", "age", "city"): {input}',
            "Make a one-line JSON record (name, age, city) of it.",
            "Which name, age and city? Answer in JSON with these three keys, on one line.",
        ),
    ),
    Family(
        "record_to_csv",
        record_to_csv,
        (
            "Write the values as one CSV line, no header.",
            "Give name, age and city as a CSV row without spaces after commas.",
            "Convert the record to CSV: values only, comma between.",
            "Make a CSV row of the values, in the same order.",
            "Output only the values, separated by commas, no spaces after them.",
            "Turn it into one line of CSV. No keys.",
            "Drop the keys and join the values with commas, as in CSV.",
            "Return this as a comma-separated row, values only.",
        ),
    ),
    Family(
        "fill_template",
        fill_template,
        (
            "Fill in the template with the values given.",
            "Replace each [placeholder] by its value; output the text only.",
            "Insert the values into the brackets and write the sentence.",
            "Complete the text with the values below it.",
            "Write the sentence with the placeholders filled in.",
            "Put the values where the brackets are. Only the sentence.",
            "Use the second line to fill the brackets in the first.",
            "Produce the finished message from this template and its values.",
        ),
    ),
    Family(
        "initials",
        initials,
        (
            "Write the initials of this name with dots, as in A.B.",
            "What are the initials? Answer like A.B. and no more.",
            "Give only the initials, in the form A.B.",
            "Shorten the name to its initials with a dot after each.",
            "Return the two initials, each followed by a dot.",
            "Turn the name into initials such as A.B.",
            "Give the initials, written like A.B., of the person named here: {input}",
            "Abbreviate both names to one letter and a dot, no space.",
            "Which initials does this person have? Only those, like A.B.",
        ),
    ),
    Family(
        "swap_names",
        swap_names,
        (
            "Write the last name first, then a comma and the first name.",
            "Rewrite as 'Last, First'.",
            "Put this name in the form 'Last, First', nothing else.",
            "Turn the name around: surname, comma, first name.",
            "Format the name for an index: 'Last, First'.",
            "Give the name with the surname first and a comma after it.",
            "How would a library list this name? Use 'Last, First'.",
            "Surname first, then a comma, then the given name, please.",
        ),
    ),
    Family(
        "thing_to_json",
        thing_to_json,
        (
            'Give this as JSON with the keys "item", "colour" and "price".',
            'Write one line of JSON: "item", "colour", "price" (a number).',
            'Extract "item", "colour" and "price" as JSON, nothing else.',
            'Fill {{"item": ..., "colour": ..., "price": ...}} from the text.',
            "Convert to a JSON object with item, colour and price, on one line.",
            "Return only JSON with these keys: item, colour, price.",
            "Make a one-line JSON record (item, colour, price) of it.",
            "Which item, colour and price? Answer in one line of JSON.",
        ),
        test_only=True,
    ),
    Family(
        "markdown_link",
        markdown_link,
        (
            "Make a Markdown link, [text](url), of this.",
            "Write it as a link in Markdown: [text](url). Nothing else.",
            "Combine text and url into [text](url).",
            "Format this as a Markdown link like [text](url).",
            "Give the Markdown for this link, in the form [text](url).",
            "Turn the two lines into [text](url).",
            "Use the form [text](url) to write this link.",
            "Put the text in square brackets and the url in round ones right after.",
        ),
        test_only=True,
    ),
)
