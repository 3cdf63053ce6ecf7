"""Which rows are for training, which to watch it, which to judge it: decided once, by content.

    rows -> groups (near-duplicate prompts, common lineage) -> hash(seed, smallest id of the group) in [0, 1) -> side

A group goes to one side whole, so no test row has a near-copy in the training rows. The hash looks at content alone:
the order of the rows does not matter, and rows added later move no old one, unless they join its group. A group that is
larger than a held-out side should be goes to train. A `split` column that every row has is taken as it is. Saving,
reading and checking a split are in `custody.py`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pacos.data.near import Sketches, exact_key, join_groups, near_duplicate_groups, near_matches, sketch
from pacos.data.records import Example
from pacos.data.sides import SIDES, WORDS, Side
from pacos.errors import DataError

NOTES = 20


@dataclass(frozen=True)
class Split:
    """Row ids of each side, ascending, and the settings that they were made with.

    `train_prompts` are the sketches of the training prompts, in the order of `train`: with them any row can be told to
    be an exact or near copy of a trained one without the dataset at hand. They cost 4 bytes a shingle (about 50 a row
    of Alpaca, at most 512), hold no text, and need no pickle. `notes` name near-copies across declared sides.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    seed: int
    validation_share: float
    test_share: float
    near_threshold: float
    notes: tuple[str, ...] = ()
    train_prompts: Sketches = field(default_factory=lambda: sketch([]), compare=False, repr=False)

    def side_of(self) -> dict[str, Side]:
        """{row id: side} of every row."""
        return {row: side for side in SIDES for row in getattr(self, side)}

    @property
    def sha256(self) -> str:
        """Names the decision: settings and sides."""
        settings = [self.seed, self.validation_share, self.test_share, self.near_threshold]
        return hashlib.sha256(repr([settings, self.train, self.validation, self.test]).encode()).hexdigest()


def prompt_text(example: Example) -> str:
    """What is compared: everything that was asked, with its material, and nothing of the answer to it."""
    return "\n".join([*(turn.content for turn in example.history), example.user_text])


def make_split(
    examples: Sequence[Example], *, validation_share: float, test_share: float, seed: int, near_threshold: float
) -> Split:
    """Sides for every row. Raises DataError where a declared split has copies of training rows among the others."""
    rows = {example.id: example for example in examples}
    rows = {row: rows[row] for row in sorted(rows)}
    shares: dict[Side, float] = {"test": test_share, "validation": validation_share}
    groups = group_rows(rows, _families(examples), near_threshold)
    declared = declared_sides(examples)
    notes: tuple[str, ...] = ()
    if declared:
        notes = (*_crossings(rows, declared, near_threshold), *_torn_families(_families(examples), declared))
        shares = {side: share for side, share in shares.items() if side not in declared.values()}
        groups = _groups_inside(groups, declared)
    drawn = {row: side for leader, side in draw_sides(groups, shares, seed).items() for row in groups[leader]}
    sides = {row: drawn.get(row) or declared[row] for row in rows}
    train, validation, test = (tuple(row for row in rows if sides[row] == side) for side in SIDES)
    prompts = sketch([prompt_text(rows[row]) for row in train])
    return Split(train, validation, test, seed, validation_share, test_share, near_threshold, notes, prompts)


def group_rows(
    rows: Mapping[str, Example], families: Mapping[str, set[str]], near_threshold: float
) -> dict[str, list[str]]:
    """{smallest id: ids} of rows that must stay together. `rows` ascend by id."""
    ids = list(rows)
    number = {row: n for n, row in enumerate(ids)}
    near = near_duplicate_groups([prompt_text(example) for example in rows.values()], near_threshold)
    labels = join_groups(near, [[number[row] for row in family] for family in families.values()])
    groups = defaultdict(list)
    for row, label in zip(ids, labels, strict=True):
        groups[ids[label]].append(row)
    return dict(groups)


def _families(examples: Sequence[Example]) -> dict[str, set[str]]:
    """{ancestor: ids of the rows that came from it, and its own where it is a row}."""
    families = defaultdict(set)
    for example in examples:
        for ancestor in example.lineage:
            families[ancestor].add(example.id)
    for example in examples:
        if example.id in families:
            families[example.id].add(example.id)
    return dict(families)


