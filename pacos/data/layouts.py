"""Raw rows -> examples: which columns hold the instruction, the material and the answer.

A layout is what a row must have, and how it is read:

    alpaca               instruction [input | context] output | response     [system] [history]
    messages, sharegpt   [{"role", "content"}, ...] or [{"from", "value"}, ...]; the last answer is the output
    seed tasks           instruction, instances: [{"input", "output"}]
    transcript           "### Human: ... ### Assistant: ..." in one text, with or without a separate output
    prompt/completion    prompt, completion | response | output | answer
    question/answer      question [context] answer | response | output

Columns that a layout does not use stay in `Example.extra`. What is wrong with a row is appended to `wrong`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pacos.data.fields import (
    CONVERSATIONS,
    OUTPUTS,
    Row,
    kind_of,
    optional_text,
    required_text,
    text_of,
    text_problem,
    unfold,
)
from pacos.data.records import Example, Message
from pacos.errors import DataError, did_you_mean

ROLES = {
    "system": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
}  # fmt: skip
_MARK = re.compile(r"###\s*(Human|Assistant)\s*:")


@dataclass(frozen=True)
class Layout:
    """How the rows of one file are read. `columns` are the file's own names for instruction, input and output."""

    name: str
    read: Callable[[Row, str, Layout, list[str]], list[Example]]
    columns: tuple[str, ...]


def detect_layout(rows: Iterable[Any], path: str) -> Layout:
    """The layout that most of `rows` fit. Raises DataError naming the columns where none does."""
    rows = [row for row in rows if isinstance(row, Mapping)]
    found = Counter(layout for row in rows if (layout := layout_of(row)))
    if found:
        return found.most_common(1)[0][0]
    columns = list(dict.fromkeys(str(key) for row in rows for key in row))
    known = ("instruction", "prompt", "question", "output", *CONVERSATIONS)
    hints = [f"'{column}'{hint}" for column in columns if column not in known and (hint := did_you_mean(column, known))]
    raise DataError(
        f"{path}: no layout fits the columns {', '.join(columns) or '(none)'}"
        + (f" ({', '.join(hints)})" if hints else "")
        + "; rename them to instruction, input, output; or messages; or prompt, completion; or question, answer"
    )


def layout_of(row: Row) -> Layout | None:
    """The first layout that has all its columns in `row`."""
    names = {key.strip().lower(): key for key in row if isinstance(key, str)}
    for key in CONVERSATIONS:
        if key in names:
            turns = row[names[key]]
            first = turns[0] if isinstance(turns, list) and turns else {}
            name = "sharegpt" if isinstance(first, Mapping) and "from" in first else "messages"
            return Layout(name, _read_conversation, (names[key],))
    if {"instruction", "instances"} <= names.keys():
        return Layout("seed tasks", _read_seed_task, (names["instruction"], names["instances"]))
    for key in ("input", "text", "prompt"):
        text = row[names[key]] if key in names and "instruction" not in names else None
        if isinstance(text, str) and _MARK.match(text.lstrip()):
            return Layout("transcript", _read_transcript, (names[key], _first(names, OUTPUTS)))
    if {"prompt", "completion"} <= names.keys() and isinstance(row[names["prompt"]], list):
        return Layout("messages", _read_conversation, (names["prompt"], names["completion"]))
    return _flat_layout(names)


def _flat_layout(names: Mapping[str, str]) -> Layout | None:
    for name, instruction, inputs in (
        ("alpaca", "instruction", ("input", "context")),
        ("prompt/completion", "prompt", ()),
        ("question/answer", "question", ("context",)),
        ("question/answer", "query", ("context",)),
        ("input/output", "input", ()),
    ):
        if instruction in names and (output := _first(names, OUTPUTS)):
            return Layout(name, _read_flat, (names[instruction], _first(names, inputs), output))
    return None


def _first(names: Mapping[str, str], wanted: tuple[str, ...]) -> str:
    return next((names[name] for name in wanted if name in names), "")


def _read_flat(row: Row, source: str, layout: Layout, wrong: list[str]) -> list[Example]:
    instruction, material, output = layout.columns
    values = {
        "instruction": required_text(row, instruction, wrong),
        "input": optional_text(row, material, wrong) if material else "",
        "output": text_of(row, output, wrong),
        "system": optional_text(row, "system", wrong),
        "history": _history(row, wrong),
    }
    used = {*layout.columns, "system", *(["history"] if isinstance(row.get("history"), list) else [])}
    return [] if wrong else [_example(row, source, used, **values)]


def _read_seed_task(row: Row, source: str, layout: Layout, wrong: list[str]) -> list[Example]:
    instruction, instances = required_text(row, layout.columns[0], wrong), row.get(layout.columns[1])
    if not isinstance(instances, list) or not instances or not all(isinstance(i, Mapping) for i in instances):
        wrong.append(f"'{layout.columns[1]}' is {kind_of(instances)}; give a list of {{input, output}}")
        return []
    name = str(row.get("id") or source)
    pairs = [(optional_text(one, "input", wrong), text_of(one, "output", wrong)) for one in instances]
    row = {"lineage": [name], **row}
    return [] if wrong else [
        _example(row, source, set(layout.columns), instruction=instruction, input=i, output=o) for i, o in pairs
    ]  # fmt: skip


