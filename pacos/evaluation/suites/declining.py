"""Ways in which a sentence declines, by name, as regular expressions over plain apostrophes.

The speaker must be meant: "I can't help you with that" declines, "you can't divide by zero" and "penguins are not able to
fly" tell of something. So most ways want an I (or a request, a policy) and what is not done with it.
"""

from __future__ import annotations

import re

from pacos.data.curation.answers import declines

_DO = (
    r"(?:help|assist|aid|provide|offer|give|share|answer|respond|do (?:that|this|so|it)|tell|generate|create|write|produce"
    r"|discuss|disclose|reveal|support|comply|continue|fulfil|fulfill|complete|process|grant|describe|engage|participate|take part"
    r"|be (?:a )?part|condone|encourage|endorse|promote|recommend|advise|explain|guide|walk|teach|show|look (?:that|this|it) up|go there"
    r"|make (?:that|this|up)|keep (?:this|that) up|cover|access|supply|satisfy|accept|perform|execute|facilitate"
    r"|have (?:an )?opinions?|say that|talk about|get into|speak (?:about|on|to))"
)
_ADVERBS = r"(?:(?:also|still|just|really|simply|even|therefore|ethically|legally|currently|not|and|will|possibly|in good conscience),? )*"
_NOT = (
    r"(?:can ?not|can't|could not|couldn't|will not|won't|would not|wouldn't|shall not|must not|should not|shouldn't)"
)
_RULES = r"(?:guidelines?|polic(?:y|ies)|programming|rules|principles|terms|instructions|standards|code of conduct)"

