"""AlpacaEval's JSON in and out.

    annotations   [{instruction, output_1, output_2, generator_1, generator_2, annotator, preference}]
    outputs       [{instruction, output, generator, dataset}]

`preference` is 1 where output_1 is better, 2 where output_2 is, between them where the judge says how sure it is, 0 or
1.5 for a draw, and missing where it could not be read. Its win rate is the mean of preference - 1, a draw half a win.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacos.data.raw import open_raw
from pacos.errors import DataError, UsageError
from pacos.evaluation.pairwise.records import Ballot

FIELDS = ("instruction", "output_1", "output_2", "preference")


def read_annotations(path: Path) -> tuple[list[Ballot], tuple[str, str]]:
    """The votes of a file and the names of its two contestants. Raises DataError that names every row that is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not data.strip():
        raise DataError(f"{path}: is empty; give a file of annotations")
    rows = list(open_raw(data, str(path), path.name).rows)
    problems = [f"{row.place}: {problem}" for row in rows if (problem := row.error or _problem(row.value))]
    names = {(r.value.get("generator_1", "1"), r.value.get("generator_2", "2")) for r in rows if _is_row(r.value)}
    if not problems and len(names) > 1:
        problems = [f"generators {first} and {second}" for first, second in sorted(map(_pair_of_text, names))]
        raise DataError(f"{path}: holds several pairs of generators; give a file with one", problems)
    if problems:
        raise DataError(f"{path}: {len(problems)} of {len(rows)} rows are no annotations of AlpacaEval", problems)
    return [_ballot(number, row.value) for number, row in enumerate(rows)], _pair_of_text(names.pop())


@dataclass(frozen=True)
class Texts:
    """A prompt as one text, and what each contestant answered."""

    instruction: str
    answers: tuple[str, ...]


def write_annotations(
    ballots: Sequence[Ballot], contestants: Sequence[str], texts: Sequence[Texts]
) -> list[dict[str, Any]]:
    """Rows as AlpacaEval writes them, one for each vote that is no hidden repeat; output_1 is the earlier contestant's.
    Skipped and unparsable votes have preference null."""
    rows = []
    for ballot in ballots:
        if ballot.repeat:
            continue
        (first, second), text = ballot.pair, texts[ballot.item]
        rows.append({
            "instruction": text.instruction,
            "output_1": text.answers[first],
            "generator_1": contestants[first],
            "output_2": text.answers[second],
            "generator_2": contestants[second],
            "annotator": ballot.rater,
            "preference": None if ballot.score is None else 1 + ballot.score,
        })  # fmt: skip
    return rows


def write_outputs(contestant: int, contestants: Sequence[str], texts: Sequence[Texts]) -> list[dict[str, Any]]:
    """A contestant's answers as AlpacaEval reads a model's."""
    name = contestants[contestant]
    return [{"instruction": t.instruction, "output": t.answers[contestant], "generator": name} for t in texts]


def _is_row(value: Any) -> bool:
    return isinstance(value, Mapping)


def _pair_of_text(names: tuple[Any, Any]) -> tuple[str, str]:
    return str(names[0]), str(names[1])


def _problem(value: Any) -> str:
    if not _is_row(value):
        return "no object"
    missing = [name for name in FIELDS if name not in value]
    if missing:
        return f"has no {', '.join(missing)}"
    wrong = [name for name in FIELDS[:3] if not isinstance(value[name], str)]
    if wrong:
        return f"{', '.join(wrong)} is no text"
    return "" if _is_preference(value["preference"]) else f"preference is {value['preference']!r}; give 0 to 2, or null"


def _is_preference(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isnan(value) or value == 0 or 1 <= value <= 2


def _ballot(number: int, row: Mapping[str, Any]) -> Ballot:
    preference = row["preference"]
    unread = preference is None or math.isnan(preference)
    score = None if unread else 0.5 if preference == 0 else float(preference) - 1
    choice = "unparsable" if score is None else "tie" if score == 0.5 else "left" if score < 0.5 else "right"
    return Ballot(
        item=number,
        cluster="",
        left=0,
        right=1,
        rater=str(row.get("annotator", "annotator")),
        choice=choice,
        right_score=score,
        left_length=len(row["output_1"]),
        right_length=len(row["output_2"]),
    )
