"""Go's text/template, as far as Ollama's templates use it: parse once, render with a dict.

    {{ .Content }}  {{ $x := "a" }}  {{ $x = "b" }}  {{ if eq .Role "user" }} .. {{ else if .. }} .. {{ end }}
    {{ range $i, $m := .Messages }} .. {{ end }}  {{- trims the white space before -}} and after
    eq ne and or not len index slice

So that what Ollama will send can be compared with what was trained, without Ollama. What is not known is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pacos.errors import DataError

ACTION = re.compile(r'\{\{(-(?=\s))?((?:"(?:\\.|[^"\\])*"|`[^`]*`|[^"`])*?)((?<=\s)-)?\}\}')
TOKEN = re.compile(r'\s*("(?:\\.|[^"\\])*"|`[^`]*`|\$\w*(?:\.\w+)*|\.\w+(?:\.\w+)*|\.|-?\d+|\w+|:=|[=(),|])')
Scope = list[dict[str, Any]]


@dataclass
class Node:
    """`kind`: text, put, set, if, range, with; `body` and `other` are what stands under it and under its else."""

    kind: str
    words: list[str] = field(default_factory=list)
    text: str = ""
    body: list[Node] = field(default_factory=list)
    other: list[Node] = field(default_factory=list)


class GoTemplate:
    """A parsed template. Raises DataError where it does not parse, and for what is not known here."""

    def __init__(self, text: str):
        pieces = _pieces(text)
        self._nodes, end = _parse(pieces, 0)
        if end != len(pieces):
            raise DataError(f"template: '{pieces[end][1]}' has nothing to end")

    def render(self, root: dict[str, Any]) -> str:
        """The text for `root`, whose keys are what `.Key` names."""
        out: list[str] = []
        _run(self._nodes, root, [{"$": root}], out)
        return "".join(out)


def _pieces(text: str) -> list[tuple[str, str]]:
    """(text or action, content) in order, trimmed as the dashes say."""
    found: list[tuple[str, str]] = []
    at, strip_next = 0, False
    for match in ACTION.finditer(text):
        before = text[at : match.start()]
        before = before.lstrip() if strip_next else before
        before = before.rstrip() if match[1] else before
        found += [("text", before)] if before else []
        inner = match[2].strip()
        if not inner.startswith("/*"):
            found.append(("action", inner))
        at, strip_next = match.end(), bool(match[3])
    rest = text[at:].lstrip() if strip_next else text[at:]
    return [*found, ("text", rest)] if rest else found


def _parse(pieces: list[tuple[str, str]], at: int) -> tuple[list[Node], int]:
    """Nodes up to an else or end that belongs to what stands above."""
    nodes: list[Node] = []
    while at < len(pieces):
        kind, content = pieces[at]
        if kind == "text":
            nodes.append(Node("text", text=content))
            at += 1
            continue
        words = _words(content)
        if words[0] in ("else", "end"):
            return nodes, at
        if words[0] in ("if", "range", "with"):
            node, at = _block(words, pieces, at)
            nodes.append(node)
            continue
        is_set = len(words) > 2 and words[1] in (":=", "=")
        nodes.append(Node("set" if is_set else "put", words))
        at += 1
    return nodes, at


def _block(words: list[str], pieces: list[tuple[str, str]], at: int) -> tuple[Node, int]:
    """A block with its else, and the place behind its end."""
    node = Node(words[0], words[1:])
    node.body, at = _parse(pieces, at + 1)
    if at >= len(pieces):
        raise DataError(f"template: {{{{ {' '.join(words)} }}}} has no end")
    closing = _words(pieces[at][1])
    if closing == ["end"]:
        return node, at + 1
    if closing == ["else"]:
        node.other, at = _parse(pieces, at + 1)
        if at >= len(pieces):
            raise DataError(f"template: {{{{ {' '.join(words)} }}}} has no end")
        return node, at + 1
    inner, at = _block(closing[1:], pieces, at)  # {{ else if .. }} shares the end of its if
    node.other = [inner]
    return node, at


def _words(content: str) -> list[str]:
    words, at = [], 0
    while at < len(content.rstrip()):
        match = TOKEN.match(content, at)
        if match is None:
            raise DataError(f"template: cannot read {{{{ {content} }}}}")
        words.append(match[1])
        at = match.end()
    return words or [""]


def _run(nodes: Sequence[Node], dot: Any, scope: Scope, out: list[str]) -> None:
    for node in nodes:
        if node.kind == "text":
            out.append(node.text)
        elif node.kind == "put":
            value = _value(node.words, dot, scope)
            out.append("" if value is None else _shown(value))
        elif node.kind == "set":
            _set(node.words, _value(node.words[2:], dot, scope), scope)
        elif node.kind == "range":
            _range(node, dot, scope, out)
        else:
            _choose(node, dot, scope, out)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _set(words: list[str], value: Any, scope: Scope) -> None:
    name = words[0]
    if words[1] == ":=":
        scope[-1][name] = value
        return
    for names in reversed(scope):
        if name in names:
            names[name] = value
            return
    raise DataError(f"template: {name} is set before it is made")


def _choose(node: Node, dot: Any, scope: Scope, out: list[str]) -> None:
    value = _value(node.words, dot, scope)
    inner = value if node.kind == "with" and value else dot
    _run(node.body if value else node.other, inner, [*scope, {}], out)


def _range(node: Node, dot: Any, scope: Scope, out: list[str]) -> None:
    words, names = node.words, []
    if ":=" in words:
        at = words.index(":=")
        names, words = [w for w in words[:at] if w != ","], words[at + 1 :]
    items = _value(words, dot, scope) or []
    for index, item in enumerate(items):
        given = dict(zip(names, (index, item) if len(names) == 2 else (item,), strict=False))
        _run(node.body, item, [*scope, given], out)
    if not items:
        _run(node.other, dot, [*scope, {}], out)


def _value(words: list[str], dot: Any, scope: Scope) -> Any:
    """The value of an expression: a function of operands, or one operand."""
    if "|" in words:
        raise DataError(f"template: pipes are not read here: {' '.join(words)}")
    operands, at = [], 0
    name = words[0]
    if name in FUNCTIONS:
        at = 1
    while at < len(words):
        value, at = _operand(words, at, dot, scope)
        operands.append(value)
    if name in FUNCTIONS:
        return FUNCTIONS[name](*operands)
    if len(operands) != 1:
        raise DataError(f"template: '{name}' is no function that is known here: {', '.join(FUNCTIONS)}")
    return operands[0]


def _operand(words: list[str], at: int, dot: Any, scope: Scope) -> tuple[Any, int]:
    word = words[at]
    if word == "(":
        depth, end = 1, at + 1
        while depth:
            depth += {"(": 1, ")": -1}.get(words[end], 0)
            end += 1
        return _value(words[at + 1 : end - 1], dot, scope), end
    if word[0] == '"':
        return json.loads(word), at + 1
    if word[0] == "`":
        return word[1:-1], at + 1
    if word in ("true", "false", "nil"):
        return {"true": True, "false": False, "nil": None}[word], at + 1
    if re.fullmatch(r"-?\d+", word):
        return int(word), at + 1
    name, _, fields = word.partition(".")
    value = dot if not name else _find(name, scope)
    for key in filter(None, fields.split(".")):
        value = value.get(key) if isinstance(value, dict) else None
    return value, at + 1


def _find(name: str, scope: Scope) -> Any:
    for names in reversed(scope):
        if name in names:
            return names[name]
    raise DataError(f"template: {name} is not known here")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "lt": lambda a, b: a < b,
    "and": lambda *values: next((v for v in values if not v), values[-1]),
    "or": lambda *values: next((v for v in values if v), values[-1]),
    "not": lambda value: not value,
    "len": lambda value: len(value or ()),
    "index": lambda value, at: value[at],
    "slice": lambda value, start=0, stop=None: (value or [])[start:stop],
}
