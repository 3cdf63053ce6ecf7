"""Answers that are no answers: cut off, stuck in a loop, refused, or about the assistant in place of the question."""

from __future__ import annotations

import re
from collections import Counter

from pacos.data.curation.rule import Rule, around, quote, words
from pacos.data.records import Example, normalize

ENDS = frozenset(".!?:;)]}>\"'”’»…*`|。！？」』）】~-–—=/\\%$€£°")
OPEN_WORDS = words(
    "a an the and or but nor of in on at to for from with without by as into onto about between is are was were"
    " be been am"
    " has have had will would can could should may might must that which who whose whom because although"
    " while if when"
    " where than so such this these those their its his her your our my not including"
)
LONG_ENOUGH, LOOP_PERIOD, LOOPS, LOOP_LENGTH, TAIL = 40, 60, 6, 40, 8
_LAST_WORD = re.compile(r"([^\W\d_]+)\W*$")
_FENCE = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)
_REFUSAL = re.compile(
    r"^\W*(?:(?:i'?m|i am)\s+(?:\w+\s+)?(?:sorry|afraid)|sorry,? (?:but )?i|i apologi[sz]e|unfortunately,? i"
    r" (?:can|am)"
    r"|i\s+(?:can\s?not|can'?t|am not able to|'?m not able to|am unable to|'?m unable to|won'?t|do not have"
    r" (?:access|the ability)"
    r"|don'?t have (?:access|the ability))\b|(?:this|the) (?:instruction|task|request) (?:is not (?:suitable"
    r"|possible)|cannot be)"
    r"|due to the functionality|not (?:possible|applicable) (?:for|to|with|because)|cannot (?:generate|create"
    r"|produce|display|provide)"
    r"|no output possible)",
    re.IGNORECASE,
)
_PERSONA = re.compile(
    r"\b(?:as|being|i am|i'm|am) (?:just |only |merely |simply )?an? (?:ai\b|a\.i\.|artificial intelligence"
    r"|language model|large language model"
    r"|ai language|machine learning model|chat ?bot|virtual assistant|digital assistant|ai assistant"
    r"|computer program)"
    r"|\b(?:gpt(?:-?\d(?:\.\d)?)?(?: language)? model|chatgpt|openai)\b(?=.{0,80}\b(?:cannot|can't|unable|not able"
    r"|trained|created)\b)"
    r"|\bmy (?:training data|knowledge cut-?off|programming)\b",
    re.IGNORECASE,
)
_ASKS_PERSONA = re.compile(
    r"\b(?:ai|a\.i\.|robot|chat ?bot|assistant|gpt|chatgpt|openai|language model|machine|computer)\b", re.IGNORECASE
)
_LIVED = re.compile(
    r"^\W*(?:(?:i (?:once|recently|remember|had to|went|was (?:working|in|at)|have (?:been|had)|worked|grew)\b|my"
    r" (?:favou?rite|most|best|biggest|own|first)\b"
    r"|one time,? i\b|last (?:year|week|month|summer),? i\b|when i was\b))",
    re.IGNORECASE,
)
_ASKS_LIVED = re.compile(
    r"\b(?:describe|tell|share|recall|talk about|explain|what|which|how|do|did|have|write"
    r" about)\b.{0,60}\b(?:you|your)\b",
    re.IGNORECASE,
)


def truncated(example: Example) -> str:
    """An answer that stops in the middle: on a word that needs another, on a comma, inside a code fence."""
    text = example.output.rstrip()
    if len(_FENCE.findall(text)) % 2:
        return "a code fence is opened and not closed"
    last_line = text.rpartition("\n")[2].strip()
    if len(text) < LONG_ENOUGH or not last_line or text[-1] in ENDS:
        return ""
    if text[-1] in ",(":
        return f"the output ends with {quote(last_line[-40:])}"
    word = _LAST_WORD.search(last_line)
    cut = (
        word is not None and word[1] in OPEN_WORDS and " " in last_line and text[-1].isalpha() and _is_prose(last_line)
    )
    return f"the output ends with {quote(last_line[-40:])}" if cut else ""


def _is_prose(line: str) -> bool:
    """A sentence rather than a list, a verse or code."""
    return len(line.split()) >= 8 and ", " + line.split()[-1] not in line and not re.search(r"[={}<>;|_]", line)


