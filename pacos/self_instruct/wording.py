"""The texts that teachers are sent: files in the folder `texts`, or the user's own, with {{places}} to be filled.

    Make the task below harder ...          {{task}} ### Write the harder task as number {{first}} ...

A place that is not known, or one that is needed and not there, is an error before anything is sent. What is filled in
is not looked at again: a seed that holds {{tasks}} says {{tasks}}.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from pathlib import Path

from pacos.errors import UsageError, did_you_mean

PLACES = {
    "list": ("tasks", "examples", "domain", "first", "last"),
    "one": ("tasks", "examples", "domain", "first", "last"),
    "harder": ("task", "first"),
    "deeper": ("task", "first"),
    "rephrased": ("task", "first"),
    "answer": ("instruction", "input"),
}
"""The texts that come along, and what can be filled in each."""
WAYS = ("harder", "deeper", "rephrased")
_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class Wording:
    """A text with places. Raises UsageError where it has one that is not among `places`."""

    def __init__(self, text: str, places: tuple[str, ...], name: str):
        self.text, self.name = text, name
        self.has = set(_PLACE.findall(text))
        for unknown in sorted(self.has - set(places)):
            known = ", ".join(f"{{{{{place}}}}}" for place in places)
            raise UsageError(
                f"{name}: unknown place {{{{{unknown}}}}}{did_you_mean(unknown, places)}; known here: {known}"
            )

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def require(self, place: str, wanted: bool, otherwise: str) -> None:
        """Raises UsageError where something is to be said that the text has no place for."""
        if wanted and place not in self.has:
            raise UsageError(f"{self.name}: has no place {{{{{place}}}}}; add it, or run with {otherwise}")

    def fill(self, **values: str) -> str:
        return _PLACE.sub(lambda match: values[match[1]], self.text)


def packaged(name: str) -> Wording:
    """A text that comes along: one of PLACES."""
    text = (resources.files("pacos.self_instruct") / "texts" / f"{name}.txt").read_text(encoding="utf-8")
    return Wording(text, PLACES[name], f"{name}.txt")


def read_wording(path: Path, like: str) -> Wording:
    """The user's own text in place of the packaged one named `like`. Raises UsageError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    if not text.strip():
        raise UsageError(f"{path}: is empty; give the text of the request (see docs/generate.md)")
    return Wording(text, PLACES[like], str(path))
