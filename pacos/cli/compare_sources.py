"""Who is compared: a file of answers, an evaluation in the ledger, a run, or a base model by its name.

answers.json       the rows' outputs, matched to the prompts by instruction and input; named after `generator`
12, 12:base        evaluation 12 of `pacos eval list`: its tuned side, or the side named
runs/quickstart    a run, by folder or name: its answers are written now
anything else      a base model: a hub id, a folder, a .gguf file
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pacos.cli.compare_prompts import Key, as_prompt, keys_of
from pacos.cli.show import bar, note, say
from pacos.errors import DataError, UsageError

if TYPE_CHECKING:
    from pacos.data import Example
    from pacos.evaluation.ledger import Column, Ledger, Prompt, Subject, Written


@dataclass(frozen=True)
class Writing:
    """How models write their answers."""

    template: str
    max_new_tokens: int
    temperature: float
    seed: int
    batch_size: int


@dataclass(frozen=True)
class Source:
    """One contestant. `identity` names its answers; `kept` are those that are there already, None where it must write."""

    spec: str
    name: str
    identity: str
    subject: Subject
    kept: dict[Key, tuple[Prompt, Written]] | None = None
    run: Path | None = None


def open_source(spec: str, ledger: Ledger) -> Source:
    """What a word on the command line stands for. Raises UsageError, DataError."""
    from pacos.cli.session import find_run
    from pacos.data.raw import SUFFIXES
    from pacos.evaluation.ledger import read_column
    from pacos.training.record import FILE

    path = Path(spec).expanduser()
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        return _from_file(spec)
    if (column := read_column(spec)) and not path.exists():
        return _from_ledger(ledger, column)
    folder = find_run(spec)
    if (folder / FILE).is_file():
        return _from_run(spec, folder)
    if path.suffix.lower() in SUFFIXES:
        raise UsageError(f"{spec}: no such file of answers")
    if path.is_dir() and (path / "adapter_config.json").is_file():
        raise UsageError(
            f"{spec}: an adapter that pacos did not train (no {FILE}); give a run, or a file of its answers"
        )
    return _from_base(spec)


def _from_file(spec: str) -> Source:
    from pacos.cli.eval_files import data_sha256
    from pacos.data import load_examples
    from pacos.evaluation.ledger import Subject, Written

    examples = load_examples(spec, keep_blank=True).examples
    generators = {str(example.extra.get("generator", "")) for example in examples}
    name = generators.pop() if len(generators) == 1 else ""
    name = name or Path(spec).stem
    prompts = [as_prompt(example) for example in examples]
    kept = dict(zip(keys_of(prompts), zip(prompts, [Written(e.output) for e in examples], strict=True), strict=True))
    digest = data_sha256(spec)
    return Source(spec, name, f"file {digest}", Subject(name, spec, weights_sha256=digest), kept)


def _from_ledger(ledger: Ledger, column: Column) -> Source:
    from pacos.evaluation.ledger import entry_with

    entry = entry_with(ledger, column)
    number, side = column
    prompts, answers = ledger.prompts(number), ledger.answers(number, side)
    kept = dict(zip(keys_of(prompts), zip(prompts, answers, strict=True), strict=True))
    subject = entry.sides[side]
    return Source(str(column), subject.name, f"evaluation {number} {side} {entry.created}", subject, kept)


def _from_run(spec: str, folder: Path) -> Source:
    from pacos.cli.eval_files import adapter_sha256, contract_sha256
    from pacos.evaluation.ledger import Subject
    from pacos.training import read_record

    record = read_record(folder)
    subject = Subject(
        folder.name,
        record.base.name,
        record.base.revision or "",
        record.base.weights_sha256,
        str(folder),
        adapter_sha256(folder),
        contract_sha256(record.contract),
    )
    return Source(spec, folder.name, f"run {subject.adapter_sha256} {subject.weights_sha256}", subject, run=folder)


def _from_base(spec: str) -> Source:
    from pacos.evaluation.ledger import Subject

    return Source(spec, spec.rstrip("/").rpartition("/")[2] or spec, f"base {spec}", Subject(spec, spec))


def answers_of(source: Source, prompts: Sequence[Prompt], examples: Sequence[Example], writing: Writing) -> list[Any]:
    """An answer to each prompt, None where the source has none: what is kept, or what its model writes now."""
    if source.kept is not None:
        return [found[1] if (found := source.kept.get(key)) else None for key in keys_of(prompts)]
    return write_answers(source, examples, writing)


def write_answers(source: Source, examples: Sequence[Example], writing: Writing) -> list[Written]:
    """The model's answers. Raises DataError for prompts that a run was trained on."""
    from pacos.cli.session import open_base, open_run
    from pacos.evaluation.ledger import Written
    from pacos.inference import Engine, Sampling

    if source.run is not None:
        refuse_trained(source, examples)
        opened = open_run(source.run)
    else:
        opened = open_base(source.spec, template=writing.template)
    engine = Engine(opened.network, opened.renderer.stop_ids, slots=writing.batch_size)
    prompts = opened.renderer.render_prompts(examples)
    sampling = Sampling(writing.max_new_tokens, writing.temperature, seed=writing.seed)
    done = 0

    def count(*_: Any) -> None:
        nonlocal done
        done += 1
        shown.update(done, len(prompts))

    with bar(f"{source.name} answers") as shown:
        completions = engine.generate(prompts, sampling, on_done=count)
    return [
        Written(
            text=opened.renderer.decode(made.ids).strip(),
            prompt_ids=tuple(prompt),
            ids=tuple(made.ids),
            finish_reason=made.finish_reason,
            tokens=len(made.ids),
            generated_tokens=made.generated_tokens,
            seconds=made.prompt_seconds + made.seconds,
        )
        for prompt, made in zip(prompts, completions, strict=True)
    ]


def refuse_trained(source: Source, examples: Sequence[Example]) -> None:
    from pacos.cli.eval import trained_line
    from pacos.data import find_trained, load_split

    assert source.run is not None
    trained = find_trained(load_split(source.run / "split.json"), examples)
    if trained:
        raise DataError(
            f"{source.spec}: was trained on {len(trained)} of the {len(examples)} prompts, exactly or nearly; an answer "
            "to them means nothing.\n  Give prompts that it has not seen",
            [trained_line(found) for found in trained],
        )


def named(sources: Sequence[Source]) -> list[str]:
    """A name for each that no other has. Raises UsageError where the same answers are given twice."""
    for number, source in enumerate(sources):
        if any(source.identity == other.identity for other in sources[:number]):
            raise UsageError(f"{source.spec}: is given twice; compare it with another")
    names = [source.name for source in sources]
    return [source.name if names.count(source.name) == 1 else f"{source.name} ({source.spec})" for source in sources]


def leave_unanswered_out(columns: list[list[Any]], names: Sequence[str], total: int) -> list[int]:
    """Positions of the prompts that all have answered; says how many the others are. Raises DataError for none."""
    kept = [i for i in range(total) if all(column[i] is not None for column in columns)]
    missing = {name: sum(answer is None for answer in column) for name, column in zip(names, columns, strict=True)}
    told = ", ".join(f"{name} lacks {count}" for name, count in missing.items() if count)
    if not kept:
        raise DataError(f"no prompt of {total} is answered by all: {told}; give answers to the same prompts")
    if told:
        note(f"{total - len(kept)} of {total} prompts are left out, as not all have an answer: {told}")
    say(f"{len(kept)} prompts, {len(names)} contestants")
    return kept