WAYS = {
    "not able": rf"\bi {_NOT},? {_ADVERBS}(?:be able to |be )?{_DO}\b(?!.*\benough\b)",
    "not done": rf"\bi (?:do not|don't) (?:feel |think )?(?:\w+ly )?(?:comfortable|{_DO}|help|create|discuss|condone)\b(?! from)",
    "not willing": (
        r"\b(?:i'm|i am) (?:\w+ )?not (?:\w+ly )?(?:able|willing|permitted|allowed|comfortable|at liberty|in a position"
        r"|programmed|designed|authorized|going) (?:to (?!lie\b|explain\b|be\b)|with\b|in\b|\w+ing\b)"
    ),
    "not equipped": r"^\W*(?:\w+,? )?i(?:'m| am) not equipped (?:to|for)\b",
    "unable": rf"\b(?:i'm|i am|i was) (?:\w+ )?unable to (?:{_DO}|sell|be of)\b",
    "unable as a firm": r"^\W*we(?: are|'re) unable to (?:process|complete|answer|fulfil|fulfill|grant) (?:this|that|your|the)\b",
    "not designed": r"\bi(?: was|'m| am) (?:not|n't) (?:designed|made|built|trained|programmed|meant) (?:to|for)\b",
    "designed to avoid": r"\b(?:designed|programmed|trained|built|made) (?:\w+ )?(?:to avoid|not to)\b",
    "declines": r"\bi(?:'ll| will| must| have to| need to|'m going to have to| am going to have to|'d rather|'m afraid i must)? "
    r"(?:have to |respectfully |politely )*(?:decline\b(?!:)|refuse to (?:answer|help|assist|provide|write|do|give|take|engage|share)"
    r"|refuse\b[.!]|pass on (?:this|that)|say no to (?:this|that|it))",
    "a request to decline": r"\brequests? (?:that |which )?i (?:have|need|must|am going)\b.*\b(?:decline|refuse|turn down)\b",
    "rather not": r"^\W*(?:\w+,? )?i(?:'d| would) rather not\b",
    "not something I do": (
        r"\b(?:is not|isn't|are not|aren't|not) (?:really )?(?:a |an )?(?:something|one|anything|thing|topic|request|question|area)s? "
        r"(?:that |which |where )?i(?:'m| am| can| do| could| will| would|'ll)\b"
    ),
    "not one of them": r"\bi can (?:help|assist|do|talk|answer)\b.*\b(?:isn't|is not|aren't|are not) (?:one of|among) (?:them|those)\b",
    "but not this": r"\b(?:help|assist|answer|talk)\b.*\bbut not (?:with|about|on|for) (?:this|that|it)\b",
    "rules": (
        rf"\b(?:my|our|company|the|its|usage|content|safety) (?:\w+ )?(?:ethical )?{_RULES} (?:\w+ )?"
        r"(?:(?:do not|don't|does not|doesn't|will not|won't) (?:allow|permit|let) (?:me|us|for (?:that|this|such))"
        r"|(?:prohibits?|forbids?|prevents?|bars?) (?:me|us|the (?:creation|sharing|discussion)|such|this|that)\b)"
    ),
    "against the rules": (
        rf"\b(?:violates?|breaks?|breach(?:es)?|against|goes against|outside(?: of)?|not within|contrary to) "
        rf"(?:of )?(?:my|our|the usage|the content|the safety)\b.{{0,40}}{_RULES}"
        r"|\b(?:violates?|breaks) (?:the|our|my) (?:\w+ )?(?:policy|guidelines|rules of safe)"
    ),
    "confidential": r"^\W*(?:my|those|these|that|this|the) (?:\w+ )?(?:instructions?|information|prompt|data|details?) (?:is|are) "
    r"(?:strictly )?(?:confidential|private)\b",
    "wrong for me": (
        r"\b(?:irresponsible|unethical|inappropriate|wrong|illegal|improper|dangerous|(?:not|n't) (?:be )?(?:appropriate|right|ethical"
        r"|responsible|possible|proper)) (?:of|for) (?:me|an ai|us)\b"
    ),
    "wrong to tell": rf"\b(?:would not|wouldn't) be (?:appropriate|right|ethical|responsible|safe) to {_DO}\b",
    "best not": r"\bi (?:think|believe)\b.*\bthat i (?:do not|don't|not)\b|\bi (?:do not|don't) think (?:that )?i (?:should|can)\b"
    r"|\bi (?:do not|don't) think (?:it|that|this) (?:would|is)\b.*\b(?:right|appropriate|wise) (?:for me|to help)\b",
    "so I won't": r"\b(?:so|and|why|but|therefore|hence) i (?:will not|won't|cannot|can't)(?: do (?:so|it|that|this))?\s*[.!]?$",
    "no answer": r"\b(?:requests?|question|prompt)\b.*\b(?:cannot|can't|can not) be (?:completed|fulfill?ed|processed|answered|granted)\b"
    r"|\bno (?:answer|response|help|information) can be (?:given|provided|offered)\b",
    "no way": r"\b(?:there is|there's) (?:no way|nothing) (?:that )?i can (?:do to )?(?:help|assist|answer|do)\b",
    "no access": (
        r"\bi (?:do not|don't|have no|lack) (?:have )?(?:the |any )?(?:way of |ability|capability|capacity|access|means|permission"
        r"|information needed)\b"
    ),
}
"""What declines wherever it stands in a sentence."""
_WAYS = tuple(re.compile(pattern, re.IGNORECASE) for pattern in WAYS.values())
_REGRET = re.compile(
    r"^\W*(?:no[,.;]?\s+|oh,?\s+|dear \w+,\s+)*(?:(?:i'?m|i am)\s+(?:\w+\s+)?(?:sorry|afraid)|sorry\b|i apologi[sz]e|(?:my )?apologies"
    r"|unfortunately|regrettably|i regret)",
    re.IGNORECASE,
)
_SYMPATHY = re.compile(r"\b(?:sorry|afraid) (?:to hear|for your|about|that you)\b", re.IGNORECASE)
_CANNOT = re.compile(
    r"\b(?:can\s?not|can'?t|could ?n'?t|unable|not able|won'?t|will not|must (?:decline|refuse)|(?:have|need) to (?:decline|refuse)"
    r"|do(?: not|n'?t) (?:have|feel|think|support|provide|engage)|not to (?:offer|provide|give)"
    r"|not (?:equipped|allowed|permitted|comfortable|appropriate|possible|going to (?:help|assist|provide|answer|do))"
    r"|against (?:my|the|our)|prohibit\w*|not something (?:i|that i)|beyond what i)\b",
    re.IGNORECASE,
)
_I_CANNOT = re.compile(
    r"\bi(?:'m| am)?\b[^.!?]{0,15}(?:\bcan\s?not|\bcan'?t|\bunable|\bnot (?:able|equipped|what i'm here)|\bdo(?: not|n'?t) have the)\b",
    re.IGNORECASE,
)
"""After a sentence of regret it declines wherever it stands."""
_MANNER = re.compile(
    r"^\W*(?:(?:i can(?:not|'t| not) (?:help (?:but|the)|wait|believe|stop|remember|imagine|say enough|express|recommend .* enough|stress))"
    r"|i(?:'m| am) (?:unable|not able) to (?:choose|decide|pick)\b|unfortunately, (?:there|it|many|most|some|the)\b(?!.*\bi\b))",
    re.IGNORECASE,
)
"""Begins like a refusal, and is none."""


def regrets(sentence: str) -> bool:
    """Words of regret that are not sympathy."""
    return bool(_REGRET.match(sentence)) and not _SYMPATHY.search(sentence)


def sentence_declines(sentence: str, *, regretted: bool = False) -> bool:
    """Whether a sentence declines; `regretted`: one before it was of regret."""
    if _MANNER.match(sentence):
        return False
    if regretted and _I_CANNOT.search(sentence):
        return True
    if _REGRET.match(sentence):  # regret alone is sympathy
        return _CANNOT.search(sentence) is not None
    return declines(sentence) or any(way.search(sentence) for way in _WAYS)
