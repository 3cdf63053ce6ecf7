"""How much a run computes: its tokens, and the arithmetic that they need.

    forward, a token      2 a weight of the layers and adapters; attention 4 D a head and key seen; the head on targets only
    backward, a token     2 a weight for the gradient of what goes in, 2 more for that of the weight where it is trained
    checkpointing         the layers' forward once more

So a frozen weight costs 4, a trained one 6 (Kaplan et al. 2020, arXiv:2001.08361, appendix B; frozen: less the weight's own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from pacos.models.packs import Pack, make_packs
from pacos.prompts import Rendered
from pacos.recipes import Recipe
from pacos.training.known import KnownData
from pacos.training.prepare import Prepared
from pacos.training.symbolic import Trace

LARGEST = 1 << 17
"""Packs are not planned beyond this many tokens."""
SAMPLE = 48
"""Steps of a run that are packed to count what all of them hold."""
PREAMBLE = 24
"""Tokens that Alpaca's rows begin with, computed once a pack."""


@dataclass(frozen=True)
class Count:
    """Packs, their tokens, those that carry loss, and the pairs of a token and one that it sees."""

    packs: float = 0.0
    tokens: float = 0.0
    targets: float = 0.0
    pairs: float = 0.0

    def times(self, factor: float) -> Count:
        return Count(*(factor * getattr(self, field.name) for field in fields(self)))


@dataclass(frozen=True)
class Work:
    """A run: its optimizer steps, what they compute and what its evaluations do; its longest batch, some rows of it, and the
    mean row in tokens. `origin` says where this is known from."""

    steps: int
    training: Count
    evaluation: Count
    longest: Sequence[Rendered]
    sample: Sequence[Rendered]
    mean_row: float
    origin: str


def count(packs: Sequence[Pack]) -> Count:
    """Of these packs."""
    pairs = 0.0
    for pack in packs:
        layout = pack.layout
        pairs += sum(n * (at + (n + 1) / 2) for n, at in zip(layout.lengths, layout.depths(), strict=True))
    return Count(len(packs), sum(pack.num_tokens for pack in packs), sum(pack.num_targets for pack in packs), pairs)


def work_of(prepared: Prepared) -> Work:
    """Of a run whose rows are there."""
    from pacos.training.run import pace_of
    from pacos.training.train import packs_of

    rows, pace = prepared.train.rendered, pace_of(prepared)
    steps = prepared.steps
    sampled = sorted({round(i * (steps - 1) / max(1, SAMPLE - 1)) for i in range(min(SAMPLE, steps))})
    packs = [pack for step in sampled for pack in packs_of(prepared.batches.of_step(step), rows, pace)]
    longest = [rows[i] for group in prepared.batches.longest(steps) for i in group]
    evaluations = -(-steps // pace.eval_every) if len(prepared.watched) else 0
    watched = count(make_packs(list(prepared.watched), pace.pack_tokens)) if evaluations else Count()
    return Work(
        steps,
        count(packs).times(steps / len(sampled)),
        watched.times(evaluations),
        longest,
        [rows[i] for i in range(min(512, len(rows)))],
        prepared.train.num_tokens / len(rows),
        f"{len(rows):,} rows of {prepared.recipe.data.path}, as they are tokenized",
    )


def work_by(known: KnownData, recipe: Recipe) -> Work:
    """Of a run whose rows are known by their counts alone. Rows are alike but for the longest."""
    options = recipe.train
    kept = 1 - recipe.data.validation_share - recipe.data.test_share
    number = round(min(known.rows, recipe.data.limit or known.rows) * kept)
    per_step = min(number, options.batch_tokens / known.mean if options.batch_tokens else options.batch_size)
    steps = max(1, round(-(-number // per_step) * options.epochs))
    steps = min(steps, options.max_steps) if options.max_steps else steps
    rows = steps * per_step
    shared = PREAMBLE * max(0.0, 1 - known.mean / min(options.pack_tokens, per_step * known.mean))
    packs = steps * -(-per_step * known.mean // options.pack_tokens)
    training = Count(
        packs, rows * (known.mean - shared), rows * known.mean * known.targets, rows * known.mean_square / 2
    )
    watched = min(options.eval_rows, round(known.rows * recipe.data.validation_share))
    evaluations = -(-steps // (options.eval_every or max(1, steps // 10))) * watched
    evaluation = Count(
        known.mean / options.pack_tokens, known.mean, known.mean * known.targets, known.mean_square / 2
    ).times(evaluations)
    longest = min(known.longest, options.max_length)
    most = min(options.pack_tokens, LARGEST) // round(known.mean) + 1  # rows of the first pack: memory is planned by it
    batch = [alike(i, round(known.mean), known.targets) for i in range(min(round(per_step) - 1, most))]
    return Work(
        steps,
        training,
        evaluation,
        [alike(known.rows, longest, known.targets), *batch],
        [alike(i, round(known.mean), known.targets) for i in range(512)],
        known.mean,
        f"{known.rows:,} rows of {recipe.data.path} by what is known of it: {known.mean:.0f} tokens a row, not tokenized here",
    )


def alike(number: int, length: int, targets: float) -> Rendered:
    """A row of so many tokens, the last of which carry loss, that shares its beginning with no other."""
    length = max(2, length)
    answer = min(length - 1, max(1, round(length * targets)))
    return Rendered((number, *[0] * (length - 1)), (False,) * (length - answer) + (True,) * answer)


def filled(rows: Sequence[Rendered], size: int) -> list[Rendered]:
    """As many rows as fill a pack of `size` tokens, from the beginning and round again; at least one."""
    taken, held = [rows[0]], len(rows[0].ids)
    while held + len((row := rows[len(taken) % len(rows)]).ids) <= size:
        taken.append(row)
        held += len(row.ids)
    return taken


def training_flops(trace: Trace, config: Any, recipe: Recipe, counted: Count) -> float:
    """Arithmetic of the training steps on so much, with what checkpointing computes again."""
    each = 6 if recipe.method == "full" else 4
    again = 2 * trace.layers + 2 * trace.adapters if recipe.train.gradient_checkpointing else 0
    tokens = counted.tokens * (each * trace.layers + 6 * trace.adapters + again)
    return tokens + counted.targets * each * trace.head + 3 * attention_flops(config, counted)


def evaluation_flops(trace: Trace, config: Any, counted: Count) -> float:
    """Arithmetic of forward passes over so much."""
    tokens = 2 * counted.tokens * (trace.layers + trace.adapters)
    return tokens + 2 * counted.targets * trace.head + attention_flops(config, counted)


def attention_flops(config: Any, counted: Count) -> float:
    """The two products of attention, forward; none in a model without heads (Mamba), whose scan is a small part of its work."""
    text = config.get_text_config()
    heads = getattr(text, "num_attention_heads", None)
    if not heads:
        return 0.0
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    return 4.0 * text.num_hidden_layers * heads * size * counted.pairs
