"""`pacos generate`: instruction data from seeds and a teacher, by Self-Instruct as Alpaca did it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pacos.cli.flags import verb
from pacos.cli.generate_looks import check_teachers, show_request
from pacos.cli.generate_plan import Plan, books_of
from pacos.cli.generate_table import Shown, as_line, print_tasks, summary, table
from pacos.cli.show import note, out, safe, say
from pacos.cli.teachers import open_endpoint, open_teachers
from pacos.errors import GateError, UsageError, UserError
from pacos.self_instruct.options import Options

if TYPE_CHECKING:
    from pacos.self_instruct.answers import Teacher
    from pacos.self_instruct.books import Books
    from pacos.self_instruct.log import Log
    from pacos.self_instruct.loop import Ending, Generation, Progress


PREVIEW_BARREN = 3
"""Answers without a row in a row that end a preview."""
PREVIEW_CHARACTERS = 600


def generate(options: Options) -> None:
    """Generate instruction data: seed tasks -> a teacher's new tasks -> filters and novelty -> a dataset.

    The teacher is any OpenAI-compatible endpoint, or a model on this machine. Every request is in a log beside the
    dataset; the same command goes on where it was stopped. See docs/generate.md.
    """
    options.refuse_idle()
    if options.check_teacher:
        check_teachers(open_teachers(options), options.as_json)
    elif options.dry_run:
        show_request(Plan.of(options), options)
    elif options.preview:
        preview(options)
    else:
        with opened_log(options, plan := Plan.of(options)) as log:
            generate_into(log, plan, options)


command = verb(Options, generate)


@contextmanager
def opened_log(options: Options, plan: Plan) -> Iterator[Log]:
    """The log of the run; one in which nothing was asked is not left behind. Raises UsageError where the dataset that is
    there has none, or it is in use."""
    from pacos.self_instruct import Log

    path = options.log_path
    if options.out.suffix not in (".json", ".jsonl"):
        raise UsageError(f"--out {options.out}: datasets are written as .json or .jsonl")
    if options.out.exists() and not path.exists():
        raise UsageError(f"{options.out}: exists, and is not of `pacos generate` (it has no log); give another --out")
    if path.exists() and not options.resume:
        raise UsageError(f"{path}: exists; leave --no-resume away to go on with it, or give another --out")
    log = Log(path, plan.settings)
    try:
        yield log
    finally:
        if log.is_bare:
            path.unlink()
        log.close()


def generate_into(log: Log, plan: Plan, options: Options) -> None:
    """Ask until there are rows enough, and write the dataset. Raises UserError where it ended before."""
    books = books_of(log, plan, options)
    refuse_changed(books, options.out)
    if books.pool.accepted:
        say(f"{log.path}: going on with {len(books.pool.accepted):,} rows from {len(books.done):,} requests")
    if options.batch_out:
        write_requests(options.batch_out, books, plan, options)
        return
    if options.batch_in:
        ending, progress = read_results(books, plan, options)
        code = 0
    else:
        ending, progress, code = asked(books, plan, options)
    rows = write_dataset(books, plan.count, options.out)
    report(progress, ending, options, rows)
    if code:
        raise typer.Exit(code)
    refuse_ending(ending, progress, options)
    if options.batch_in:
        refuse_missing(books, progress, options)


def asked(
    books: Books, plan: Plan, options: Options, stop: Callable[[], bool] = lambda: False
) -> tuple[Ending, Progress, int]:
    """Run the loop with a table; the exit code where a signal ended it."""
    from pacos.cli.interrupt import interruptible

    if plan.count is not None and len(books.pool.accepted) >= plan.count:
        loop = loop_of(books, plan, options, [])
        return "enough", loop.progress(), 0
    teachers = open_teachers(options)
    with interruptible() as signal, table() as shown:
        loop = loop_of(books, plan, options, teachers, stop=lambda: signal.to_stop or stop(), shown=shown)
        ending = asyncio.run(loop.run())
        return ending, loop.progress(), signal.exit_code if signal.to_stop and ending == "stopped" else 0


def loop_of(
    books: Books,
    plan: Plan,
    options: Options,
    teachers: Sequence[Teacher],
    stop: Callable[[], bool] = lambda: False,
    shown: Shown | None = None,
) -> Generation:
    from pacos.self_instruct import Course, Generation

    course = Course(plan.count, options.retries, options.barren)
    on_change = shown.update if shown else lambda progress: None
    return Generation(
        plan.requests, teachers, books, course, stop=stop, on_change=on_change, on_note=lambda text: note(safe(text))
    )


def write_dataset(books: Books, count: int | None, path: Path) -> int:
    """The first `count` rows of the log as a dataset, whole or not at all; how many they are."""
    from pacos.data import write_examples

    rows = books.pool.accepted[:count]
    if rows:
        write_examples(rows, path)
    return len(rows)


def refuse_changed(books: Books, path: Path) -> None:
    """Raises UsageError where the dataset is not as it was written: it would be written anew from the log."""
    from pacos.data.writers import dataset_text

    if not path.exists():
        return
    there = path.read_bytes()
    rows = there.count(b"\n") - (2 if path.suffix == ".json" else 0)
    if dataset_text(books.pool.accepted[: max(0, rows)], path).encode() != there:
        raise UsageError(
            f"{path}: was changed since it was written from its log, and would be written anew; rename it, or give another --out"
        )


def report(progress: Progress, ending: str, options: Options, rows: int) -> None:
    if options.as_json:
        print(json.dumps({"out": str(options.out), "rows": rows, **summary(progress, ending)}))
        return
    out().print(as_line(progress), markup=False)
    if rows:
        out().print(f"{rows:,} rows in {options.out}; the log: {options.log_path}", markup=False)


def refuse_ending(ending: Ending, progress: Progress, options: Options) -> None:
    """Raises what the command ends with, where the rows asked for are not there."""
    missing = f"{progress.accepted:,} of {progress.wanted:,} rows" if progress.wanted else f"{progress.accepted:,} rows"
    if ending == "budget":
        raise GateError(f"the budget is used up, at {missing}; raise it to go on")
    if ending == "teachers":
        raise UserError(f"no teacher answers any more, at {missing}; the same command goes on from there")
    if ending == "unanswered":
        raise UserError(
            f"some requests were refused or failed too often, at {missing}; the same command asks them again"
        )
    if ending == "barren":
        raise UserError(
            f"{options.barren} answers in a row brought no row, at {missing}; "
            "look at the answers in the log, try --preview 10, or another teacher"
        )


def refuse_missing(books: Books, progress: Progress, options: Options) -> None:
    """Raises UserError where results of batches do not make the rows asked for; says what may still bring them."""
    if not progress.wanted or progress.accepted >= progress.wanted:
        return
    waiting = sum(bool(record.get("batch")) for record in books.log.history.open.values())
    out_there = f"; {waiting:,} of the requests in batch files have no result yet" if waiting else ""
    raise UserError(
        f"{progress.accepted:,} of {progress.wanted:,} rows are there, {progress.wanted - progress.accepted:,} missing"
        f"{out_there}; ask for the rest with --batch-out, or of a --teacher (without --batch-in)"
    )


def preview(options: Options) -> None:
    """--preview N: N tasks, accepted or not, are shown, and nothing is kept."""
    from pacos.self_instruct import Unlogged

    count, barren = options.preview, min(PREVIEW_BARREN, options.barren)
    chosen = options.model_copy(update={"tasks": min(count, options.tasks), "count": count, "barren": barren})
    plan = Plan.of(chosen)
    log = Unlogged()

    def tasks() -> list[dict[str, Any]]:
        return [task for record in log.answered for task in record["tasks"]][:count]

    ending, progress, code = asked(books_of(log, plan, chosen), plan, chosen, lambda: len(tasks()) >= count)
    if options.as_json:
        print(json.dumps(tasks()))
    else:
        print_tasks(tasks())
    if not tasks() and log.answered:
        note(f"no task in the answer: {safe(log.answered[0]['answer'])[:PREVIEW_CHARACTERS]}")
    if code:
        raise typer.Exit(code)
    if len(tasks()) < count:
        refuse_ending(ending, progress, chosen)


def write_requests(path: Path, books: Books, plan: Plan, options: Options) -> None:
    """--batch-out: the next requests as a file."""
    from pacos.self_instruct import write_batch

    if len(options.teacher) != 1:
        raise UsageError("--batch-out needs one --teacher: the model that is to answer")
    teacher = open_endpoint(options.teacher[0], options)
    loop = loop_of(books, plan, options, [])
    missing = max(0, (loop.wanted or 0) - len(books.pool.accepted))
    number = options.batch_requests or -(-missing // plan.requests.num_tasks)
    written = write_batch(path, loop.numbers, number, books, teacher)
    if not written:
        raise GateError("no request was written: " + ("the budget has no room for one" if number else "none is left"))
    if options.as_json:
        print(json.dumps({"batch": str(path), "requests": written}))
    else:
        out().print(
            f"{written:,} requests in {path}; read what comes back with: pacos generate --out {options.out} --batch-in FILE",
            markup=False,
        )


def read_results(books: Books, plan: Plan, options: Options) -> tuple[Ending, Progress]:
    """--batch-in: settle what came back."""
    from pacos.self_instruct import read_batch

    counts = read_batch(options.batch_in, plan.requests, books)
    say(", ".join(f"{number:,} {what}" for what, number in sorted(counts.items())) or "the files hold no results")
    return "all", loop_of(books, plan, options, []).progress()