def draw_sides(groups: Mapping[str, Sequence[str]], shares: Mapping[Side, float], seed: int) -> dict[str, Side]:
    """{leader: side}. However few the groups, one is for training, and then each held-out side has one."""
    total = sum(len(members) for members in groups.values())
    place = {leader: _place(seed, leader) for leader in groups}
    ordered = sorted(groups, key=lambda leader: (place[leader], leader))
    sides: dict[str, Side] = dict.fromkeys(ordered, "train")
    low = 0.0
    for side, share in shares.items():
        most = max(1, share * total)
        free = [leader for leader in ordered[:-1] if sides[leader] == "train" and len(groups[leader]) <= most]
        chosen = [leader for leader in free if low <= place[leader] < low + share]
        sides.update(dict.fromkeys(chosen or (free[:1] if share else []), side))
        low += share
    return sides


def _place(seed: int, leader: str) -> float:
    digest = hashlib.sha256(f"{seed}:{leader}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def declared_sides(examples: Sequence[Example]) -> dict[str, Side]:
    """{row id: side} where every row has a `split` column that names held-out rows too; else empty.

    A column that names no side at all, or only train, is about something else. Raises DataError for a mixture, and for
    one prompt that is declared on two sides.
    """
    named = [str(example.extra.get("split", "")).strip().lower() for example in examples]
    if not {WORDS[name] for name in named if name in WORDS} - {"train"}:
        return {}
    wrong = [
        f"{e.source or e.id}: 'split' is {e.extra.get('split', 'missing')!r}"
        for e, name in zip(examples, named, strict=True)
        if name not in WORDS
    ]
    if wrong:
        raise DataError(
            f"{len(wrong)} rows have no side in the column 'split'; give train, validation or test", _some(wrong)
        )
    sides = [WORDS[name] for name in named]
    _refuse_copies(examples, sides)
    return {example.id: side for example, side in zip(examples, sides, strict=True)}


def _refuse_copies(examples: Sequence[Example], sides: Sequence[Side]) -> None:
    first: dict[str, int] = {}
    leaks = []
    for number, example in enumerate(examples):
        other = first.setdefault(exact_key(prompt_text(example)), number)
        if sides[other] != sides[number]:
            here, there = (f"{examples[n].source or 'row'} ({examples[n].id}, {sides[n]})" for n in (number, other))
            leaks.append(f"{here} asks the same as {there}")
    if leaks:
        message = (
            f"{len(leaks)} rows ask the same as a row on another side of the declared split; drop one of each pair"
        )
        raise DataError(message, _some(leaks))


def _crossings(rows: Mapping[str, Example], declared: Mapping[str, Side], threshold: float) -> list[str]:
    """Near-copies of training rows among the held-out ones, named. They stay where they were declared."""
    train = [row for row in rows if declared[row] == "train"]
    held_out = [row for row in rows if declared[row] != "train"]
    matches = near_matches(
        [prompt_text(rows[row]) for row in held_out], [prompt_text(rows[row]) for row in train], threshold
    )
    return _some(
        [
            f"{declared[row]} row {row} is {match[1]:.0%} similar to training row {train[match[0]]}"
            for row, match in zip(held_out, matches, strict=True)
            if match
        ]
    )


def _torn_families(families: Mapping[str, set[str]], declared: Mapping[str, Side]) -> list[str]:
    sides = {ancestor: sorted({declared[row] for row in family}) for ancestor, family in families.items()}
    return _some([f"rows of lineage {name} are in {', '.join(held)}" for name, held in sides.items() if len(held) > 1])


def _groups_inside(groups: Mapping[str, list[str]], declared: Mapping[str, Side]) -> dict[str, list[str]]:
    """The groups that lie in the declared training rows whole, from which a side that nobody declared may be drawn."""
    return {leader: group for leader, group in groups.items() if all(declared[row] == "train" for row in group)}


def _some(lines: Sequence[str]) -> list[str]:
    more = [f"and {len(lines) - NOTES} more"] if len(lines) > NOTES else []
    return [*itertools.islice(lines, NOTES), *more]
