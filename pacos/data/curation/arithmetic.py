"""Sums that can be checked: `12 x 4 = 58` in an answer, or the wrong number in answer to `What is 25 x 8?`.

An expression is parsed by Python's grammar and walked over a table of five operators: nothing is executed, and powers are
bounded. A result is wrong where it differs by more than its own rounding (3.14 may stand for 3.1416, 1.3 for 4/3).
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable

from pacos.data.curation.rule import Rule, quote
from pacos.data.records import Example

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_TERM = rf"[-(\s]*\$?(?:{_NUMBER})\)*"
_EXPRESSION = rf"{_TERM}(?:\s*(?:\*\*|[-+*/×÷^−–]|[xX](?=\s*[-(]*\d))\s*{_TERM})+"
EXPRESSION = re.compile(_EXPRESSION)
_EQUATION = re.compile(rf"({_EXPRESSION})\s*=\s*(-?\s?\$?(?:{_NUMBER}))(?![\d,]*\d)")
_ANY_NUMBER = re.compile(rf"(?<![\w.])-?(?:{_NUMBER})(?!\w)")
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-", "x": "*", "X": "*", "^": "`", ",": None, "$": None})
_ASKS = re.compile(
    r"\b(?:calculate|compute|evaluate|what is|what's|solve|simplify|work out|determine|how much is|result of"
    r"|operation)\b",
    re.IGNORECASE,
)
_RANGE = re.compile(r"\s*\d+(?:[-–]\d+)+\s*|\s*\d+/\d+(?:/\d+)?\s*")
_ROUNDS = re.compile(
    r"\b(?:isbn|rewrite|round|estimate|approximat|about|nearest|fraction|binary|hex|base|mod|remainder|percent"
    r"|unit|convert)",
    re.IGNORECASE,
)
OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
}  # fmt: skip
LARGEST_POWER, LARGEST = 64, 1e12
LONGEST = 120


def value_of(expression: str) -> float | None:
    """The value of `2 x (3 + 4)`, or None where it has none: no arithmetic, too large, divided by zero."""
    if len(expression) > LONGEST:
        return None
    plain = expression.strip().translate(_SIGNS).replace("`", "**")
    plain = re.sub(r"(?<![\d.])0+(?=\d)", "", plain)
    try:
        return _walk(ast.parse(plain, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError, RecursionError):
        return None


def _walk(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_walk(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            a, b = _walk(left), _walk(right)
            if isinstance(op, ast.Pow) and (abs(b) > LARGEST_POWER or (a < 0 and b != int(b))):
                raise OverflowError
            value = OPERATORS[type(op)](a, b)
            if abs(value) > LARGEST:
                raise OverflowError
            return value
    raise ValueError("not arithmetic")


def agrees(value: float, written: str) -> bool:
    """Whether a number as written stands for the value, rounded or cut off at its last digit."""
    digits = re.sub(r"[,$\s]", "", written)
    _, _, decimals = digits.partition(".")
    return abs(float(digits) - value) <= 1.01 * 10.0 ** -len(decimals) if decimals else _whole(float(digits), value)


def _whole(claimed: float, value: float) -> bool:
    """A whole number stands for itself, and for what it is the rounding of."""
    return abs(claimed - value) <= (1e-9 * max(1.0, abs(value)) if value == round(value) else 1.0)


def wrong_equations(text: str) -> list[str]:
    """Equations in a text that do not hold, as written."""
    if "=" not in text:
        return []
    wrong = []
    for match in _EQUATION.finditer(text):
        value = value_of(match[1]) if _stands_alone(text, match) else None
        if value is not None and not agrees(value, match[2]):
            wrong.append(f"{' '.join(match.group().split())}, but it is {value:.10g}")
    return wrong


def _stands_alone(text: str, match: re.Match[str]) -> bool:
    """Not a piece of something longer: `3x + 4 - 2 = 10`, `4 + 5 = 9x`, `= 1/2`, a date, a division with remainder."""
    begins = match.start() + len(match.group()) - len(match.group().lstrip())
    before, after = text[:begins].rstrip(" \t"), text[match.end() :]
    if before and (before[-1] in "+-*/^=×÷−–([{|√%.,:'\"\\_" or text[begins - 1 : begins].isalnum()):
        return False
    if before[-1:].isalpha() and len(re.split(r"[^A-Za-z]+", before)[-1]) == 1:
        return False
    if re.match(r"\s*[-+*/^×÷−–=%(:√π°]|[A-Za-z_\d]|\.\d|\s*(?:R|r|rem\w*|mod)\b|…|\.\.\.|\s+\d", after):
        return False
    return not re.search(r"\d\s*/\s*\d+\s*/\s*\d", match[1]) and not re.search(r"\d{4}-\d\d-\d\d", match[1])


def wrong_answer(example: Example) -> str:
    """A prompt that is one expression and a request to compute it, and an answer without its value."""
    prompt = " ".join(example.user_text.split())
    found = EXPRESSION.findall(prompt)
    if (
        len(found) != 1
        or _RANGE.fullmatch(found[0])
        or len(prompt.split()) > 20
        or not _ASKS.search(prompt)
        or _ROUNDS.search(prompt)
    ):
        return ""
    rest = EXPRESSION.sub("", prompt)
    if re.search(r"\d|[=√|%{}\[\]]|\b(?:[a-wyzA-HJ-Z]|\d*x)\b", re.sub(r"\ba\b", "", rest)):
        return ""
    value = value_of(found[0])
    numbers = _ANY_NUMBER.findall(example.output.replace("−", "-"))
    if value is None or not numbers or any(agrees(value, number) for number in numbers) or "/" in example.output:
        return ""
    return f"{found[0].strip()} is {value:.10g}, and the output says {quote(example.output, 40)}"


def wrong_arithmetic(example: Example) -> str:
    wrong = wrong_equations(example.output)
    return f"says {quote(wrong[0], 80)}" if wrong else wrong_answer(example)


RULES = (Rule("wrong-arithmetic", "a sum in the output that does not hold", "error", wrong_arithmetic),)