def repetition(example: Example) -> str:
    """A short passage many times in a row, as models write that cannot stop."""
    text = example.output
    passage, times = loop_at_end(text)
    if times * len(passage) >= LOOP_LENGTH and passage.strip(" \n\t.-_=*#|+") and not _asks_repetition(example):
        return f"{quote(passage, 30)} stands {times} times in a row at the end"
    lines = [line.strip() for line in text.split("\n") if len(line.strip()) > 20]
    line, count = Counter(lines).most_common(1)[0] if lines else ("", 0)
    long_lines = count >= 5 and count * 2 > len(lines) and not _asks_repetition(example)
    return f"the line {quote(line, 30)} stands {count} times" if long_lines else ""


def loop_at_end(text: str) -> tuple[str, int]:
    """The passage that stands at least LOOPS times in a row at the end, up to four characters, and how often; or ("", 0).

    Its last TAIL characters stand once more just before: where they do not, nothing else is looked at.
    """
    for end in range(len(text), max(len(text) - 5, TAIL), -1):
        before = text.rfind(text[end - TAIL : end], max(0, end - TAIL - LOOP_PERIOD), end - 1)
        passage = text[before + TAIL : end]
        if before >= 0 and text.endswith(passage * LOOPS, 0, end):
            times = LOOPS
            while text.endswith(passage * (times + 1), 0, end):
                times += 1
            return passage, times
    return "", 0


_ASKS_REPETITION = re.compile(r"\b(?:repeat|times|pattern|loop|copies|print|chorus)\b", re.IGNORECASE)


def _asks_repetition(example: Example) -> bool:
    return _ASKS_REPETITION.search(example.user_text) is not None


def declines(text: str) -> bool:
    """Whether a text begins with words of refusing or regret."""
    return _REFUSAL.match(text) is not None


def refusal(example: Example) -> str:
    """An answer that begins by declining."""
    if not declines(example.output) or _plays_a_part(example):
        return ""
    return f"the output begins {quote(example.output)}"


def _plays_a_part(example: Example) -> bool:
    """A letter, a dialogue or an apology was asked for, so that 'I am sorry' is the answer."""
    return re.search(r"\b(?:apolog|sorry|letter|e-?mail|dialog|conversation|message|reply|respond|response|sentence|story|poem|"
                     r"rewrite|rephrase|paraphrase|edit|translate|convert|transform|change|correct|reword|quote"
                     r"|script|declin|refus|excuse|tone|"
                     r"synonym|negat|scene|note|tweet|say|speech)", example.user_text, re.IGNORECASE) is not None  # fmt: skip


def persona(example: Example) -> str:
    """An answer about being an AI, where the question was not about one."""
    match = _PERSONA.search(example.output)
    if not match or _ASKS_PERSONA.search(example.user_text):
        return ""
    return f"the output speaks as a model: {around(example.output, match)}"


def lived(example: Example) -> str:
    """An answer that tells of a life: what the assistant recently watched, or had to decide at work."""
    if _LIVED.match(example.output) and _ASKS_LIVED.search(example.instruction) and not example.input:
        return f"the output tells of a life: {quote(example.output)}"
    return ""


def echo(example: Example) -> str:
    """An answer that is the question, word for word."""
    output = normalize(example.output)
    same = len(output) > 20 and output in (normalize(example.instruction), normalize(example.user_text))
    return "the output repeats the instruction" if same else ""


def double_input(example: Example) -> str:
    """An instruction that holds its own input word for word, so that a prompt would say it twice."""
    material = normalize(example.input)
    twice = len(material) > 20 and normalize(example.instruction).endswith(material)
    return f"the instruction ends with the input, {quote(material, 40)}" if twice else ""


RULES = (
    Rule("truncated", "the output stops in the middle", "warning", truncated),
    Rule("repetition", "the output is stuck in a loop", "error", repetition),
    Rule("refusal", "the output declines to answer", "warning", refusal),
    Rule("as-an-ai", "the output speaks of itself as a model, unasked", "warning", persona),
    Rule("lived", "the output tells of the assistant's own life", "note", lived),
    Rule("echo", "the output is the instruction again", "error", echo),
    Rule("double-input", "the instruction ends with its own input", "warning", double_input),
)
