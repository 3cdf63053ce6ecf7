"""The report: self-contained, escaped, and the words and figures that it opens with."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from pacos.evaluation import METRICS, Evaluation, RowResult, html_report, write_report
from pacos.evaluation.charts import forest_mark, length_histogram, loss_scatter
from pacos.evaluation.comparison import compare_groups, compare_rows
from pacos.evaluation.gates import Condition, hold
from pacos.evaluation.metrics import EXACT, measure
from pacos.evaluation.report import change_kind, most_changed
from pacos.evaluation.worddiff import mark_changes

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)> & </pre>'


def answer(reference, text, nll=2.0, **options):
    size = len(text.split())
    return measure(
        reference,
        text,
        **{
            "tokens": size, "generated_tokens": size + 1, "finish_reason": "stop", "seconds": 0.1 * (size + 1),
            "nll": nll, "nll_tokens": 2, **options,
        },
    )  # fmt: skip


def row(i, base="no idea", tuned=None, *, instruction="", text="", groups=None):
    reference = f"answer number {i}"
    return RowResult(
        id=f"id{i:03}",
        instruction=instruction or f"Give answer {i}",
        input=text,
        reference=reference,
        groups=groups or {},
        base=answer(reference, base, 4.0 + 0.1 * i),
        tuned=answer(reference, reference if tuned is None else tuned, 1.0 + 0.07 * i),
    )


def evaluation(rows=None, **record):
    rows = tuple(rows or [row(i, groups={"family": "odd_ones" if i % 2 else "even_ones"}) for i in range(12)])
    rng = np.random.default_rng(0)
    return Evaluation(
        rows=rows,
        metrics=tuple(compare_rows(rows, metric, rng=rng, resamples=100) for metric in METRICS),
        groups=compare_groups(rows, EXACT, rng=rng, resamples=100),
        bleu_signature="nrefs:1",
        level=0.95,
        resamples=100,
        record=record,
    )


class Page(HTMLParser):
    """Tags, attributes, and text as a browser would take them apart; complains of a tag closed out of turn."""

    VOID = ("meta", "input", "br")

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.open, self.words = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_the_page_opens_with_the_verdict_in_figures():
    page = Page(html_report(evaluation(name="my run")))
    assert page.open == []
    assert page.text.startswith(
        "my run: base against tuned pacos eval my run 0.0 % \u2192 100.0 % Exact match: +100.0 pts"
    )
    assert "(95 % interval +100.0 to +100.0), \u25b2 better on 12 rows. Perplexity: \u2212" in page.text


def test_text_from_users_data_and_models_is_shown_and_never_run():
    rows = [row(0, EVIL, f"{EVIL} more", instruction=EVIL, text=EVIL, groups={"family": EVIL}), *map(row, range(1, 8))]
    clean, attacked = (
        Page(html_report(evaluation([*map(row, range(8))]))),
        Page(html_report(evaluation(rows, name=EVIL, **{EVIL: [EVIL]}))),
    )
    assert attacked.tags.count("script") == clean.tags.count("script") == 1
    assert "img" not in attacked.tags
    assert not [name for name, _ in attacked.attributes if name.startswith("on")]
    assert attacked.text.count('<script>alert("x")</script>') >= 6
    assert attacked.open == []


def test_signs_that_turn_the_direction_of_text_are_seen():
    html = html_report(evaluation([row(i, "gpj.\u202eexe", "\u2066exe", instruction="a\u200fb") for i in range(8)]))
    for shown in ("gpj.\\u202e", "\\u2066exe", "a\\u200fb"):
        assert shown in re.sub("</?(?:del|ins)>", "", html)
    assert not set(html) & set("\u200f\u202e\u2066")


def test_the_page_asks_the_network_for_nothing():
    html = html_report(evaluation())
    page = Page(html)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'") in page.attributes
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    assert not [value for name, value in page.attributes if name in ("src", "href", "srcset", "action")]
    assert not re.search(r"url\(|@import|https?:", html)


def test_the_page_has_a_mark_for_each_metric_and_group():
    html = html_report(evaluation())
    assert html.count('<svg class="forest') == len(METRICS) == 8
    assert html.count('<svg class="dumbbell') == 2
    assert html.count('<article class="example"') == 12
    assert "prefers-color-scheme: dark" in html


def test_the_legend_says_what_each_place_of_a_bar_means():
    assert (
        Page(html_report(evaluation())).text.count(
            "Right of the line is better, or more where no side is; each bar has its own scale. The p is of a paired "
            "permutation test, corrected for all measures together (Holm). A bar that touches the line, or a p over 0.05, "
            "shows no difference, and neither does one away from it that says too few rows: base and tuned differ on fewer "
            "than 6."
        )
        == 1
    )


def test_a_dollar_sign_in_data_stays_a_dollar_sign():
    assert "costs $5 or ${style}" in html_report(evaluation([row(i, "costs $5 or ${style} each") for i in range(8)]))


def test_the_record_is_kept_whole():
    page = Page(html_report(evaluation(run="a", date="2025-01-01", recipe={"lora": {"rank": 16}})))
    assert page.text.endswith('run a date 2025-01-01 recipe { "lora": { "rank": 16 } }')


def test_writing_makes_folders_and_leaves_nothing_else(tmp_path):
    path = write_report(evaluation([row(i, "lone \ud83d half") for i in range(8)]), tmp_path / "a" / "report.html")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert "lone ? half" in path.read_text(encoding="utf-8")


def test_most_changed_keeps_a_third_for_changes_for_the_worse():
    gained = [row(i) for i in range(20)]
    lost = [row(i, f"answer number {i}", "no idea") for i in range(20, 30)]
    same = [row(i, "no idea", "no idea") for i in range(30, 35)]
    kinds = [change_kind(r) for r in most_changed([*same, *lost, *gained], 9)]
    assert (kinds.count("gained"), kinds.count("lost")) == (6, 3)
    kinds = [change_kind(r) for r in most_changed([*lost, *gained[:2]], 9)]
    assert (kinds.count("gained"), kinds.count("lost")) == (2, 7)
    assert most_changed(same) == []


@pytest.mark.parametrize(
    ("base", "tuned", "kind"),
    [
        ("x", "answer number 0", "gained"),
        ("answer number 0", "x", "lost"),
        ("x", "answer y", "closer"),
        ("answer y", "x", "further"),
    ],
)
def test_a_change_is_named_by_what_it_did_to_the_answer(base, tuned, kind):
    assert change_kind(row(0, base, tuned)) == kind


def test_the_word_diff_marks_what_the_other_side_lacks():
    assert mark_changes("The red cat sat.", "The black cat <sat>.") == (
        "The <del>red</del> cat sat.",
        "The <ins>black</ins> cat <ins>&lt;</ins>sat<ins>&gt;</ins>.",
    )


def test_answers_with_little_in_common_are_left_unmarked():
    assert mark_changes("alpha beta & gamma", "one, two; three") == ("alpha beta &amp; gamma", "one, two; three")
    assert mark_changes("same", "same") == ("same", "same")
    assert mark_changes("", "new") == ("", "new")


def test_right_of_the_line_is_better_whichever_way_the_figure_goes():
    def dot(name):
        return float(re.search(r'<circle cx="([\d.]+)%"', forest_mark(evaluation().metric(name)))[1])

    assert evaluation().metric("perplexity").difference < 0 < evaluation().metric("exact_match").difference
    assert dot("perplexity") > 50
    assert dot("exact_match") > 50
    assert dot("empty_share") == 50


def test_of_one_row_no_interval_is_drawn_or_written():
    told = evaluation([row(0)])
    page = Page(html_report(told))
    assert {metric.verdict for metric in told.metrics} == {"cannot tell"}
    assert "Perplexity: \u2212" in page.text
    assert "(95 % interval not told), cannot tell" in page.text
    assert not [1 for tag in page.tags if tag == "circle"] or "inf" not in html_report(told)
    json.dumps(told.to_json(), allow_nan=False)


def test_the_histogram_counts_every_answer():
    svg = length_histogram([0, 0, 5, 300], [1, 2, 2, 300])
    for kind in ("base", "tuned"):
        assert sum(map(int, re.findall(rf"<title>{kind}: (\d+) answers", svg))) == 4
    assert "base: 3 answers of 0 to 12 tokens" in svg


def test_the_scatter_has_a_dot_for_each_row_coloured_by_who_lost_less():
    svg = loss_scatter([(2.0, 1.0), (1.0, 2.0), (1.0, 1.0), (50.0, 1.0)])
    assert re.findall(r'<circle class="(\w+)"', svg) == ["better", "worse", "same", "better"]
    assert loss_scatter([(0.0, 0.0)]).count("<circle") == 1


def mixed():
    """Eight rows gained, four lost, four as they were."""
    gained = [row(i) for i in range(8)]
    lost = [row(i, f"answer number {i}", "no idea") for i in range(8, 12)]
    return [*gained, *lost, *(row(i, "no idea", "no idea") for i in range(12, 16))]


def test_regressions_are_shown_first():
    kinds = [change_kind(r) for r in most_changed(mixed())]
    assert kinds == ["lost"] * 4 + ["gained"] * 8
    html = html_report(evaluation(mixed()))
    assert html.index('data-change="lost"') < html.index('data-change="gained"')


def test_rows_are_counted_won_and_lost_with_an_interval():
    page = Page(html_report(evaluation(mixed())))
    assert (
        "Nearer to the reference on 8, as near on 4, further on 4: 66.7 % of the rows that differ (95 % interval 39.1 % to "
        "86.2 %). Exact answers: 8 gained, 4 lost (McNemar, exact p 0.388, mid-p 0.267)."
    ) in page.text
    assert ("aria-label", "won 8, tied 4, lost 4") in page.attributes
    assert "Row by row" not in Page(html_report(evaluation([row(i, "x", "x") for i in range(8)]))).text


def test_what_is_undecided_says_how_many_rows_it_would_take():
    told = evaluation(mixed())
    exact = told.metric("exact_match")
    assert exact.verdict == "no difference shown"
    assert f"Exact match +25.0 pts {exact.more_rows} more rows" in Page(html_report(told)).text
    same = [row(i, "x", "x") for i in range(8)]
    alike = [replace(r, tuned=r.base) for r in same]
    assert "What it would take" not in Page(html_report(evaluation(alike))).text


def test_a_gate_stands_above_the_figures_with_its_odds():
    told = evaluation(mixed())
    gates = hold([Condition(metric="exact_match", no_worse_than_base_by=0.1)], told, rng=np.random.default_rng(0))
    text = Page(html_report(replace(told, gates=gates))).text
    assert text.index("cannot tell Exact match, no worse than base by 10.0 pts: +25.0 pts (95 %") < text.index(
        "What changed"
    )
    assert "an equally good model is refused in" in text
