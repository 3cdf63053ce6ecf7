"""The metric table as rows of words (for the terminal), and as Markdown (for model cards and notes)."""

from __future__ import annotations

from collections import Counter

from pacos.evaluation.results import Evaluation, GroupResult, MetricResult
from pacos.evaluation.statistics import FEW, FEWEST_ROWS
from pacos.evaluation.wording import counted, format_difference, format_interval, format_p, format_value

HEADER = ("measure", "base", "tuned", "difference", "95 % interval", "p", "verdict")
GROUP_HEADER = ("group", "rows", "base", "tuned", "difference", "95 % interval", "p", "verdict")
BETTER_WHEN = {"higher": "\u2191", "lower": "\u2193", "neither": ""}
NAMES_SHOWN = 3
FEWEST_TRIED = 20
"""Rows from which on benchmarks/intervals.py has tried how often intervals cover."""


def render_table(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """One row of `HEADER`'s columns per metric; the arrow says which way is better."""
    return [(f"{m.label} {BETTER_WHEN[m.direction]}".strip(), *_cells(m)) for m in evaluation.metrics]


def render_groups(evaluation: Evaluation, most: int = 12) -> list[tuple[str, ...]]:
    """One row of `GROUP_HEADER`'s columns per group: exact match within it. Empty where rows have no groups.

    A key with more than `most` groups is left to the report, which has room for it.
    """
    sizes = Counter(group.key for group in evaluation.groups)
    shown = [group for group in evaluation.groups if sizes[group.key] <= most]
    return [(group_label(g), str(g.num_rows), *_cells(g.metric)) for g in shown]


def markdown_table(evaluation: Evaluation) -> str:
    """The table, with the sentence over it and what it was made with under it."""
    lines = [_line(HEADER), _line(["---", *["---:"] * 5, "---"]), *map(_line, render_table(evaluation))]
    gates = [line for gated in evaluation.gates for line in (f"- {gated.sentence}", *(f"  - {n}" for n in gated.notes))]
    compared = [f"- {line}" for line in comparison_lines(evaluation)]
    compared = ["Win rates:", "", *compared, ""] if compared else []
    parts = [evaluation.headline, "", *lines, "", *gates, *([""] if gates else []), *compared, method_note(evaluation)]
    return "\n".join(parts) + "\n"


def comparison_lines(evaluation: Evaluation) -> list[str]:
    """What blind comparisons of the same two models say: win rates, then what they rest on."""
    return [f"comparison {told.number}: {line}" for told in evaluation.comparisons for line in told.lines]


def method_note(evaluation: Evaluation) -> str:
    """How the figures were made, and what they leave out, in a few sentences."""
    notes = (_how(evaluation), _reach_note(evaluation), _rows_note(evaluation), _few_note(evaluation))
    return " ".join(filter(None, notes))


def _how(evaluation: Evaluation) -> str:
    return (
        f"{len(evaluation.rows)} rows; {100 * evaluation.level:g} % intervals by paired bootstrap (BCa, "
        f"{evaluation.resamples:,} resamples{_clusters(evaluation)}), p by paired permutation, corrected for "
        "the measures told together (Holm); a side is named where both agree. Perplexity over response tokens. "
        f"BLEU: {evaluation.bleu_signature}. Time per token counts the steps that write and not the reading of the "
        "prompt; rows of a batch share its clock, so its interval says little, and it depends on batch size and machine."
    )


def _clusters(evaluation: Evaluation) -> str:
    return f" of {evaluation.num_clusters:,} groups of related rows" if evaluation.num_clusters else ""


def _reach_note(evaluation: Evaluation) -> str:
    """What is done for few rows, and where it may not be enough."""
    units = min([evaluation.num_clusters or len(evaluation.rows), *(group.num_rows for group in evaluation.groups)])
    if units >= FEW:
        return ""
    short = f" With {units} they may still be too short." if units < FEWEST_TRIED else ""
    return f"With fewer than {FEW} rows intervals reach as far as Student's t and Hall's t for skewed rows do.{short}"


def _rows_note(evaluation: Evaluation) -> str:
    """Rows cut or left out for their length, the latter by name."""
    cut, names = evaluation.rows_cut, evaluation.rows_left_out
    notes = [f"{counted(cut, 'row was', 'rows were')} cut to the longest length before scoring."] if cut else []
    if names:
        more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
        listed = ", ".join(names[:NAMES_SHOWN]) + more
        notes.append(f"{counted(len(names), 'row was', 'rows were')} left out as too long to answer: {listed}.")
    return " ".join(notes)


def _few_note(evaluation: Evaluation) -> str:
    """What "too few rows" means, where a verdict says so."""
    metrics = [*evaluation.metrics, *(group.metric for group in evaluation.groups)]
    if all(metric.verdict != "too few rows" for metric in metrics):
        return ""
    return f"Too few rows: base and tuned differ on fewer than {FEWEST_ROWS}, which can show no difference."


def group_label(group: GroupResult) -> str:
    """`held out: yes`, `family: sort words`."""
    return f"{group.key}: {group.value}".replace("_", " ")


def _cells(metric: MetricResult) -> tuple[str, ...]:
    return (
        format_value(metric.base, metric.unit),
        format_value(metric.tuned, metric.unit),
        format_difference(metric.difference, metric.unit),
        format_interval(metric.interval, metric.unit, signed=True),
        format_p(metric.p_corrected),
        metric.verdict,
    )


def _line(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
