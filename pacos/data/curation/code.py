"""Code that does not parse: Python by Python's own parser, JSON by its own. Nothing is run."""

from __future__ import annotations

import ast
import json
import re
import textwrap
import warnings

from pacos.data.curation.rule import Rule
from pacos.data.records import Example

LONGEST = 20_000
_FENCED = re.compile(r"^[ \t]*```[ \t]*([\w+#-]*)[ \t]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"\bpython\b", re.IGNORECASE)
_JSON = re.compile(r"\bjson\b", re.IGNORECASE)
_CODE_LINE = re.compile(
    r"(?:def|class) \w+.*:\s*(?:#.*)?$|(?:import|from) [\w.]+|@\w+|#!|#\s?\w|print\s?\(|[\w.\[\]'\"]+ ?[-+*/]?= ?\S"
    r"|(?:for|while|if|try|with)\b.*:\s*$|\"{3}",
    re.MULTILINE,
)
_PROSE = re.compile(r"^[A-Z][\w',]*(?: [\w',-]+){5,}[.:]?\s*$", re.MULTILINE)


def python_problem(code: str) -> str:
    """Why a text is no Python, with its line; empty where it parses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(textwrap.dedent(code))
    except SyntaxError as error:
        return f"{error.msg} in line {error.lineno}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{type(error).__name__}"
    return ""


def json_problem(text: str) -> str:
    """Why a text is no JSON; empty where it parses."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"{error.msg[:1].lower() + error.msg[1:]} in line {error.lineno}"
    except RecursionError:
        return "nested too deeply"
    return ""


def broken_python(example: Example) -> str:
    """Python in a fence that says so, or a bare answer of code where Python was asked for."""
    for code in blocks(example.output, ("python", "py", "python3")) or _bare_python(example):
        if problem := python_problem(code):
            return f"the Python in the output does not parse: {problem}"
    return ""


def broken_json(example: Example) -> str:
    """JSON in a fence that says so, or a bare answer in braces where JSON was asked for."""
    found = blocks(example.output, ("json",))
    text = example.output.strip()
    if not found and _JSON.search(example.instruction) and (text[:1], text[-1:]) in (("{", "}"), ("[", "]")):
        found = [text]
    problem = next((p for one in found if (p := json_problem(one))), "")
    return f"the JSON in the output does not parse: {problem}" if problem else ""


def blocks(text: str, names: tuple[str, ...]) -> list[str]:
    """The bodies of fenced blocks in one of the languages."""
    if "```" not in text:
        return []
    return [match[2] for match in _FENCED.finditer(text[:LONGEST]) if match[1].lower() in names]


def _bare_python(example: Example) -> list[str]:
    text = example.output.strip()
    asked = _PYTHON.search(example.user_text) and "```" not in text and len(text) < LONGEST
    if not asked or not _CODE_LINE.match(text) or _PROSE.search(text) or ">>>" in text:
        return []
    return [text] if re.search(r"^\s*(?:def|class|import|from|for|while|if|print)\b", text, re.MULTILINE) else []


RULES = (
    Rule("broken-python", "Python in the output that does not parse", "warning", broken_python),
    Rule("broken-json", "JSON in the output that does not parse", "warning", broken_json),
)
