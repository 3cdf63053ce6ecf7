"""`pacos compare`: blind pairwise comparison, by people or by a judge model.

`pacos compare A B --prompts FILE` is `pacos compare blind A B ...`. The same command goes on where it was left.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pacos.cli.compare_files import read, write
from pacos.cli.compare_raters import Asked
from pacos.cli.compare_setup import Setup, prepared
from pacos.cli.compare_show import print_told, refuse_existing, write_page
from pacos.cli.eval import FirstUnlessNamed
from pacos.cli.eval_ledger import AsJson, Workspace
from pacos.cli.show import out, print_table, safe, say
from pacos.errors import UndecidedError
from pacos.workspace import find_workspace

if TYPE_CHECKING:
    from pacos.evaluation.pairwise import Comparisons

app = typer.Typer(
    help="Blind comparison of two or more models' answers: `pacos compare A B --prompts FILE`.",
    cls=FirstUnlessNamed,
    rich_markup_mode=None,
)
Number = Annotated[int, typer.Argument(help="number of a comparison, from pacos compare list")]
Rater = Annotated[str | None, typer.Option(help="name of who votes; the user of this machine where not given")]
JudgeBy = Annotated[
    str | None,
    typer.Option("--judge", help="ask a model in place of a person: MODEL, MODEL@URL; as --teacher of pacos generate"),
]
JudgeLocal = Annotated[str | None, typer.Option(help="the same, by a model or a run of this machine")]
JudgeTokens = Annotated[int, typer.Option(help="longest answer of a judge, in tokens", min=1)]
BudgetRequests = Annotated[int | None, typer.Option(help="requests to the judge at most, over all runs", min=1)]
BudgetDollars = Annotated[float | None, typer.Option(help="dollars at most, by price_in and price_out of --judge")]
LIST_HEADER = ("number", "created", "contestants", "questions", "votes")


@app.command("blind")
def run(
    contestants: Annotated[
        list[str],
        typer.Argument(help="two or more: a run, a base model, a file of answers, an evaluation (12, or 12:base)"),
    ],
    prompts: Annotated[
        str | None, typer.Option(help="rows or instructions; those of the first contestant's answers where not given")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="prompts at most, chosen by hash", min=1)] = None,
    seed: Annotated[int, typer.Option(help="seed of order and sides, and of what is drawn", min=0)] = 0,
    repeats: Annotated[float, typer.Option(help="share of hidden repeats with sides swapped", min=0, max=1)] = 0.1,
    cluster: Annotated[
        str | None, typer.Option(help="column whose equal values mean related prompts; one lineage if not given")
    ] = None,
    template: Annotated[str, typer.Option(help="prompt format of a base model: chat, alpaca, phi3, plain")] = "chat",
    max_new_tokens: Annotated[int, typer.Option(help="longest answer of a contestant, in tokens", min=1)] = 512,
    temperature: Annotated[float, typer.Option(help="of the contestants; 0 takes the likeliest token", min=0)] = 0.0,
    batch_size: Annotated[int, typer.Option(help="answers written at once", min=1)] = 16,
    judge: JudgeBy = None,
    judge_local: JudgeLocal = None,
    judge_tokens: JudgeTokens = 1024,
    budget_requests: BudgetRequests = None,
    budget_dollars: BudgetDollars = None,
    rater: Rater = None,
    prepare: Annotated[bool, typer.Option("--prepare", help="write the answers and the questions; ask nobody")] = False,
    workspace: Workspace = None,
    as_json: AsJson = False,
) -> None:
    """Answers of two or more models to the same prompts, side by side, without names; the win rate at the end."""
    from pacos.cli.compare_sources import Writing
    from pacos.evaluation.pairwise import open_comparisons

    writing = Writing(template, max_new_tokens, temperature, seed, batch_size)
    setup = Setup(tuple(contestants), prompts, limit, seed, repeats, cluster, writing)
    asked = Asked(rater, judge, judge_local, judge_tokens, budget_requests, budget_dollars)
    with open_comparisons(find_workspace(workspace)) as store:
        number = prepared(store, setup)
        if prepare:
            print(json.dumps({"comparison": number})) if as_json else out().print(f"comparison {number} is ready")
        else:
            vote_and_tell(asked, store, number, as_json)


@app.command("vote")
def vote(
    number: Number,
    rater: Rater = None,
    judge: JudgeBy = None,
    judge_local: JudgeLocal = None,
    judge_tokens: JudgeTokens = 1024,
    budget_requests: BudgetRequests = None,
    budget_dollars: BudgetDollars = None,
    workspace: Workspace = None,
    as_json: AsJson = False,
) -> None:
    """Go on voting in a comparison, or let another rater or a judge vote too."""
    from pacos.evaluation.pairwise import open_comparisons

    with open_comparisons(find_workspace(workspace), to_read=True) as store:
        store.get(number)
        asked = Asked(rater, judge, judge_local, judge_tokens, budget_requests, budget_dollars)
        vote_and_tell(asked, store, number, as_json)


@app.command("result")
def result(
    number: Number,
    unblind: Annotated[bool, typer.Option("--unblind", help="also while somebody has questions left")] = False,
    page: Annotated[Path | None, typer.Option("--out", help="write it as a page too (HTML)")] = None,
    workspace: Workspace = None,
    as_json: AsJson = False,
) -> None:
    """Win rates with intervals, biases, agreement; ratings for three or more."""
    from pacos.evaluation.pairwise import open_comparisons

    refuse_existing(page)
    with open_comparisons(find_workspace(workspace), to_read=True) as store:
        store.get(number)
        if not unblind:
            refuse_unfinished(store, number)
        tell(store, number, as_json, page)


@app.command("list")
def list_comparisons(workspace: Workspace = None, as_json: AsJson = False) -> None:
    """Every comparison of the workspace, the newest first, with who has voted how often."""
    from pacos.evaluation.pairwise import open_comparisons

    with open_comparisons(find_workspace(workspace), to_read=True) as store:
        found = [(c, num_asked(store, c.id), votes_by_rater(store, c.id)) for c in store.all()]
    if as_json:
        keys = ("id", "created", "contestants", "prompts", "seed")
        print(json.dumps([{**{k: getattr(c, k) for k in keys}, "questions": n, "votes": v} for c, n, v in found]))
        return
    rows = [
        (str(c.id), c.created[:16].replace("T", " "), safe(" / ".join(c.contestants)), f"{n:,}",
         ", ".join(f"{safe(rater)} {count:,}" for rater, count in votes.items()) or "none")
        for c, n, votes in found
    ]  # fmt: skip
    if rows:
        print_table(out(), LIST_HEADER, rows)
    else:
        say("no comparisons yet; make one with: pacos compare A B --prompts FILE")


app.command("read")(read)
app.command("write")(write)


def vote_and_tell(asked: Asked, store: Comparisons, number: int, as_json: bool) -> None:
    """Vote, and where all is answered tell the result."""
    if asked.vote(store, number):
        tell(store, number, as_json)


def num_asked(store: Comparisons, number: int) -> int:
    """Questions that are put to a person."""
    return sum(not question.same for question in store.questions(number))


def votes_by_rater(store: Comparisons, number: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in store.votes(number):
        counts[each.rater] = counts.get(each.rater, 0) + 1
    return counts


def refuse_unfinished(store: Comparisons, number: int) -> None:
    """Names stay hidden while somebody has questions left. Raises UndecidedError."""
    from pacos.evaluation.pairwise import standing

    if left := standing(store, number):
        raise UndecidedError(
            f"comparison {number}: {'; '.join(left)}; go on with: pacos compare vote {number}, "
            "or see names and figures now: --unblind"
        )


def tell(store: Comparisons, number: int, as_json: bool, page: Path | None = None) -> None:
    """The result, with the names. Raises UndecidedError where no vote says anything."""
    from pacos.evaluation.pairwise import told_of

    told = told_of(store, number)
    if not num_asked(store, number):
        raise UndecidedError(
            f"comparison {number}: all answers are the same, prompt by prompt; there is nothing to ask"
        )
    if not told.result.pairs:
        unparsable = told.result.unparsable
        unread = f"; {unparsable:,} verdicts could not be read" if unparsable else ""
        raise UndecidedError(
            f"comparison {number}: no vote says anything yet{unread}; vote with: pacos compare vote {number}"
        )
    if page is not None:
        write_page(told, page)
    print_told(told, as_json)
