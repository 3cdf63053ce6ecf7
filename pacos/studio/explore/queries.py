"""The questions that come along: SQL with a title, each a page with its own URL, JSON and CSV.

`:name` becomes a box on the page and a parameter of the URL. `shuffle`, `any_word` and `rouge_l` are functions of ours (see `site.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ROW = "number, instruction, input, output"


@dataclass(frozen=True)
class Query:
    """`example` fills the boxes of the link on the start page."""

    title: str
    about: str
    sql: str
    example: Mapping[str, str | int] = field(default_factory=dict)


def at_most(parameter: str, usual: int) -> str:
    """A LIMIT that a box fills, and a number where the box is empty."""
    return f"limit case when cast(:{parameter} as integer) > 0 then cast(:{parameter} as integer) else {usual} end"


QUERIES = {
    "contains": Query(
        "Contains a text",
        "Rows that hold a text anywhere, in random order; % stands for anything",
        f"select {ROW} from rows where instruction || ' ' || input || ' ' || output like '%' || :search || '%'\n"
        "order by random() limit 200",
        {"search": "recipe"},
    ),
    "sample": Query(
        "A random sample",
        "The same rows for the same seed, so that a sample can be passed on",
        f"select {ROW} from rows order by shuffle(:seed, id), number {at_most('count', 20)}",
        {"seed": 1, "count": 20},
    ),
    "nearest": Query(
        "Nearest by words",
        "Instructions that share words with a text, by ROUGE-L, among the 500 that share most and rarest words",
        f"select round(rouge_l(:text, instruction), 3) as rouge_l, {ROW} from (\n"
        "  select rowid as found, rank from rows_fts where rows_fts match any_word('instruction', :text)\n"
        f"  order by rank limit 500\n) join rows on number = found order by 1 desc, rank, number {at_most('count', 20)}",
        {"text": "Give three tips for staying healthy", "count": 20},
    ),
    "longest-outputs": Query(
        "Longest outputs",
        "By characters",
        f"select number, length(output) as characters, instruction, input, output from rows\n"
        f"order by length(output) desc, number {at_most('count', 50)}",
    ),
    "shortest-outputs": Query(
        "Shortest outputs",
        "By characters, blank ones apart",
        "select number, length(output) as characters, instruction, input, output from rows\n"
        f"where trim(output) <> '' order by length(output), number {at_most('count', 50)}",
    ),
    "empty-outputs": Query(
        "Empty outputs",
        "Rows that have nothing to learn from",
        f"select {ROW} from rows where trim(output, char(32, 9, 10, 13)) = '' order by number",
    ),
    "inputs-that-say-none": Query(
        "Inputs that say there is none",
        "Noinput, N/A, none and the like, which a model would learn to expect",
        f"select {ROW} from rows\n"
        "where replace(trim(lower(input), ' .<>()[]\"'''), ' ', '') in ('noinput', 'n/a', 'na', 'none', 'null', 'empty',\n"
        "  'noinputrequired', 'noinputneeded', 'notapplicable')\norder by number",
    ),
    "repeated-prompts": Query(
        "Repeated prompts",
        "The same instruction and input more than once, capitals and outer spaces aside",
        "select count(*) as times, count(distinct output) as outputs, group_concat(number, ', ') as numbers, instruction, input\n"
        "from rows group by lower(trim(instruction)), lower(trim(input)) having count(*) > 1 order by times desc, min(number)",
    ),
    "repeated-outputs": Query(
        "Repeated outputs",
        "One answer to several prompts",
        "select count(*) as times, group_concat(number, ', ') as numbers, output from rows\n"
        "where trim(output) <> '' group by output having count(*) > 1 order by times desc, min(number)",
    ),
    "output-in-input": Query(
        "Outputs that repeat the input",
        "The answer is the material, word for word",
        f"select {ROW} from rows where trim(input) <> '' and trim(lower(output)) = trim(lower(input)) order by number",
    ),
    "verbs": Query(
        "Verbs",
        "What the instructions ask to do: how many rows, how long their outputs, one of them",
        "select verb, count(*) as rows, count(distinct noun) as nouns,\n"
        "  round(100.0 * count(*) / (select count(*) from rows), 2) as percent,\n"
        "  round(avg(words), 1) as mean_words, min(number) as first_number, instruction as first_instruction\n"
        "from rows group by verb order by rows desc, verb",
    ),
    "rows-by-verb": Query(
        "Rows of a verb",
        "The longest outputs first",
        f"select {ROW} from rows where verb = lower(:verb) order by words desc, number limit 200",
        {"verb": "write"},
    ),
    "lengths": Query(
        "Lengths of the outputs",
        "Rows for each ten words",
        "select words / 10 * 10 as words_from, count(*) as rows from rows group by words / 10 order by words_from",
    ),
}
BY_SPLIT = Query(
    "Sides of the split",
    "Rows and lengths of each side",
    "select split, count(*) as rows, round(avg(words), 1) as mean_words, count(distinct verb) as verbs from rows group by split",
)
BY_RULE = Query(
    "Findings by rule",
    "How many rows each rule of pacos curate named, with one reason",
    "select rule, count(distinct row) as rows, min(why) as one_of_them from findings\n"
    "group by rule order by rows desc, rule",
)
