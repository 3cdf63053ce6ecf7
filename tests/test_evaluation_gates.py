"""Gates: what they let pass, what they refuse, and that they are wrong as seldom as they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pacos.errors import UsageError
from pacos.evaluation.comparison import evaluation_of
from pacos.evaluation.gates import Condition, hold, judge, load_gates, outcome_of, simulate, tilt
from pacos.evaluation.metrics import bleu, perplexity
from pacos.evaluation.statistics import Comparison, Interval, compare
from tests.test_evaluation_report import row


def found(tuned=0.5, tuned_interval=(0.4, 0.6), difference=0.0, interval=(-0.1, 0.1), differ=50):
    return Comparison(
        base=0.5, base_interval=Interval(0.4, 0.6), tuned=tuned, tuned_interval=Interval(*tuned_interval),
        difference=difference, interval=Interval(*interval), rows_that_differ=differ,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        ({"at_least": 0.4}, "holds"),
        ({"at_least": 0.5}, "cannot tell"),
        ({"at_least": 0.7}, "does not hold"),
        ({"at_most": 0.6}, "holds"),
        ({"at_most": 0.45}, "cannot tell"),
        ({"at_most": 0.3}, "does not hold"),
        ({"no_worse_than_base_by": 0.1}, "holds"),
        ({"no_worse_than_base_by": 0.05}, "cannot tell"),
        ({"better_than_base_by": 0.0}, "cannot tell"),
        ({"better_than_base_by": 0.2}, "does not hold"),
    ],
)
def test_a_condition_holds_only_where_its_whole_interval_does(condition, outcome) -> None:
    assert judge(Condition(metric="rouge_l", **condition), found(), 100).outcome == outcome


def test_where_lower_is_better_a_gain_is_a_fall() -> None:
    better = found(difference=-2.0, interval=(-3.0, -1.0))
    condition = Condition(metric="perplexity", better_than_base_by=0.5)
    assert judge(condition, better, 100).outcome == "holds"
    assert judge(condition, better, 100).interval == (1.0, 3.0)
    worse = found(difference=2.0, interval=(1.0, 3.0))
    assert judge(Condition(metric="perplexity", no_worse_than_base_by=0.5), worse, 100).outcome == "does not hold"


def test_no_failure_in_twenty_answers_is_not_no_failures() -> None:
    none = found(tuned=0.0, tuned_interval=(0.0, 0.0))
    condition = Condition(metric="empty_share", at_most=0.02)
    few, many = judge(condition, none, 20), judge(condition, none, 400)
    assert (few.outcome, many.outcome) == ("cannot tell", "holds")
    assert few.interval.high == pytest.approx(0.161, abs=1e-3)
    assert few.more_prompts is not None
    assert few.more_prompts > 100


def test_models_that_hardly_differ_are_told_apart_by_shares_alone() -> None:
    same = found(difference=0.0, interval=(0.0, 0.0), differ=0)
    exact = Condition(metric="exact_match", no_worse_than_base_by=0.05)
    assert [judge(exact, same, n).outcome for n in (20, 200)] == ["cannot tell", "holds"]
    three = found(difference=-1.0, interval=(-2.0, -0.5), differ=3)
    assert judge(Condition(metric="perplexity", better_than_base_by=0.0), three, 100).outcome == "cannot tell"


def test_more_prompts_are_told_only_where_they_would_help() -> None:
    condition = Condition(metric="rouge_l", at_least=0.5)
    assert judge(condition, found(), 100).more_prompts is None
    assert judge(condition, found(tuned=0.58, tuned_interval=(0.48, 0.68)), 100).more_prompts == 220
    assert judge(condition, found(tuned=0.7, tuned_interval=(0.6, 0.8)), 100).more_prompts == 0


def test_every_mistake_of_a_file_is_told_at_once_with_what_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(
        "gates:\n  - {metric: exact_mach, at_least: 0.5}\n  - {metric: bleu, atleast: 3}\n  - {metric: bleu}\n"
        "  - {metric: bleu, at_least: 1, at_most: 2}\n  - {metric: response_tokens, better_than_base_by: 1}\n"
        "  - {metric: bleu, no_worse_than_base_by: -1}\n  - {at_most: two, metric: bleu}\n  - 3\n"
        "  - {at_most: 1}\n  - {metric: bleu, at_most: .inf}\n  - {metric: 5, at_most: 1}\n"
        "  - {metric: bleu, at_most: 1, drop: 0}\n"
    )
    with pytest.raises(UsageError) as caught:
        load_gates(path)
    text = str(caught.value)
    for line in (
        "gates.1: metric 'exact_mach' is not measured; did you mean 'exact_match'?",
        "gates.2.atleast: unknown key 'atleast'; did you mean 'at_least'?",
        "gates.3: no condition given; give one of at_least, at_most, no_worse_than_base_by, better_than_base_by",
        "gates.4: at_least and at_most given; give one of",
        "gates.5: no side of 'response_tokens' is better; give at_least or at_most",
        "gates.6.no_worse_than_base_by: give at least 0 (-1 was given)",
        "gates.7.at_most: needs a number ('two' was given)",
        "gates.8: needs keys; accepted: metric, at_least, at_most, no_worse_than_base_by, better_than_base_by, drop",
        "gates.9.metric: is missing",
        "gates.10.at_most: is not finite; give a number (inf was given)",
        "gates.11.metric: needs text (5 was given)",
        "gates.12.drop: give more than 0 (0 was given)",
    ):
        assert f"{path}: {line}" in text
    assert len(text.splitlines()) == 12


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gates: [", "gate.yaml:1: is not YAML"),
        ("", "the file: needs keys"),
        ("gates: []", "gates: is empty; give at least one"),
        ("gates: 3", "gates: needs a list (3 was given)"),
        ("gates:", "gates: needs a list (nothing was given)"),
        ("{}", "gates: is missing"),
        ("gate: []", "gate: unknown key 'gate'; did you mean 'gates'?"),
    ],
)
def test_a_file_that_is_no_gate_says_so(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "gate.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_gates(tmp_path / "gate.yaml")
    assert words in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read"):
        load_gates(tmp_path / "none.yaml")


def test_tilted_weights_have_the_figure_that_was_asked_for() -> None:
    rng = np.random.default_rng(3)
    tokens = rng.integers(1, 30, 40).astype(float)
    atoms = np.column_stack([tokens * 2, tokens, tokens * rng.normal(2, 0.3, 40), tokens])

    def figure(mean):
        return float(perplexity(mean[2:]) - perplexity(mean[:2]))

    for target in (0.8, -0.5):
        weights = tilt(atoms, figure, target)
        assert weights is not None
        assert weights.sum() == pytest.approx(1)
        assert figure(weights @ atoms) == pytest.approx(target, abs=1e-3)
    assert tilt(atoms, figure, 1e6) is None
    assert tilt(np.ones((5, 4)), lambda mean: float(mean[0]), 3.0) is None


def shares(rng, size, base, tuned):
    ones = np.ones(size)
    return (np.column_stack([rng.random(size) < share, ones]).astype(float) for share in (base, tuned))


def test_an_equally_good_model_is_seldom_refused_and_a_much_worse_one_mostly() -> None:
    base, tuned = shares(np.random.default_rng(5), 150, 0.5, 0.5)
    condition = Condition(metric="exact_match", no_worse_than_base_by=0.02)
    equal = simulate(condition, base, tuned, 0.0, rng=np.random.default_rng(0))
    worse = simulate(condition, base, tuned, 0.25, rng=np.random.default_rng(0))
    assert equal is not None
    assert worse is not None
    assert equal.refused_share < 0.04
    assert worse.refused_share > 0.9


def test_the_odds_that_are_printed_are_those_of_fresh_prompts() -> None:
    """The power told from 150 prompts, beside what the gate does on new prompts of the same kind."""
    rng = np.random.default_rng(6)
    condition = Condition(metric="exact_match", no_worse_than_base_by=0.02)
    told = simulate(condition, *shares(rng, 150, 0.5, 0.5), 0.15, rng=rng)
    assert told is not None
    refused = 0
    for _ in range(400):
        base, tuned = shares(rng, 150, 0.5, 0.35)
        comparison = compare(base, tuned, condition.measure.value, rng=rng, resamples=300)
        refused += judge(condition, comparison, 150).outcome == "does not hold"
    assert told.refused_share == pytest.approx(refused / 400, abs=0.08)


def test_a_drop_that_no_answer_shows_is_not_simulated() -> None:
    never = np.column_stack([np.zeros(30), np.ones(30)])
    condition = Condition(metric="exact_match", no_worse_than_base_by=0.1, drop=0.2)
    assert simulate(condition, never, never, 0.2, rng=np.random.default_rng(0)) is None


def test_a_gate_is_held_against_an_evaluation_and_the_worst_outcome_decides() -> None:
    rows = tuple(row(i) for i in range(40))
    evaluation = evaluation_of(rows, rng=np.random.default_rng(0), resamples=200, record={})
    conditions = [
        Condition(metric="exact_match", better_than_base_by=0.5, drop=0.1),
        Condition(metric="empty_share", at_most=0.01),
        Condition(metric="perplexity", at_most=1.0),
    ]
    gated = hold(conditions, evaluation, rng=np.random.default_rng(0))
    assert [g.judged.outcome for g in gated] == ["holds", "cannot tell", "does not hold"]
    assert [outcome_of(gated[:n]) for n in (1, 2, 3)] == ["holds", "cannot tell", "does not hold"]
    assert gated[0].sentence == (
        "Exact match, better than base by 50.0 pts: +100.0 pts (95 % interval +100.0 to +100.0): holds"
    )
    assert "more prompts would tell with 80 % chance" in gated[1].notes[0]
    assert gated[0].to_json()["outcome"] == "holds"
    again = hold(conditions, evaluation, rng=np.random.default_rng(0))
    assert [g.to_json() for g in again] == [g.to_json() for g in gated]


def test_bleu_can_be_gated_as_any_figure_of_sums() -> None:
    rng = np.random.default_rng(1)
    counts = np.column_stack([np.full((40, 2), 20.0), rng.integers(4, 9, (40, 4)), np.full((40, 4), 18.0)])
    condition = Condition(metric="bleu", no_worse_than_base_by=1.0)
    odds = simulate(condition, counts, counts[::-1], 0.0, rng=rng)
    assert odds is not None
    assert float(bleu(counts.sum(0))) > 10
    assert odds.refused_share < 0.06
