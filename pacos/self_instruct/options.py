"""Every option of `pacos generate`, once: the command line's flags and their help are made from these fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pacos.errors import UsageError
from pacos.self_instruct.filters import RULES
from pacos.self_instruct.rows import SEEDS
from pacos.self_instruct.wording import WAYS


class Options(BaseModel):
    """What is generated, by whom, and how much of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    out: Path = Field(Path("generated.jsonl"), description="the dataset, .json or .jsonl; its log is OUT.log.jsonl")
    count: int | None = Field(
        None, ge=1, description="rows wanted; 100 where not given, all with --evolve and --answer"
    )
    seeds: str = Field(SEEDS, description=f"seed tasks: `{SEEDS}` are the 175 that come along; or a dataset")
    teacher: tuple[str, ...] = Field(
        (),
        description="who writes: MODEL (at OPENAI_BASE_URL), MODEL@URL or @URL, with ,key=ENVIRONMENT_VARIABLE "
        ",in_flight=N ,price_in=X ,price_out=X ,api=completions behind it; may be given more than once",
    )
    local: str = Field("", description="who writes: a model on this machine, by name, or a run")
    tasks: int = Field(20, ge=1, le=200, description="new tasks a request; 1 asks for one at a time")
    examples: int = Field(3, ge=0, description="seeds shown in a request")
    family: int = Field(
        5,
        ge=0,
        description="seeds that only stand with each other, so that splits can divide the rows; 0: any with any",
    )
    domain: tuple[str, ...] = Field((), description="subject of the tasks; several take turns")
    prompt: Path | None = Field(None, description="text of the requests in place of the packaged one (see --dry-run)")
    evolve: str = Field("", description="make the rows of this dataset harder, deeper and rephrased")
    way: tuple[Literal["harder", "deeper", "rephrased"], ...] = Field(
        (), description=f"with --evolve: only so; {', '.join(WAYS)}"
    )
    answer: str = Field("", description="only answer the instructions in this file (.txt: one a line)")
    without: tuple[str, ...] = Field((), description=f"switch off a rule: {', '.join(RULES)}")
    similar: float = Field(
        0.7, gt=0, le=1, description="reject what has a ROUGE-L F over this to a seed or an accepted row; 1 keeps all"
    )
    temperature: float = Field(1.0, ge=0, description="of the teacher")
    top_p: float = Field(1.0, gt=0, le=1, description="of the teacher")
    max_tokens: int = Field(3072, ge=1, description="longest answer, in tokens")
    in_flight: int = Field(8, ge=1, description="requests under way at once, to each teacher")
    timeout: float = Field(120.0, gt=0, description="seconds that an answer may take")
    retries: int = Field(
        5, ge=0, description="tries after the first, of a request; and failures in a row until a teacher is given up"
    )
    budget_requests: int | None = Field(None, ge=1, description="requests sent at most, over all runs of a log")
    budget_tokens: int | None = Field(None, ge=1, description="tokens at most, prompts and answers together")
    budget_dollars: float | None = Field(None, gt=0, description="dollars at most, by the prices given")
    price_in: float = Field(0.0, ge=0, description="dollars for a million tokens of prompts")
    price_out: float = Field(0.0, ge=0, description="dollars for a million tokens of answers")
    barren: int = Field(20, ge=1, description="end after this many answers in a row without an accepted row")
    seed: int = Field(0, ge=0, description="seed of the choice of seed tasks, and of what a local model draws")
    resume: bool = Field(True, description="go on where the log ends; --no-resume refuses a log that is there")
    preview: int = Field(0, ge=0, description="generate and filter N tasks, show them, keep nothing")
    check_teacher: bool = Field(False, description="ask each teacher one question, and say how fast it answers")
    dry_run: bool = Field(False, description="show the first request and what it may cost; send nothing")
    batch_out: Path | None = Field(None, description="write requests in OpenAI's batch format in place of sending them")
    batch_requests: int | None = Field(
        None, ge=1, description="with --batch-out: requests written; COUNT / TASKS if not given"
    )
    batch_in: tuple[Path, ...] = Field((), description="read results of a batch; may be given more than once")
    template: str = Field("chat", description="with --local: prompt format of a bare model: chat, alpaca, phi3, plain")
    batch_size: int = Field(8, ge=1, description="with --local: answers written at once")
    as_json: bool = Field(False, alias="json", description="print the result as JSON")

    @property
    def mode(self) -> str:
        return "evolve" if self.evolve else "answer" if self.answer else "tasks"

    @property
    def log_path(self) -> Path:
        return self.out.with_name(f"{self.out.name}.log.jsonl")

    def refuse_idle(self) -> None:
        """Raises UsageError for options that would have no effect beside each other."""
        given = self.model_fields_set
        stops = [
            name for name in ("preview", "check_teacher", "dry_run", "batch_out", "batch_in") if getattr(self, name)
        ]
        wrong = [f"{flag(name)} and {flag(stops[0])}: give one of them" for name in stops[1:]]
        idle: dict[str, Any] = {
            "evolve": ("tasks", "examples", "family", "domain", "seeds", "answer"),
            "answer": ("tasks", "examples", "family", "domain", "seeds", "similar", "without"),
            "tasks": ("way",),
        }
        wrong += [f"{flag(name)} has no effect {_beside(self.mode)}" for name in idle[self.mode] if name in given]
        if self.local == "":
            wrong += [f"{flag(n)} has no effect without --local" for n in ("template", "batch_size") if n in given]
        if self.batch_out is None and "batch_requests" in given:
            wrong.append("--batch-requests has no effect without --batch-out")
        if wrong:
            raise UsageError("\n".join(wrong))


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _beside(mode: str) -> str:
    return {"tasks": "without --evolve"}.get(mode, f"beside --{mode}")
