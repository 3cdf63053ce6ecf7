"""What a teacher wrote -> tasks. Nothing that a model writes raises; what cannot be used says why.

    ###                                    a task begins at its Instruction header
    4. Instruction: Name three rivers.     numbered or not, in bold or not, renumbered, "Task 4" above it
    4. Input:                              may be missing
    <noinput>                              in all its spellings: the empty input
    4. Output:                             missing: "no output"
    The Rhine, the Nile and the Amazon.

Where headers carry numbers, lines such as "Input: 5" inside a text stay text. The beginning of the first task may stand
without its header (the teacher went on from it), or no task may have the word Instruction; and a teacher that writes
JSON is read as JSON. In an answer that was cut at its token limit the last task is "cut", as in Alpaca.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

CUT, NO_OUTPUT, NO_INSTRUCTION, SURPLUS = "cut", "no output", "no instruction", "surplus"


@dataclass(frozen=True)
class Task:
    """A task as it was read. `problem` is empty, or one of CUT, NO_OUTPUT, NO_INSTRUCTION, SURPLUS."""

    instruction: str
    input: str
    output: str
    problem: str = ""


# Counts are bounded, so that no run of marks makes a pattern try every way to divide it.
_MARKS = r"[ \t>#*_\-]{0,12}"
_HEADER = re.compile(
    rf"^{_MARKS}(?:(?:task|item|example)[ \t]{{0,4}})?(?P<number>\d{{1,5}})?[ \t]{{0,4}}[.):\]]{{0,2}}{_MARKS}"
    r"(?P<field>instruction|input|output|response|answer)s?[ \t*_]{0,6}[:：][ \t*_]{0,6}",
    re.IGNORECASE | re.MULTILINE,
)
_ITEM = re.compile(
    r"^[ \t]{0,8}(?:#{2,6}[ \t]{0,4})?(?:task[ \t]{0,4})?\d{1,5}[.):][ \t]+", re.IGNORECASE | re.MULTILINE
)
_BETWEEN = re.compile(
    r"|#{2,}\s*(?:task\s*)?(?:\d{1,5}[.):]?)?|[-=_*]{3,}|[*_#]{0,4}\s*task\s*\d{1,5}[.):]?[*_]{0,2}:?"
    r"|[*_]{0,2}\d{1,5}[.)][*_]{0,2}",
    re.IGNORECASE,
)
"""A line that stands between two tasks: ###, ---, **Task 5**, 5."""
_NO_INPUT = re.compile(
    r"[\W_]*(?:no[\s_-]*(?:additional[\s_-]*)?inputs?(?:[\s_-]*(?:is[\s_-]*)?(?:required|needed|necessary|provided|given))?"
    r"|none|n/?a|not[\s_-]*applicable|empty|null|-+)?[\W_]*",
    re.IGNORECASE,
)
LONGEST_NO_INPUT = 60
_THOUGHT = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_THOUGHT_ENDS = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_FENCE = re.compile(r"\A```[\w+-]*[ \t]*\n(.*?)\n?```\s*\Z", re.DOTALL)


def parse_tasks(text: str, *, cut: bool = False) -> list[Task]:
    """The tasks in an answer, in order. `cut`: the answer ended at its token limit, so its last task is not whole."""
    text = plain(text)
    tasks = list(_from_json(text)) if text[:1] in ("[", "{") else []
    tasks = tasks or [_task(chunk, number) for chunk, number in _chunks(text)]
    if cut and tasks:
        tasks[-1] = replace(tasks[-1], problem=CUT)
    return tasks


