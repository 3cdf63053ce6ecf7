"""Writes the starter set: short tasks with exact answers, for `pacos quickstart`.

    python scripts/make_starter.py [PATH]

The same bytes every time: each family has its own seeded source of chance, so that changing one family leaves the
rows of the others as they are. No test row is a duplicate or a near duplicate of a row that is trained on; the families
and what is held out are in scripts/starter/.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from starter.families import families
from starter.family import Draw, Family

SEED = 20240917
NEAR = 0.7
"""Rows of two splits share less than this of their word pairs (Jaccard); 0.8 is what counts as a near duplicate."""
PATH = Path(__file__).resolve().parents[1] / "pacos" / "data" / "starter" / "starter.jsonl"


@dataclass(frozen=True)
class Row:
    """One line of the file. `held_out` says of test rows what was kept from training: parameters, wording, family."""

    instruction: str
    input: str
    output: str
    family: str
    split: str
    held_out: str = ""
    source: str = "starter"

    @property
    def shingles(self) -> frozenset[tuple[str, ...]]:
        """Pairs of neighbouring words of the prompt."""
        words = re.findall(r"\w+", f"{self.instruction} {self.input}".lower())
        return frozenset(itertools.pairwise(words))


def jaccard(left: frozenset[tuple[str, ...]], right: frozenset[tuple[str, ...]]) -> float:
    return len(left & right) / len(left | right)


def quotas(family: Family) -> Iterator[tuple[str, str, int]]:
    """(split, held_out, rows) of a family; test first, so that training rows are the ones that give way."""
    if family.test_only:
        yield "test", "family", 5
        return
    yield "test", "parameters", 2 if family.hard else 3
    yield "test", "wording", 0 if family.hard else 1
    yield "validation", "", 1 if family.hard else 2
    yield "train", "", 16 if family.hard else 26


def draw_row(family: Family, split: str, held_out: str, rng: random.Random) -> Row:
    task = family.draw(Draw(rng, held_out=split == "test"))
    wordings = {"wording": family.held_out_wordings, "family": family.wordings}.get(held_out, family.train_wordings)
    instruction, material = family.prompt(rng.choice(wordings), task)
    return Row(instruction, material, task.output, family.name, split, held_out)


def family_rows(family: Family) -> list[Row]:
    """The rows of one family, none a near duplicate of a row of another split, no prompt twice."""
    rng, rows = random.Random(f"{SEED}/{family.name}"), list[Row]()
    for split, held_out, count in quotas(family):
        for _ in range(count):
            rows.append(next(row for row in fresh_rows(family, split, held_out, rng) if is_new(row, rows)))
    return rows


def fresh_rows(family: Family, split: str, held_out: str, rng: random.Random, tries: int = 2000) -> Iterator[Row]:
    for _ in range(tries):
        yield draw_row(family, split, held_out, rng)
    raise AssertionError(f"{family.name}: no new {split} row in {tries} tries; its pools are too small")


def is_new(row: Row, rows: list[Row]) -> bool:
    """No row has the same words, and no row of another split nearly the same."""
    limits = ((other, 1.0 if other.split == row.split else NEAR) for other in rows)
    return all(jaccard(row.shingles, other.shingles) < limit for other, limit in limits)


def make_rows() -> list[Row]:
    """All rows, the families interleaved by a seeded shuffle."""
    rows = [row for family in families() for row in family_rows(family)]
    return random.Random(SEED).sample(rows, len(rows))


def to_jsonl(rows: list[Row]) -> str:
    return "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PATH
    rows = make_rows()
    path.write_text(to_jsonl(rows), encoding="utf-8", newline="\n")
    print(f"{path}: {len(rows)} rows, {len({row.family for row in rows})} families")


if __name__ == "__main__":
    main()
