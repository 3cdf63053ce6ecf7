"""Which language a text is in: by script, and among Latin ones by its commonest words. Light, offline, no model.

A text must have at least FEWEST words and a clear lead of one language; else it has none (''). That is enough to tell
rows of another language, and answers in another language than their question; it does not name rare languages.
"""

from __future__ import annotations

import re
from collections import Counter

from pacos.data.curation.rule import Rule, words
from pacos.data.records import Example

LOOKED_AT, FEWEST, LEAST_SHARE, PROSE, SURE = 400, 5, 0.12, 0.8, 0.25
_WORD = re.compile(r"[^\W\d_]+")
SCRIPTS = {
    "ru": "\u0400-\u04ff", "el": "\u0370-\u03ff", "he": "\u0590-\u05ff", "ar": "\u0600-\u06ff", "hi": "\u0900-\u097f",
    "bn": "\u0980-\u09ff", "ta": "\u0b80-\u0bff", "th": "\u0e00-\u0e7f", "ka": "\u10a0-\u10ff", "ko": "\uac00-\ud7af",
    "ja": "\u3040-\u30ff", "zh": "\u4e00-\u9fff",
}  # fmt: skip
_SCRIPTS = {name: re.compile(f"[{span}]") for name, span in SCRIPTS.items()}
_COMMON = {
    "en": "the of and to in is that for it with as was on are be this by an from or have at not which you your"
    " we can their its has how what",
    "de": "der die und das den von zu ist mit sich des auf für nicht ein eine dem auch als es an werden aus er"
    " hat dass sie nach wird bei wie ich",
    "fr": "le la les de et des est en un une du que pour dans qui pas sur au avec il elle nous vous sont ce cette plus ou par je mais leur",
    "es": "el la los las de y que en un una es por con para no se su del al lo como más pero sus son está o este ha muy también",
    "it": "il la di e che un una per è in con non del della le si da sono come dei nel gli anche più alla questo ma ho lo i",
    "pt": "o a os as de e que em um uma para com não por do da é no na se mais como dos mas foi ao ele das seu sua ou eu",
    "nl": "de het een en van in is dat op te zijn met voor niet aan er om ook als bij maar naar uit wordt door ik je dit",
    "sv": "och att det i en på är som av för med den till inte ett om har jag var men de så han kan vi du från",
    "pl": "i w na z się nie do jest to że jak o po co ale za od przez są dla tego czy był może już ich",
    "tr": "ve bir bu için ile de da ne çok daha gibi olarak en kadar var ben sonra değil mi olan o ama",
    "id": "yang dan di untuk dengan ini dari dalam itu tidak pada adalah ke saya akan bisa kita atau juga",
}
LANGUAGES = (*_COMMON, *SCRIPTS)
"""Codes that `language_of` can give."""
_ENGLISH = words(_COMMON["en"])
_ENGLISH_TOO = words(
    "as no do an in is on was to for me he so die also or per come man far al at all men it ha hat den om"
)
_LANGUAGES: dict[str, tuple[str, ...]] = {}
for _name, _words in _COMMON.items():
    for _one in _words.split():
        if _name != "en" and (len(_one) == 1 or _one in _ENGLISH_TOO):
            continue
        _LANGUAGES[_one] = (*_LANGUAGES.get(_one, ()), _name)
_NAMES_ONE = re.compile(
    r"\btranslat|\blanguage|\bword for\b|\bmean(?:s|ing)?\b|\bhow (?:do|would) you say\b|\b(?:english|french"
    r"|spanish|german|italian|portuguese|dutch|swedish|"
    r"polish|turkish|indonesian|russian|greek|hebrew|arabic|hindi|bengali|tamil|thai|georgian|korean|japanese"
    r"|chinese|mandarin|latin|foreign|"
    r"bilingual|fran[cç]ais|espa[nñ]ol|deutsch)\b",
    re.IGNORECASE,
)


def language_of(text: str) -> str:
    """A two-letter code, or '' where it cannot be told. Han characters are Chinese, and Japanese among kana."""
    text = text[:LOOKED_AT]
    if not text.isascii():
        letters = sum(map(str.isalpha, text)) or 1
        shares = {name: len(pattern.findall(text)) / letters for name, pattern in _SCRIPTS.items()}
        if shares["ja"] > 0.1:
            return "ja"
        name, share = max(shares.items(), key=lambda pair: pair[1])
        if share > 0.5:
            return name
    words = _WORD.findall(text.lower())
    prose = sum(map(len, words)) + text.count(" ") + text.count("\n") >= PROSE * len(text)
    return _latin(words) if prose else ""


def _latin(words: list[str]) -> str:
    if len(words) < FEWEST:
        return ""
    if sum(word in _ENGLISH for word in words) >= SURE * len(words):
        return "en"
    votes = Counter(name for word in words if word in _LANGUAGES for name in _LANGUAGES[word])
    ranked = votes.most_common(2)
    if not ranked or ranked[0][1] < max(2, (LEAST_SHARE if ranked[0][0] == "en" else 1.5 * LEAST_SHARE) * len(words)):
        return ""
    return ranked[0][0] if len(ranked) == 1 or ranked[0][1] > 1.3 * ranked[1][1] else ""


def answer_language(example: Example) -> str:
    """An answer in another language than the question, which names none."""
    answer = language_of(example.output)
    asked = language_of(example.instruction) if answer else ""
    if not answer or not asked or answer == asked or _NAMES_ONE.search(example.user_text):
        return ""
    return "" if language_of(example.input) == answer else f"asked in '{asked}' and answered in '{answer}'"


RULES = (Rule("answer-language", "the answer is in another language than the question", "warning", answer_language),)