def _read_transcript(row: Row, source: str, layout: Layout, wrong: list[str]) -> list[Example]:
    column, output = layout.columns
    text = required_text(row, column, wrong)
    if wrong:
        return []
    before, *parts = _MARK.split(text)
    turns = [("user" if who == "Human" else "assistant", what.strip()) for who, what in zip(parts[::2], parts[1::2])]  # noqa: B905
    if before.strip() or not turns:
        wrong.append(f"'{column}' does not start with '### Human:'")
        return []
    if output:
        turns = [*(turns[:-1] if turns[-1] == ("assistant", "") else turns), ("assistant", text_of(row, output, wrong))]
    return _from_turns(turns, row, source, {column, output}, wrong)


def _read_conversation(row: Row, source: str, layout: Layout, wrong: list[str]) -> list[Example]:
    turns: list[tuple[str, str]] = []
    for column in layout.columns:
        listed = row.get(column)
        if not isinstance(listed, list) or not listed:
            wrong.append(f"'{column}' is {kind_of(listed)}; give a list of turns")
            return []
        turns += [_turn(turn, n, wrong) for n, turn in enumerate(listed, len(turns) + 1)]
    if isinstance(row.get("system"), str) and row["system"] and turns[0][0] != "system":
        turns.insert(0, ("system", row["system"]))
    used = {*layout.columns, *(["system"] if isinstance(row.get("system"), str) else [])}
    return [] if wrong else _from_turns(turns, row, source, used, wrong)


def _turn(turn: Any, number: int, wrong: list[str]) -> tuple[str, str]:
    """(role, text) of one turn; what is wrong with it goes to `wrong` with the turn's number."""
    if not isinstance(turn, Mapping):
        wrong.append(f"turn {number} is {kind_of(turn)}; give an object with role and content")
        return "", ""
    role = turn.get("role", turn.get("from"))
    if not isinstance(role, str) or role.lower() not in ROLES:
        problem = f"has turns by {role!r}, a role that no template has (accepted: system, user, assistant)"
        wrong += [problem] if problem not in wrong else []
        return "", ""
    if turn.get("tool_calls"):
        wrong.append(f"turn {number} calls a tool, which no template has; give the answer as text")
    content = next((turn[key] for key in ("content", "value", "text") if key in turn), None)
    if isinstance(content, list):
        content = _joined_parts(content, number, wrong)
    return ROLES[role.lower()], text_of({f"turn {number}": content}, f"turn {number}", wrong)


def _joined_parts(parts: list[Any], number: int, wrong: list[str]) -> str:
    texts = []
    for part in parts:
        text = part.get("text", part.get("value")) if isinstance(part, Mapping) else part
        if isinstance(part, Mapping) and part.get("type", "text") != "text":
            wrong.append(f"turn {number} has a part of type {part['type']!r}; only text can be trained on")
        elif not isinstance(text, str):
            wrong.append(f"turn {number} has a part without text")
        else:
            texts.append(text)
    return "".join(texts)


def _from_turns(turns: list[tuple[str, str]], row: Row, source: str, used: set[str], wrong: list[str]) -> list[Example]:
    system = turns.pop(0)[1] if turns[0][0] == "system" else ""
    roles = [role for role, _ in turns]
    if "assistant" not in roles:
        wrong.append("has no assistant turn; add the answer")
    elif roles != [("user", "assistant")[n % 2] for n in range(len(roles))] or len(roles) % 2:
        wrong.append(f"has the turns {', '.join(roles)}; give user and assistant in alternation, ending with assistant")
    blank = [n for n, (_, text) in enumerate(turns[:-1], 1) if not text.strip()]
    if blank and not wrong:
        wrong.append(f"has blank text in {roles[blank[0] - 1]} turn {blank[0]}; give it text")
    if wrong:
        return []
    history = tuple(Message(role, text) for role, text in turns[:-2])  # type: ignore[arg-type]
    question, material = turns[-2][1], row.get("input")
    # Our own writer keeps `input` beside the turns, so that what was one instruction with material is so again.
    if isinstance(material, str) and material and question.endswith(f"\n\n{material}") and "input" not in used:
        question, used = question.removesuffix(f"\n\n{material}"), {*used, "input"}
    else:
        material = ""
    fields = {"instruction": question, "input": material, "output": turns[-1][1], "system": system, "history": history}
    return [_example(row, source, used, **fields)]


def _history(row: Row, wrong: list[str]) -> tuple[Message, ...]:
    """Alpaca's `history` column: pairs of what was asked and answered before."""
    history = row.get("history")
    if not isinstance(history, list):
        return ()
    if not all(isinstance(p, list | tuple) and len(p) == 2 and all(isinstance(t, str) for t in p) for p in history):
        wrong.append("'history' is not a list of [question, answer] pairs")
        return ()
    turns = [Message(role, text) for pair in history for role, text in zip(("user", "assistant"), pair, strict=True)]  # type: ignore[arg-type]
    wrong += [f"'history' {problem}" for turn in turns if (problem := text_problem(turn.content))]
    return tuple(turns)


def _example(row: Row, source: str, used: set[str], **fields: Any) -> Example:
    """An example with the row's own source and lineage, and every unused column in `extra`."""
    # A field that the layout lacks is "" in `used`; a column may be named "" (the index of a CSV file).
    extra = {key: value for key, value in row.items() if key not in used or not key}
    lineage: tuple[str, ...] = ()
    if extra:
        own = extra.get("source")
        if isinstance(own, str) and own:
            source = extra.pop("source")
        names = extra.get("lineage")
        names = [names] if isinstance(names, str) and names else names
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            lineage = tuple(names)
            del extra["lineage"]
    example = Example(source=source, lineage=lineage, **fields)
    if isinstance(extra.get("id"), str) and len(extra["id"]) == 16 and extra["id"] == example.id:
        del extra["id"]
    return replace(example, extra=unfold(extra)) if extra else example
