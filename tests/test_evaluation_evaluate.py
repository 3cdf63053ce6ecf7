"""Two answerers on the same rows, over a vocabulary of characters: what is measured, and what is refused."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

from pacos.data.records import Example
from pacos.errors import DataError, UserError
from pacos.evaluation import evaluate, html_report, markdown_table, method_note, render_groups, render_table
from pacos.evaluation.statistics import wilson

STOP = 0


@dataclass(frozen=True)
class Row:
    ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    cut: int = 0
    fits: bool = True


@dataclass(frozen=True)
class Out:
    ids: tuple[int, ...]
    finish_reason: str
    seconds: float

    @property
    def generated_tokens(self) -> int:
        return len(self.ids) + (self.finish_reason == "stop")


@dataclass(frozen=True)
class Scored:
    nll: float
    tokens: int


class Characters:
    """A renderer whose tokens are characters."""

    def render_prompt(self, example):
        return tuple(map(ord, f"{example.user_text}="))

    def render_examples(self, examples, max_length=None):
        return [self.render_row(example, max_length) for example in examples]

    def render_row(self, example, max_length):
        prompt, answer = self.render_prompt(example), tuple(map(ord, example.output))
        fits = max_length is None or len(prompt) + 2 <= max_length
        kept = answer if max_length is None or not fits else answer[: max_length - len(prompt) - 1]
        ids = (*prompt, *kept, STOP)
        return Row(ids, (False,) * len(prompt) + (True,) * (len(kept) + 1), len(answer) - len(kept), fits)

    def decode(self, ids):
        assert STOP not in ids
        return "".join(map(chr, ids))


class Model:
    """Answers with `reply(prompt text)`; loses `nll` nats on each scored token."""

    def __init__(self, reply, nll):
        self.reply, self.nll, self.batches = reply, nll, []

    def generate(self, prompts, sampling, *, on_done):
        completions = self.answers(prompts, sampling)
        for index in reversed(range(len(prompts))):
            on_done(index, completions[index])
        return completions

    def answers(self, prompts, sampling):
        texts = [self.reply("".join(map(chr, prompt[:-1]))) for prompt in prompts]
        return [
            Out(tuple(map(ord, text)), "stop", 0.5) if len(text) < sampling
            else Out(tuple(map(ord, text[:sampling])), "length", 0.5)
            for text in texts
        ]  # fmt: skip

    def score(self, rows):
        self.batches.append(len(rows))
        return [Scored(self.nll * sum(row.loss_mask), sum(row.loss_mask)) for row in rows]


def examples(count=12):
    return [
        Example(f"say {i}", output=f"<{i}>", extra={"family": "odd" if i % 2 else "even", "held_out": i < 4})
        for i in range(count)
    ]


def echo(text):
    return f"<{text.removeprefix('say ')}>"


def run(base=None, tuned=None, rows=None, **options):
    return evaluate(
        base or Model(lambda text: "no", nll=2.0),
        tuned or Model(echo, nll=0.5),
        examples() if rows is None else rows,
        Characters(),
        **{"sampling": 20, "rng": np.random.default_rng(0), "resamples": 200, **options},
    )


def test_both_sides_are_measured_on_the_same_rows():
    result = run()
    assert [(row.base.text, row.tuned.text, row.reference) for row in result.rows[:2]] == [
        ("no", "<0>", "<0>"),
        ("no", "<1>", "<1>"),
    ]
    exact, perplexity = result.metric("exact_match"), result.metric("perplexity")
    assert (exact.base, exact.tuned, exact.difference, exact.verdict) == (0.0, 1.0, 1.0, "better")
    assert (perplexity.base, perplexity.tuned) == pytest.approx((math.exp(2), math.exp(0.5)))
    assert perplexity.verdict == "better"
    assert result.metric("response_tokens").verdict == "changed"
    assert result.metric("seconds_per_token").base == pytest.approx(0.5 / 2)


def test_the_stop_token_is_no_part_of_the_answer():
    row = run().rows[3]
    assert (row.tuned.text, row.tuned.tokens, row.tuned.generated_tokens, row.tuned.finish_reason) == (
        "<3>",
        3,
        4,
        "stop",
    )


def test_an_answer_that_never_stops_keeps_its_last_token():
    result = run(tuned=Model(lambda text: "x" * 99, nll=0.5))
    assert (result.rows[0].tuned.text, result.rows[0].tuned.tokens) == ("x" * 20, 20)
    assert result.metric("unstopped_share").tuned == 1.0
    assert result.metric("unstopped_share").verdict == "worse"


def test_rows_are_scored_in_batches_that_change_nothing():
    base = Model(lambda text: "no", nll=2.0)
    assert run(base=base, batch_size=5).to_json() == run(batch_size=1).to_json() == run(batch_size=100).to_json()
    assert base.batches == [5, 5, 2]


def test_progress_counts_each_stage_up_to_all_rows():
    told = []
    run(rows=examples(4), batch_size=3, on_progress=lambda *now: told.append(now))
    assert told[:3] == [("base: scoring", done, 4) for done in (0, 3, 4)]
    assert told[3:8] == [("base: answering", done, 4) for done in range(5)]
    assert len(told) == 16


def test_base_is_done_before_tuned_begins():
    stages = []
    run(on_progress=lambda stage, done, total: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["base: scoring", "base: answering", "tuned: scoring", "tuned: answering"]


def test_a_share_in_which_no_row_differs_is_not_sure_to_be_the_same():
    empty = run().metric("empty_share")
    assert (empty.rows_that_differ, empty.difference) == (0, 0.0)
    assert empty.interval == (-wilson(0, 12).high, wilson(0, 12).high)


def test_groups_break_exact_match_down():
    result = run(tuned=Model(lambda text: echo(text) if int(text[4:]) % 2 else "no", nll=0.5))
    found = {(g.key, g.value): (g.num_rows, g.metric.tuned, g.metric.verdict) for g in result.groups}
    assert found == {
        ("held_out", "no"): (8, 0.5, "no difference shown"),
        ("held_out", "yes"): (4, 0.5, "no difference shown"),
        ("family", "even"): (6, 0.0, "no difference shown"),
        ("family", "odd"): (6, 1.0, "no difference shown"),
    }
    odd = next(g.metric for g in result.groups if g.value == "odd")
    assert (odd.p, odd.p_corrected) == (2 / 2**6, 4 / 2**6)  # by itself it would be shown; of two groups it is not


def test_a_key_with_many_groups_is_left_to_the_report():
    rows = [Example(f"say {i}", output=f"<{i}>", extra={"family": f"f{i}", "held_out": i < 9}) for i in range(20)]
    result = run(rows=rows)
    assert len(result.groups) == 22
    assert [row[0] for row in render_groups(result)] == ["held out: no", "held out: yes"]
    assert len(render_groups(result, most=20)) == 22


def test_what_is_done_for_few_rows_is_told_of_small_groups_too():
    def note(small: int) -> str:
        rows = [Example(f"say {i}", output=f"<{i}>", extra={"held_out": i < small}) for i in range(210)]
        return markdown_table(run(rows=rows)).splitlines()[-1]

    assert "With fewer than 100 rows intervals" in note(9)
    assert "With fewer than 100 rows intervals" not in note(105)


def test_rows_without_groups_have_no_breakdown():
    result = run(rows=[Example(f"say {i}", output=f"<{i}>", extra={"held_out": ""}) for i in range(6)])
    assert result.groups == ()
    assert render_groups(result) == []


def test_the_table_reads_as_people_write_figures():
    table = render_table(run())
    assert table[0] == ("Exact match \u2191", "0.0 %", "100.0 %", "+100.0 pts", "+100.0 to +100.0", "0.003", "better")
    assert table[1][:4] == ("Perplexity \u2193", "7.389", "1.649", "\u22125.740")
    assert [row[0] for row in table[4:]] == [
        "Response length", "Empty answers \u2193", "Never stopped \u2193", "Time per token",
    ]  # fmt: skip
    assert table[5][1:] == ("0.0 %", "0.0 %", "0.0 pts", "\u221224.2 to +24.2", "1.000", "no difference shown")


def test_the_markdown_opens_with_the_verdict_and_closes_with_the_method():
    text = markdown_table(run()).splitlines()
    assert text[0] == (
        "On 12 rows: exact match 0.0 % \u2192 100.0 %, +100.0 pts (95 % interval +100.0 to +100.0): better; "
        "perplexity 7.389 \u2192 1.649, \u22125.740 (95 % interval \u22125.740 to \u22125.740): better."
    )
    assert text[2] == "| measure | base | tuned | difference | 95 % interval | p | verdict |"
    assert text[-1].startswith("12 rows; 95 % intervals by paired bootstrap (BCa, 200 resamples)")
    assert "BLEU: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in text[-1]
    assert "With fewer than 100 rows intervals reach as far as Student's t" in text[-1]


def test_the_json_form_is_plain_and_its_keys_stay():
    plain = run(record={"name": "demo"}).to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert list(plain) == [
        "verdict", "num_rows", "rows_cut", "rows_left_out", "num_clusters", "level", "resamples", "bleu_signature",
        "metrics", "wins", "exact_match_flips", "groups", "gates", "comparisons", "rows", "record",
    ]  # fmt: skip
    assert list(plain["metrics"][0]) == [
        "name", "label", "unit", "direction", "base", "base_interval", "tuned", "tuned_interval", "difference",
        "interval", "rows_that_differ", "p", "p_corrected", "more_rows", "verdict",
    ]  # fmt: skip
    assert list(plain["rows"][0]) == ["id", "instruction", "input", "reference", "groups", "base", "tuned", "cluster"]
    assert plain["record"] == {"name": "demo"}


def test_rows_cut_to_the_longest_length_are_counted_and_said():
    rows = [*examples(), Example("say 7", output="<7>" * 20)]
    result = run(rows=rows, max_length=12)
    assert result.rows_cut == 1
    assert "1 row was cut" in markdown_table(result)
    assert result.rows[-1].base.nll_tokens == 6


def test_rows_too_long_to_answer_are_left_out_counted_and_named():
    long = [Example("say " + "so " * i, output="x", source=f"a.jsonl:{i}" if i > 9 else "") for i in range(9, 14)]
    base = Model(lambda text: "no", nll=2.0)
    result = run(base, rows=[long[0], *examples(3), *long[1:]], max_length=12)
    names = [long[0].id, "a.jsonl:10", "a.jsonl:11", "a.jsonl:12", "a.jsonl:13"]
    assert [row.instruction for row in result.rows] == ["say 0", "say 1", "say 2"]
    assert base.batches == [3]
    assert result.to_json()["rows_left_out"] == names
    said = f"5 rows were left out as too long to answer: {', '.join(names[:3])} and 2 more."
    assert said in method_note(result)
    assert said in html_report(result)
    assert run().rows_left_out == ()
    assert "left out" not in method_note(run())


def test_fewer_than_two_rows_that_fit_are_refused_with_the_length_of_the_others():
    rows = [*examples(1), *(Example("say " + "so " * 9, output="x" * i, source=f"a.jsonl:{i}") for i in (1, 2))]
    with pytest.raises(DataError) as error:
        run(rows=rows, max_length=12)
    assert str(error.value) == (
        "2 of 3 rows leave no room for an answer in 12 tokens; a comparison needs at least 2 that do: shorten them or "
        "give other rows\n  a.jsonl:1: 34 tokens with its answer\n  a.jsonl:2: 35 tokens with its answer"
    )


def test_the_prompt_of_a_row_left_out_is_longer_than_a_real_engine_reads():
    from pacos.inference import Engine, Sampling
    from pacos.models import Network
    from pacos.prompts import Renderer
    from tests.tiny import tiny_model, tiny_tokenizer

    renderer = Renderer(tiny_tokenizer(), "chat")
    engine = Engine(Network(tiny_model("llama")), renderer.stop_ids)
    rows = [*examples(2), Example("fig, pear " * engine.max_length, output="fig", source="a.jsonl:3")]
    result = evaluate(
        engine, engine, rows, renderer, sampling=Sampling(max_new_tokens=3), rng=np.random.default_rng(0),
        resamples=20, max_length=engine.max_length,
    )  # fmt: skip
    assert (len(result.rows), result.rows_left_out) == (2, ("a.jsonl:3",))


def test_a_clear_interval_of_few_rows_reads_too_few_rows_everywhere():
    result = run(rows=examples(5))
    assert result.metric("exact_match").interval == (1.0, 1.0)
    assert result.metric("exact_match").verdict == "too few rows"
    assert result.headline.count(": too few rows") == 2
    assert render_table(result)[0][-1] == result.to_json()["metrics"][0]["verdict"] == "too few rows"
    assert "Too few rows: base and tuned differ on fewer than 6," in method_note(result)
    assert ">too few rows</span>" in html_report(result)
    assert "Too few rows" not in method_note(run(rows=[replace(e, extra={}) for e in examples()]))


def test_the_time_per_token_takes_no_side_and_says_what_it_depends_on():
    class Slow(Model):
        def answers(self, prompts, sampling):
            return [replace(out, seconds=2.0 + i) for i, out in enumerate(super().answers(prompts, sampling))]

    result = run(tuned=Slow(echo, nll=0.5))
    time = result.metric("seconds_per_token")
    assert (time.direction, time.verdict) == ("neither", "changed")
    assert "rows of a batch share its clock" in method_note(result)
    assert "depends on batch size and machine" in method_note(result)


def test_one_row_is_refused():
    with pytest.raises(DataError, match=r"^1 row to evaluate; a comparison with an interval needs at least 2: "):
        run(rows=examples(1))


def test_rows_without_a_token_to_score_are_refused_by_name():
    class Masked(Characters):
        def render_row(self, example, max_length):
            row = super().render_row(example, max_length)
            return Row(row.ids, (False,) * len(row.ids)) if example.source else row

    rows = [*examples(3), Example("x", output="y", source="a.jsonl:7"), Example("z", output="y", source="a.jsonl:9")]
    with pytest.raises(DataError) as error:
        evaluate(Model(echo, 1), Model(echo, 1), rows, Masked(), sampling=9, rng=np.random.default_rng(0))
    assert error.value.problems == ("a.jsonl:7", "a.jsonl:9")


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_model_and_its_rows(broken):
    with pytest.raises(UserError, match=r"the tuned model's loss is not finite on 12 of 12 rows \(.*, \.\.\.\)"):
        run(tuned=Model(echo, nll=broken))


def test_a_loss_too_large_for_a_perplexity_is_refused():
    with pytest.raises(UserError, match=r"the base model's loss is not finite"):
        run(base=Model(echo, nll=1000.0))


def test_a_seed_gives_the_same_evaluation():
    first, again = (run(rng=np.random.default_rng(7)).to_json() for _ in range(2))
    assert first == again


def test_a_real_renderer_and_engine_fit_and_perplexity_is_the_same_for_every_batch_size():
    from pacos.inference import Engine, Sampling
    from pacos.models import Network
    from pacos.prompts import Renderer
    from tests.tiny import tiny_model, tiny_tokenizer

    renderer = Renderer(tiny_tokenizer(), "chat")
    rows = [Example(f"Sort these words: fig, pear {'x' * i}", output="fig, pear") for i in range(7)]
    base, tuned = (Engine(Network(tiny_model("llama", seed=seed)), renderer.stop_ids) for seed in (0, 1))
    found = [
        evaluate(
            base, tuned, rows, renderer, sampling=Sampling(max_new_tokens=5), rng=np.random.default_rng(0),
            resamples=100, batch_size=size,
        )
        for size in (1, 2, 7)
    ]  # fmt: skip
    scored = sum(sum(renderer.render_example(example).loss_mask) for example in rows)
    assert sum(row.base.nll_tokens for row in found[0].rows) == scored
    for result in found:
        for row in result.rows:
            assert row.tuned.generated_tokens == row.tuned.tokens + (row.tuned.finish_reason == "stop") <= 5
        assert result.metric("perplexity").base == pytest.approx(found[0].metric("perplexity").base, rel=1e-6)
    assert found[0].metric("perplexity").base != found[0].metric("perplexity").tuned


def test_the_room_loads_without_torch_and_transformers():
    code = "import sys, pacos.evaluation; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_rows_of_one_lineage_or_column_are_resampled_together():
    alone = run(rows=examples(12))
    related = [replace(e, lineage=(f"seed {i // 3}",)) for i, e in enumerate(examples(12))]
    result = run(rows=related)
    assert (alone.num_clusters, result.num_clusters) == (0, 4)
    assert [row.cluster for row in result.rows[:4]] == [result.rows[0].id] * 3 + [result.rows[3].id]
    assert (alone.metric("exact_match").p, result.metric("exact_match").p) == (2 / 2**12, 2 / 2**4)
    assert result.metric("exact_match").verdict == "too few rows"
    assert "200 resamples of 4 groups of related rows" in method_note(result)
    assert [row.cluster for row in run(rows=examples(4), cluster_by="family").rows] == ["even", "odd", "even", "odd"]


def test_a_column_that_no_row_has_is_asked_wrongly():
    with pytest.raises(
        UserError, match="no row has a column 'famly' to tell related rows by; they have: family, held_out"
    ):
        run(cluster_by="famly")


def test_measures_told_together_are_corrected_and_neutral_ones_are_not():
    metrics = {metric.name: metric for metric in run().metrics}
    least = 2 / 2**12
    assert metrics["exact_match"].p == least
    assert metrics["exact_match"].p_corrected == 6 * least  # exact, perplexity, ROUGE-L, BLEU, empty, unstopped
    assert metrics["response_tokens"].p_corrected == metrics["response_tokens"].p
