"""Words that stand where text should be, and text that stands where it should not.

What a generating model writes in place of nothing (`<noinput>`, `No input required.`, `<No output>`), the beginning of a
next task inside an answer (Alpaca's teacher was asked for twenty at once), and the marks of prompt templates inside data.
"""

from __future__ import annotations

import re
from dataclasses import replace

from pacos.data.curation.rule import Rule, around, drop, quote, whole_text
from pacos.data.records import Example

_EDGE = r"[\s<>()\[\]{}\\\"'`*_.:?!\-]*"
_NOTHING_ASKED = re.compile(
    rf"{_EDGE}(?:(?:the\W+)?no[\s_-]?input[se]?(?:\s+(?:is\s+)?(?:required|needed|necessary|given|provided))?(?:\W*\d+)?"
    rf"|n/?a|none|null|nil|empty|not\s+applicable|blank){_EDGE}",
    re.IGNORECASE,
)
_NOTHING_SAID = re.compile(
    rf"{_EDGE}(?:no[\s_-]?outputs?|no[\s_-]?inputs?|output\s+(?:not\s+)?(?:omitted|available|here)|n/a"
    rf"|insert\s+output(?:\s+here)?|your\s+(?:answer|response|output)\s+here){_EDGE}",
    re.IGNORECASE,
)
_SAID_WHY_NOT = re.compile(
    r"\s*(?:[<(\[*]{1,2}\s*no[\s_-]?outputs?\b[^\n]*|no output(?:\.|,|:|;| -| –| because| possible| required| needed"
    r"| necessary| can be)[^\n]*|n/a\s*\([^\n]*|<no[\s_-]?input>[\s.]*[^\n]{0,100}\b(?:cannot|can't|not able"
    r"|unable)\b[^\n]{0,100})\s*",
    re.IGNORECASE,
)
_LEADING = re.compile(r"\s*<\s*no[\s_-]?(?:input|output)\s*>[\s.:]*", re.IGNORECASE)
_MARKED = re.compile(r"<\s*no[\s_-]?(?:input|output)\s*>", re.IGNORECASE)
_NEXT_TASK = re.compile(
    r"\n\s*(?:#{2,3}\s*)?(?:\d{1,3}\s*\.\s*(?:instruction|input|output)\s*:|#{2,3}\s*(?:instruction|input|human"
    r"|user)\s*:?\s*(?:\n|$)"
    r"|(?:#{3,}\s*)?\d{1,3}\s*\.\s*instruction\b)",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(r"(?:\n(?:[^\w\n]|_)*(?:1{3,})?)+$")
_FIELD_MARK = re.compile(r"^\s*(?:#{2,3}\s*)?(?:output|response|answer)\s*:[ \t]*\n", re.IGNORECASE)
_CONTROL = re.compile(
    r"<\|[a-zA-Z_][\w]{0,30}\|>|<｜[^｜<>]{1,40}｜>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<unk>|<pad>|</s>"
    r"|\[(?:CLS|SEP|MASK|PAD)\]"
)
_DELIMITER = re.compile(
    r"Below is an instruction that describes a task|^#{2,3} ?(?:Instruction|Response|Human|Assistant) ?:",
    re.MULTILINE,
)


def noinput(example: Example) -> str:
    """An input that says there is none."""
    return f"the input is {quote(example.input)}" if example.input and _NOTHING_ASKED.fullmatch(example.input) else ""


def without_input(example: Example) -> Example:
    return replace(example, input="")


def empty_output(example: Example) -> str:
    return "" if example.output.strip() else "the output is blank"


def no_output(example: Example) -> str:
    """An output that says there is none, or why."""
    text = example.output
    return f"the output is {quote(text)}" if _NOTHING_SAID.fullmatch(text) or _SAID_WHY_NOT.fullmatch(text) else ""


def placeholder(example: Example) -> str:
    """A placeholder among other text, on either side."""
    if no_output(example) or noinput(example):
        return ""
    for name, text in (("input", example.input), ("output", example.output)):
        if match := _MARKED.search(text):
            return f"the {name} holds {around(text, match)}"
    line = next(filter(_says_no_input, example.input.split("\n")), "")
    return f"the input holds the line {quote(line)}" if line else ""


def _says_no_input(line: str) -> bool:
    return "input" in line.lower() and _NOTHING_ASKED.fullmatch(line) is not None


def without_placeholder(example: Example) -> Example:
    """Without one at the beginning of the output, or alone on lines of the input."""
    output = _LEADING.sub("", example.output, count=1) if _LEADING.match(example.output) else example.output
    lines = [line for line in example.input.split("\n") if not _says_no_input(line)]
    return replace(example, output=output if output.strip() else example.output, input="\n".join(lines).rstrip("\n"))


def merged_tasks(example: Example) -> str:
    """The beginning of another task inside the answer."""
    match = _NEXT_TASK.search(example.output)
    return f"another task begins in the output: {around(example.output, match)}" if match else ""


def without_next_task(example: Example) -> Example:
    match = _NEXT_TASK.search(example.output)
    kept = _SEPARATOR.sub("", example.output[: match.start()]).rstrip() if match else ""
    return replace(example, output=kept) if kept else example


def field_mark(example: Example) -> str:
    """An answer that begins with the name of its own field."""
    match = _FIELD_MARK.match(example.output)
    return f"the output begins with {quote(match.group())}" if match else ""


def control_token(example: Example) -> str:
    """What a tokenizer or chat template would read as a mark between turns."""
    text = whole_text(example)
    match = _CONTROL.search(text)
    return f"holds {around(text, match)}" if match else ""


def delimiter(example: Example) -> str:
    """The fixed words of a prompt template."""
    text = whole_text(example)
    match = _DELIMITER.search(text)
    return f"holds {around(text, match)}" if match else ""


RULES = (
    Rule("empty-output", "the output is blank: nothing to learn", "error", empty_output, drop, "drops the row"),
    Rule("no-output", "the output says that there is none", "error", no_output, drop, "drops the row"),
    Rule("noinput", "the input says that there is none", "error", noinput, without_input, "blanks the input"),
    Rule(
        "placeholder",
        "a <noinput> or <no output> among other text",
        "error",
        placeholder,
        without_placeholder,
        "takes it out where it leads the output or fills a line of the input",
    ),
    Rule(
        "merged-tasks",
        "another task begins inside the output",
        "error",
        merged_tasks,
        without_next_task,
        "cuts the output before it",
    ),
    Rule("field-mark", "the output begins with 'Output:' on a line of its own", "note", field_mark),
    Rule("control-token", "a control token of a tokenizer or chat template", "warning", control_token),
    Rule("template-mark", "a prompt template's own words", "warning", delimiter),
)
