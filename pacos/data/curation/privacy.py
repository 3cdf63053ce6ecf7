"""What should not be learned by heart: addresses, numbers and keys of people and machines. Reports show them masked.

A card number must pass Luhn's check and an IBAN ISO 13616's, so that other long numbers are left alone. Addresses at
reserved names (example.com, RFC 2606) and the 555 numbers of films are made up, and are not reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pacos.data.curation.rule import Rule, whole_text
from pacos.data.records import Example

_EMAIL = re.compile(r"\b[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}\b")
_MADE_UP = re.compile(
    r"@(?:[\w-]+\.)*(?:example|test|invalid|localhost|domain|email|company|yourcompany|abc|xyz|website|mail)\.\w+$"
    r"|\.(?:example|test|invalid)$",
    re.IGNORECASE,
)
_PHONE = re.compile(r"(?<![\w.,/=-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-]|\.\d)")
_CARD = re.compile(r"(?<![\w.-])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{5})(?![\w-]|\.\d)")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_SSN = re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_SECRET = re.compile(
    r"\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{20,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[\w-]{35}\b"
    r"|\bhf_[A-Za-z0-9]{30,}|-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
    r"|\bglpat-[\w-]{20,}"
    r"|\b(?:sk|rk)_live_[A-Za-z0-9]{20,}"
)  # fmt: skip


def luhn(number: str) -> bool:
    """Luhn's check of a card number's last digit (ISO/IEC 7812)."""
    digits = [int(char) for char in number if char.isdigit()][::-1]
    return sum(digits[::2]) % 10 == -sum(sum(divmod(2 * d, 10)) for d in digits[1::2]) % 10 and len(set(digits)) > 1


def iban(number: str) -> bool:
    """The check of ISO 13616: the number, its first four characters moved to the end, is 1 modulo 97."""
    plain = number.replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def mask(secret: str) -> str:
    """The first two characters and the length: enough to find it, not enough to use it."""
    return f"{secret[:2]}…({len(secret)} characters)"


def _first(pattern: re.Pattern[str], what: str, real: Callable[[str], bool]) -> Callable[[str], str]:
    def look(text: str) -> str:
        found = next((m.group() for m in pattern.finditer(text) if real(m.group())), "")
        return f"{what} {mask(found)}" if found else ""

    return look


_PERSONAL = (
    _first(_EMAIL, "an e-mail address", lambda m: not _MADE_UP.search(m)),
    _first(_PHONE, "a telephone number", lambda m: "555" not in m and len(set(re.sub(r"\D", "", m))) > 3 and "123" not in m[:5]),
    _first(_CARD, "a card number", lambda m: m[0] in "3456" and luhn(m)),
    _first(_IBAN, "a bank account", iban),
    _first(_SSN, "a social security number", lambda m: m != "123-45-6789"),
)  # fmt: skip
_MARKS = (
    "AKIA",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "sk-",
    "xox",
    "AIza",
    "hf_",
    "PRIVATE KEY",
    "eyJ",
    "glpat-",
    "_live_",
)
_KEYS = _first(_SECRET, "a key", lambda _: True)


def personal(example: Example) -> str:
    text = whole_text(example)
    if not re.search(r"\d{3}|@", text):
        return ""
    found = [why for look in _PERSONAL if (why := look(text))]
    return f"holds {', '.join(found)}" if found else ""


def secret(example: Example) -> str:
    text = whole_text(example)
    why = _KEYS(text) if any(mark in text for mark in _MARKS) else ""
    return f"holds {why}" if why else ""


RULES = (
    Rule("personal", "an e-mail address, telephone, card, account or social security number", "warning", personal),
    Rule("secret", "a key or token of a service, a private key", "error", secret),
)