def without_thoughts(text: str) -> str:
    """An answer without the thoughts before it; nothing where they do not end. Chat templates may hide the first mark."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    begin, end = _THOUGHT.search(text), _THOUGHT_ENDS.search(text)
    if begin and text[: begin.start()].strip():
        return text.strip()  # it only speaks of the marks
    if end:
        return text[end.end() :].strip()
    return "" if begin else text.strip()


def plain(text: str) -> str:
    """An answer without thoughts, and out of the fence around the whole."""
    text = without_thoughts(text)
    fenced = _FENCE.match(text)
    return fenced[1].strip() if fenced and "\n```" not in fenced[1] else text


def without_noinput(text: str) -> str:
    """The input, or nothing where it is one of the ways of saying that there is none."""
    return "" if len(text) <= LONGEST_NO_INPUT and _NO_INPUT.fullmatch(text) else text


def _chunks(text: str) -> Iterator[tuple[str, str]]:
    """(text of a task behind its Instruction header, its number), also of one whose header is missing."""
    starts = [match for match in _HEADER.finditer(text) if match["field"].lower() == "instruction"]
    if any(match["number"] for match in starts):
        starts = [match for match in starts if match["number"] or _after_mark(text, match.start())]
    if not starts:
        yield from _unnamed(text)
        return
    before = text[: starts[0].start()]
    if _fields(before, ""):
        yield before, ""
    ends = [match.start() for match in starts[1:]] + [len(text)]
    for match, end in zip(starts, ends, strict=True):
        yield text[match.end() : end], match["number"] or ""


def _after_mark(text: str, at: int) -> bool:
    """Whether a separator stands right before: then a header without a number begins a task too."""
    return text[max(0, at - 20) : at].rstrip().endswith("##")


def _unnamed(text: str) -> Iterator[tuple[str, str]]:
    """Tasks of an answer that never says Instruction: numbered pieces that have an output."""
    starts = [match for match in _ITEM.finditer(text) if not _HEADER.match(text, match.start())]
    bounds = [*((match.end(), match.start()) for match in starts), (0, len(text))]
    pieces = [text[begin:end] for (begin, _), (_, end) in pairwise(bounds)] or [text]
    yield from ((piece, "") for piece in pieces if _fields(piece, ""))


def _fields(chunk: str, number: str) -> list[re.Match[str]]:
    """The headers of input and output in a task, in order; empty where it has no output."""
    everything = [match for match in _HEADER.finditer(chunk) if match["field"].lower() != "instruction"]
    numbered = [match for match in everything if match["number"]]
    found = [match for match in numbered if match["number"] == number] or numbered or everything
    names = ("output",), ("response", "answer")
    outputs = [next((m for m in found if m["field"].lower() in group), None) for group in names]
    output = outputs[0] or outputs[1]
    if output is None:
        return []
    inputs = [m for m in (*found, *everything) if m["field"].lower() == "input" and m.start() < output.start()]
    material = inputs[0] if inputs else None
    return [match for match in (material, output) if match]


def _task(chunk: str, number: str) -> Task:
    fields = _fields(chunk, number)
    if not fields:
        material = next((m for m in _HEADER.finditer(chunk) if m["field"].lower() == "input"), None)
        return _made(chunk[: material.start()] if material else chunk, chunk[material.end() :] if material else "", "")
    ends = [match.start() for match in fields[1:]] + [len(chunk)]
    values = {m["field"].lower(): chunk[m.end() : end] for m, end in zip(fields, ends, strict=True)}
    material_text = values.pop("input", "")
    return _made(chunk[: fields[0].start()], material_text, *values.values())


def _made(instruction: str, material: str, output: str) -> Task:
    instruction, material, output = _unquoted(_tidy(instruction)), without_noinput(_tidy(material)), _tidy(output)
    problem = "" if output else NO_OUTPUT
    return Task(instruction, material, output, problem if instruction else NO_INSTRUCTION)


def _tidy(text: str) -> str:
    """A field without the separators and the next task's number behind it."""
    lines = text.strip().split("\n")
    while len(lines) > 1 and _BETWEEN.fullmatch(lines[-1].strip()):
        lines.pop()
    return "\n".join(lines).strip("#" if len(lines) == 1 else "").strip()


def _unquoted(text: str) -> str:
    """Without quotation marks around the whole."""
    for first, last in (('"', '"'), ("“", "”")):
        if len(text) > 1 and text[0] == first and text[-1] == last and not {first, last} & set(text[1:-1]):
            return text[1:-1].strip()
    return text


def _from_json(text: str) -> Iterator[Task]:
    """Objects with an instruction, one after another, in lists or not, as far as they are whole."""
    decoder, at = json.JSONDecoder(), 0
    while (at := text.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            at += 1
            continue
        except RecursionError:
            return
        yield from _json_tasks(value)


def _json_tasks(value: Any) -> Iterator[Task]:
    if isinstance(value, list):
        for each in value:
            yield from _json_tasks(each)
    if isinstance(value, dict):
        names = {str(key).lower(): each for key, each in value.items()}
        if "instruction" in names:
            output = next((names[key] for key in ("output", "response", "answer") if key in names), "")
            yield _made(*("" if v is None else str(v) for v in (names["instruction"], names.get("input"), output)))
        else:
            yield from _json_tasks([each for each in value.values() if isinstance(each, list | dict)])
