"""What each suite of `pacos eval --suite` measures, on what data, and how it is run on an open run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacos.cli.eval_regression import REGRESSIONS
from pacos.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    from pacos.cli.session import OpenRun
    from pacos.evaluation.metrics import Metric
    from pacos.evaluation.suites.cases import SuiteRow

SUITES = ("redteam", "regression", "latency", "memorization")
LATENCY_PROMPTS, MEMORIZATION_ROWS = 40, 200
JUDGE_TOKENS = 200


@dataclass(frozen=True)
class Asked:
    """What a suite is run with. `limit` is None where none was given."""

    name: str
    limit: int | None
    seed: int
    resamples: int
    max_new_tokens: int
    judge: str | None
    min_answer: int | None
    workspace: Path


@dataclass(frozen=True)
class Plan:
    """A suite that is ready: what it measures, what data it is of, and how it is run on an open run."""

    name: str
    measures: Sequence[Metric]
    by_kind: Sequence[Metric]
    data: str
    run: Callable[[OpenRun, Any, Any, Any], tuple[list[SuiteRow], dict[str, Any]]]


def plan_suite(asked: Asked) -> Plan:
    """The suite of a name or a file, read and checked before a model is loaded. Raises UsageError."""
    from pacos.evaluation.suites import measures

    name = asked.name
    if asked.judge and name in SUITES and name != "regression":
        raise UsageError(f"--judge has no effect with --suite {name}; leave it out")
    if asked.min_answer is not None and name != "memorization":
        raise UsageError(f"--min-answer has no effect with --suite {name}; leave it out")
    if name == "redteam":
        return _redteam(asked)
    if name == "latency":
        return Plan(name, measures.LATENCY, (), "the run's test rows", lambda *sides: _latency(asked, *sides))
    if name == "memorization":
        return Plan(
            name, measures.MEMORIZATION, (), "the run's training rows", lambda *sides: _memorization(asked, *sides)
        )
    path = asked.workspace / REGRESSIONS if name == "regression" else Path(name)
    if name == "regression" and not path.exists():
        raise UsageError(f"{path}: no regression prompts yet; save one with: pacos eval --add-regression")
    if not path.exists():
        near = did_you_mean(name, SUITES) or f"; suites are {', '.join(SUITES)}, or a YAML file"
        raise UsageError(f"--suite {name}: no such suite or file{near}")
    return _regression(asked, path)


def _redteam(asked: Asked) -> Plan:
    from pacos.evaluation.suites import measures, redteam

    probes = redteam.load_probes()
    cases = _some(redteam.cases_of(probes), asked)

    def run(opened: OpenRun, sides: Any, sampling: Any, progress: Any) -> Any:
        from pacos.evaluation.suites.run import run_cases

        grade = redteam.grader(probes)
        return run_cases(sides[0], sides[1], cases, opened.renderer, grade, sampling=sampling, on_progress=progress), {}

    by_kind = (measures.REFUSAL, measures.RESISTED, measures.FALSE_REFUSAL)
    return Plan("redteam", measures.REDTEAM, by_kind, f"{len(cases)} probes that come with pacos", run)


def _regression(asked: Asked, path: Path) -> Plan:
    from pacos.evaluation.suites import measures, regression
    from pacos.evaluation.suites.judge import ask_by
    from pacos.evaluation.wording import counted

    suite = regression.load_regression(path)
    cases = _some([prompt.case for prompt in suite.prompts], asked)
    asking = {case.id for case in cases} & set(suite.judged)
    if asking and not asked.judge:
        number = counted(len(asking), "prompt")
        raise UsageError(
            f"{path}: {number} with a question for a judge ({sorted(asking)[0]}, ...); give one with --judge"
        )
    if asked.judge and not asking:
        raise UsageError(f"--judge has no effect: no prompt of {path} asks a judge; leave it out")
    ask = ask_by(_judge(asked.judge)) if asked.judge else None

    def run(opened: OpenRun, sides: Any, sampling: Any, progress: Any) -> Any:
        from pacos.evaluation.suites.run import run_cases

        grade = regression.grader(suite, ask)
        rows = run_cases(sides[0], sides[1], cases, opened.renderer, grade, sampling=sampling, on_progress=progress)
        untold = [row.id for row in rows if not row.counts_for("passed_share")]
        return rows, {"left out, for a check could not be told": ", ".join(untold)} if untold else {}

    return Plan(suite.name, measures.REGRESSION, (measures.PASSED,), str(path), run)


def _judge(spec: str) -> Callable[[Sequence[str]], Sequence[str]]:
    from pacos.cli.compare_judge import Judge as Judging
    from pacos.cli.compare_judge import open_judge
    from pacos.evaluation.pairwise import Spending

    teacher, options = open_judge(spec, None, max_tokens=JUDGE_TOKENS, requests=None, dollars=None)
    return Judging(teacher, options, Spending()).complete


def _latency(asked: Asked, opened: OpenRun, sides: Any, sampling: Any, progress: Any) -> Any:
    from pacos.cli.eval import sample
    from pacos.data import load_examples
    from pacos.evaluation.suites.cases import Case
    from pacos.evaluation.suites.latency import run_latency

    assert opened.folder is not None
    rows = sample(load_examples(opened.folder / "test.jsonl").examples, asked.limit or LATENCY_PROMPTS, asked.seed)
    cases = [Case(row.id, row.instruction, row.input, row.system) for row in rows]
    if len(cases) < 2:
        raise DataError(f"{opened.folder}: the run held out {len(cases)} test rows; latency needs at least 2")
    timed = run_latency(sides[0], sides[1], cases, opened.renderer, sampling=sampling, on_progress=progress)
    return timed, {
        "device": str(opened.network.device),
        "one request at a time, new tokens at most": sampling.max_new_tokens,
    }


def _memorization(asked: Asked, opened: OpenRun, sides: Any, sampling: Any, progress: Any) -> Any:
    from pacos.evaluation.suites.memorization import SHORTEST, cut_row, facts_of, run_memorization

    limit, shortest = asked.limit or MEMORIZATION_ROWS, asked.min_answer or SHORTEST
    prefixes, skipped = [], {}
    for name, side in (("train", "training row"), ("test", "unseen row")):
        rows = _rows(opened, name, limit, asked.seed)
        rendered = opened.renderer.render_examples(rows, opened.network.max_length)
        stop_ids = frozenset(opened.renderer.stop_ids)
        cut = [cut_row(row, ids, side, stop_ids, shortest) for row, ids in zip(rows, rendered, strict=True)]  # type: ignore[arg-type]
        prefixes += [prefix for prefix in cut if prefix is not None]
        skipped[f"{side}s"] = f"{cut.count(None)} of {len(cut)}"
    if not prefixes:
        raise DataError(
            f"no row has an answer of {shortest} tokens or more, half of which could be completed; give --min-answer"
        )
    found = run_memorization(sides[0], sides[1], prefixes, opened.renderer, sampling=sampling, on_progress=progress)
    return found, facts_of(found, skipped, shortest)


def _rows(opened: OpenRun, side: str, limit: int, seed: int) -> list[Any]:
    """Rows of one side of the run's split. Raises DataError where the training data is no longer what it was."""
    from pacos.cli.eval import sample
    from pacos.data import load_examples, load_split

    assert opened.folder is not None
    if side == "test":
        return sample(load_examples(opened.folder / "test.jsonl").examples, limit, seed)
    path = opened.record.data.path
    ids = set(load_split(opened.folder / "split.json").train)
    rows = [row for row in load_examples(path, skip_bad=True).examples if row.id in ids]
    if not rows:
        raise DataError(f"{path}: holds none of the {len(ids)} rows that the run was trained on; put the file back")
    return sample(rows, limit, seed)


def _some(cases: list[Any], asked: Asked) -> list[Any]:
    """The cases that --limit leaves, chosen by hash."""
    from pacos.cli.eval import sample

    return cases if asked.limit is None else sample(cases, asked.limit, asked.seed)
