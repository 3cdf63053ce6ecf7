"""The result for people: lines for a terminal, and one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from pacos.data.curation import charts
from pacos.data.curation.curate import Curation
from pacos.data.curation.diversity import QUANTILES
from pacos.data.curation.embedding import EmbeddingMap
from pacos.data.curation.gold import Agreement, Share
from pacos.data.curation.rule import Finding
from pacos.data.curation.rules import RULES
from pacos.data.curation.survey import LENGTHS

CLUSTERS_SHOWN, LABEL = 50, 120


def summary_lines(curation: Curation) -> list[str]:
    """What was read and found; then, where there are any: fixes, clusters, leaks, verbs, lengths, novelty."""
    survey, varied = curation.survey, curation.diversity
    lines = [
        f"{survey.num_rows:,} rows of {', '.join(curation.data)}: {len(survey.findings):,} findings in "
        f"{len(survey.findings.numbers()):,} rows"
    ]
    if curation.mended:
        done = curation.mended
        lines.append(
            f"fixed: {done.changed:,} rows changed, {done.dropped:,} dropped, {done.kept:,} written to {done.path}; "
            f"what they were: {done.changes}"
        )
    if curation.reference_rows:
        leaks = survey.findings.counts["leak"]
        lines.append(f"leaks: {leaks:,} rows against {curation.reference_rows:,}; passages of {curation.ngram} words")
    lines.append(f"duplicates: {_cluster_line(curation)}")
    verbs = ", ".join(f"{verb} {count:,}" for verb, count, _ in varied.tree[:6])
    lines.append(f"verbs: {verbs or 'none'}; {varied.pairs:,} different pairs of verb and noun")
    for name in LENGTHS:
        low, middle, high = (varied.quantiles[name][QUANTILES.index(q)] for q in (0.05, 0.5, 0.95))
        lines.append(f"words of {name}: median {middle}, 90 % between {low} and {high}")
    if len(varied.nearest) > 1:
        mean = sum(varied.nearest) / len(varied.nearest)
        asked = f"{len(varied.nearest):,} instructions among {varied.among:,}"
        lines.append(f"ROUGE-L to the nearest other instruction: {mean:.2f} on average ({asked})")
    return lines


def _cluster_line(curation: Curation) -> str:
    kinds = {kind: [c for c in curation.clusters if c.kind == kind] for kind in ("duplicate", "near-duplicate")}
    return "; ".join(
        f"{len(found):,} clusters of {kind}s with {sum(len(c.others) for c in found):,} rows beside the one"
        f" that is kept"
        for kind, found in kinds.items()
    )


def agreement_lines(agreed: Agreement) -> tuple[list[str], list[list[str]], list[str]]:
    """(header, rows, notes) of the comparison with the version that people cleaned."""
    header = ["rule", "found", "changed by people", "precision", "95 % interval", "recall"]
    ranked = sorted(agreed.rules.items(), key=lambda item: -item[1][0].hits)
    rows = [[name, f"{p.total:,}", f"{p.hits:,}", *_with_interval(p), f"{r.value:.1%}"] for name, (p, r) in ranked]
    whole = agreed.precision
    rows.append(
        ["errors and warnings", f"{whole.total:,}", f"{whole.hits:,}", *_with_interval(whole), _percent(agreed.recall)]
    )
    notes = [
        f"{agreed.edited:,} rows edited and {agreed.rewritten_or_dropped:,} rewritten or dropped by people in"
        f" {agreed.cleaned}; "
        f"of the edited {_percent(agreed.recall_edited)} are found",
        "precision is a lower bound: rows that people passed over can be as wrong",
    ]
    if agreed.repaired:
        notes.append(
            f"of {agreed.repaired.total:,} such rows that --fix changed, {_percent(agreed.repaired)} read as"
            f" people left them"
        )
    return header, rows, notes


def _percent(share: Share) -> str:
    return f"{share.value:.1%}" if share.total else "-"


def _with_interval(share: Share) -> tuple[str, str]:
    low, high = share.interval
    return _percent(share), f"{low:.1%} to {high:.1%}"


def html_report(curation: Curation) -> str:
    """The whole page."""
    found, varied = curation.survey.findings, curation.diversity
    ranked = sorted((n for n in curation.rules if found.counts[n]), key=lambda n: -found.counts[n])
    title = ", ".join(curation.data)
    return Template(_resource("report.html")).substitute(
        title=escape(title),
        style=_resource("report.css"),
        summary="".join(f"<li>{escape(line)}</li>" for line in summary_lines(curation)),
        bars=charts.bars([(name, found.counts[name], RULES[name].severity) for name in ranked]),
        rules="".join(_rule(name, found.counts[name], found.first[name]) for name in ranked)
        or "<p>Nothing was found.</p>",
        clusters=_clusters(curation),
        sunburst=charts.sunburst([(verb, count, nouns) for verb, count, nouns in varied.tree]),
        lengths="".join(f"<h3>{name}</h3>{charts.doubling(varied.histograms[name])}" for name in LENGTHS),
        map=_map(curation.map),
        nearest=charts.shares(varied.nearest),
        among=f"{len(varied.nearest):,} of the instructions, each against {varied.among:,}",
        agreement=_agreement(curation.agreement),
        checked=", ".join(curation.rules),
    )


def _resource(name: str) -> str:
    return files("pacos.data.curation").joinpath(name).read_text(encoding="utf-8")


def _rule(name: str, count: int, first: Sequence[Finding]) -> str:
    rule = RULES[name]
    fix = f" <i>--fix {escape(rule.mends)}</i>" if rule.mends else ""
    items = "".join(
        f"<li><code>{escape(one.place)}</code> <small>{escape(one.id)}</small> {escape(one.why)}</li>" for one in first
    )
    more = f"<p>and {count - len(first):,} more</p>" if count > len(first) else ""
    return (
        f'<details><summary><b class="{rule.severity}">{name}</b> {count:,} <span>{escape(rule.about)}</span>{fix}</summary>'
        f"<ul>{items}</ul>{more}</details>"
    )


def _clusters(curation: Curation) -> str:
    largest = sorted(curation.clusters, key=lambda c: -len(c.others))[:CLUSTERS_SHOWN]
    items = "".join(
        f"<li>{c.kind}: kept <code>{escape(c.kept)}</code>, beside it {escape(', '.join(c.others[:10]))}"
        f"{f' and {len(c.others) - 10:,} more' if len(c.others) > 10 else ''}</li>"
        for c in largest
    )
    head = f"<p>{escape(_cluster_line(curation))}. Of each the row with the fewest errors and warnings is kept; of those the first.</p>"
    return (
        f"{head}<details><summary>the largest {len(largest)}</summary><ul>{items}</ul></details>" if largest else head
    )


def _agreement(agreed: Agreement | None) -> str:
    if agreed is None:
        return ""
    header, rows, notes = agreement_lines(agreed)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    said = "".join(f"<p>{escape(line)}</p>" for line in notes)
    return (
        "<section><h2>Against the version that people cleaned</h2>"
        f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>{said}</section>'
    )


def _map(found: EmbeddingMap | None) -> str:
    if found is None:
        return ""
    labels = [text if len(text) <= LABEL else f"{text[: LABEL - 1]}…" for text in found.texts]
    plot = charts.scatter([(float(x), float(y)) for x, y in found.points], labels, found.verbs)
    hint = (
        f"{len(found.texts):,} of the instructions as {found.model} sees them: like ones lie close together. Two directions,"
        f" which hold {found.shown:.0%} of the variation; colours are verbs. Hover for the text."
    )
    return f'<section><h2>Map of the instructions</h2><p class="hint">{escape(hint)}</p>{plot}</section>'
