"""Everything that `pacos curate` finds out about a dataset, in one call.

read, rules, index -> duplicates, leaks, lengths -> fixes -> agreement with people, diversity -> Curation
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pacos.data.curation.diversity import Diversity, Sample, diversity
from pacos.data.curation.embedding import Embed, EmbeddingMap, embedding_map
from pacos.data.curation.findings import SHOWN
from pacos.data.curation.gold import Agreement, Share, agreement, instruction_hash
from pacos.data.curation.mend import Mended, changes_of, check_rows_file, refuse_existing, write_mended
from pacos.data.curation.rules import RULES
from pacos.data.curation.sets import Cluster, Reference, find_duplicates, find_leaks, find_unusual
from pacos.data.curation.stream import Row, read_examples, read_rows
from pacos.data.curation.survey import Survey, take_survey
from pacos.data.custody import load_split
from pacos.data.load import find_files
from pacos.data.split import Split, prompt_text
from pacos.errors import DataError


@dataclass(frozen=True)
class Options:
    """`against`: evaluation sets; `split`: a split.json whose test rows are among the data; `ngram`: words of a passage, None
    as GPT-3; `gold`: a version cleaned by hand; `output`: where the mended rows go, None: nothing is written; `drop`: rules
    whose rows are dropped besides those with a safe fix; `rouge`: near by ROUGE-L too; `embedder`: name of what
    `embed` is, for the map."""

    rules: tuple[str, ...] = tuple(RULES)
    threshold: float = 0.7
    rouge: bool = False
    against: tuple[str, ...] = ()
    split: str = ""
    ngram: int | None = None
    gold: str = ""
    output: Path | None = None
    drop: tuple[str, ...] = ()
    overwrite: bool = False
    workers: int | None = None
    embedder: str = ""


@dataclass(frozen=True)
class Curation:
    """The whole result. `survey` holds every finding."""

    data: tuple[str, ...]
    survey: Survey
    clusters: list[Cluster]
    diversity: Diversity
    rules: tuple[str, ...]
    reference_rows: int
    ngram: int
    mended: Mended | None
    agreement: Agreement | None
    map: EmbeddingMap | None = None

    def to_json(self) -> dict[str, Any]:
        findings = self.survey.findings
        return {
            "data": list(self.data),
            "rows": self.survey.num_rows,
            "rows_with_findings": len(findings.numbers()),
            "rules": [_rule_json(name, self) for name in self.rules],
            "clusters": [{"kind": c.kind, "kept": c.kept, "others": list(c.others)} for c in self.clusters],
            "leaks_against": {"rows": self.reference_rows, "ngram": self.ngram} if self.reference_rows else None,
            "diversity": self.diversity.to_json(),
            "map": {"model": self.map.model, "rows": len(self.map.texts), "shown": self.map.shown}
            if self.map
            else None,
            "mended": _mended_json(self.mended) if self.mended else None,
            "agreement": _agreement_json(self.agreement) if self.agreement else None,
        }


def curate(
    names: Sequence[str],
    options: Options,
    *,
    embed: Embed | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Curation:
    """Look at everything; write where `options.output` says so. `embed`: see `embedding`. Raises UsageError, DataError."""
    if options.output:
        check_rows_file(options.output, names, options.overwrite)
        refuse_existing([changes_of(options.output)], options.overwrite, names)
    for name in filter(None, (options.gold, *options.against)):
        find_files(name)
    split = load_split(options.split) if options.split else None
    reference = _reference(names, options, split)
    sample, instructions, prompts = Sample(), list[int](), list[str]()
    rows = _noting(read_rows(names), sample, instructions if options.gold else None, prompts if options.rouge else None)
    survey = take_survey(
        rows,
        options.rules,
        passages=reference.passages if reference else None,
        workers=options.workers,
        on_progress=on_progress,
    )
    if not len(survey.ids) and not survey.num_rows:
        raise DataError(f"{', '.join(names)}: no rows")
    clusters = find_duplicates(survey, options.rules, options.threshold, prompts)
    find_unusual(survey, options.rules)
    if reference and "leak" in options.rules:
        held_out = frozenset(int(id, 16) for id in (*split.test, *split.validation)) if split else frozenset()
        find_leaks(survey, reference, options.threshold, held_out)
    mended = None
    if options.output:
        mended = write_mended(
            read_rows(names),
            survey,
            options.rules,
            options.output,
            drop=options.drop,
        )
    agreed = agreement(survey, instructions, options.gold, mended) if options.gold else None
    instructed = sample.texts()
    return Curation(
        tuple(names),
        survey,
        clusters,
        diversity(survey, instructed),
        options.rules,
        len(reference.places) if reference else 0,
        reference.size if reference else 0,
        mended,
        agreed,
        embedding_map(instructed, options.embedder, embed) if embed else None,
    )


def _noting(
    rows: Iterable[Row], sample: Sample, instructions: list[int] | None, prompts: list[str] | None
) -> Iterator[Row]:
    """The same rows; on the way a sample of the instructions, and their hashes, and the prompts, where asked for."""
    for row in rows:
        if row.example is not None:
            sample.add(row.example.instruction)
            if instructions is not None:
                instructions.append(instruction_hash(row.example.instruction))
            if prompts is not None:
                prompts.append(prompt_text(row.example))
        yield row


def _reference(names: Sequence[str], options: Options, split: Split | None) -> Reference | None:
    """The evaluation side: the files given, and the test rows of the split, which are among the data."""
    rows = [row for name in options.against for row in read_examples(name)]
    if split:
        test = set(split.test)
        rows += [row for row in read_rows(names) if row.example is not None and row.example.id in test]
    if split and not rows:
        raise DataError(f"{options.split}: none of its test rows is in {', '.join(names)}; it was made for other data")
    return Reference(rows, options.ngram) if rows else None


def _rule_json(name: str, curation: Curation) -> dict[str, Any]:
    rule, findings = RULES[name], curation.survey.findings
    first = [{"place": f.place, "id": f.id, "why": f.why} for f in findings.first.get(name, ())[:SHOWN]]
    return {
        "rule": name,
        "about": rule.about,
        "severity": rule.severity,
        "safe_fix": rule.mends or None,
        "found": findings.counts[name],
        "first": first,
    }


def _mended_json(mended: Mended) -> dict[str, Any]:
    counts = {name: getattr(mended, name) for name in ("path", "changes", "read", "kept", "changed", "dropped")}
    return {**counts, "by_rule": dict(mended.by_rule)}


def _agreement_json(agreed: Agreement) -> dict[str, Any]:
    rules = {name: {"precision": share_json(p), "recall": share_json(r)} for name, (p, r) in agreed.rules.items()}
    return {
        "cleaned": agreed.cleaned,
        "edited": agreed.edited,
        "rewritten_or_dropped": agreed.rewritten_or_dropped,
        "precision": share_json(agreed.precision),
        "recall": share_json(agreed.recall),
        "recall_edited": share_json(agreed.recall_edited),
        "repaired_as_people_did": share_json(agreed.repaired) if agreed.repaired else None,
        "rules": rules,
    }


def share_json(share: Share) -> dict[str, Any]:
    value = round(share.value, 4) if share.total else None
    return {"hits": share.hits, "total": share.total, "value": value, "interval": [round(x, 4) for x in share.interval]}
