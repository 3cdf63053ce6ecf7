"""The root verb of an instruction and the noun it acts on: `Write a short story about a cat` -> (write, story).

The plot of the Self-Instruct and Alpaca reports, there made with a parser of 100 MB. Here: the first word that is a known
verb in its base form, where a request would put it; then the head of the noun phrase behind it, which is its last word
before a preposition, a conjunction, a relative word or a mark.
"""

from __future__ import annotations

import re

from pacos.data.curation.rule import words

VERBS = words(
    "accept act add address adjust advise alter analyse analyze animate announce answer apply appraise argue"
    " arrange articulate ask assemble assess assign"
    " assume automate balance brainstorm break brief build calculate call capitalize caption carry categorize"
    " change characterize chart check choose cite"
    " clarify classify clean collect combine come comment communicate compare compile complete compose compute"
    " conclude condense conduct configure connect"
    " consider construct contrast contribute convert convince correct count craft create critique cut debug"
    " decide declare decode decrease deduce defend"
    " define delete deliver demonstrate derive describe design detect determine develop devise diagnose diagram"
    " differentiate discover discuss display"
    " distinguish divide do draft draw edit elaborate eliminate emphasize encode enhance enumerate establish"
    " estimate evaluate examine execute expand explain"
    " explore express extend extract fill filter find finish fix flag fold follow forecast form format formulate"
    " gather generate give group guess help"
    " highlight hypothesize identify illustrate imagine implement improve include increase infer inform insert"
    " inspect install interpret introduce invent"
    " invert investigate invite join judge justify keep label lay learn leave link list locate look maintain make"
    " map mark match mention merge model modify"
    " multiply name narrate navigate normalize note number offer open optimize order organize outline output"
    " paint pair paraphrase parse perform pick pitch"
    " place plan play plot point portray pose predict prepare present print prioritize process produce program"
    " promote pronounce proofread propose prove"
    " provide publish punctuate put question quote randomize rank rate reach read rearrange rebut recite"
    " recognize recommend reconstruct record recreate"
    " reduce refactor refer reflect reformat refute relate remove rename render reorder reorganize repeat"
    " rephrase replace reply report represent"
    " reproduce request research reshape resolve respond restate restructure retell retrieve return reverse"
    " review revise reword rewrite round sample"
    " schedule score scramble search select send separate set share shorten show shuffle simplify simulate sketch"
    " solve sort speak specify spell split state"
    " structure study substitute subtract suggest sum summarise summarize supply support swap switch synthesize"
    " tag take talk teach tell test think"
    " trace track train transcribe transform translate transpose try turn tweet uncover unscramble update use"
    " utilize validate verify visualize vote"
    " weigh word work write"
)
_ARTICLES = words(
    "a an the this that these those my your our their his her its some any each every all both another one two"
    " three four five six seven eight nine ten"
    " several many more most few following given below above provided me us them him it you at least different"
    " various appropriate up out down off"
    " please"
)
_STOPS = words(
    "of for to in on about with from by as at into between among using based that which who whose where when how"
    " why what if and or so because"
    " according without within through over under against during regarding describing explaining containing"
    " called named titled is are was were be has"
    " have can could should would will than like not only before after while until including given below related"
    " involving then also per via out off"
    " showing comparing summarizing written suitable inspired consisting such explaining discussing used made"
    " featuring"
)
_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]")
_QUESTIONS = words(
    "what which who whose whom where when why how is are was were do does did can could should would will has have"
)
_REQUESTS = (
    "can you",
    "could you",
    "would you",
    "will you",
    "i want you to",
    "i need you to",
    "i would like you to",
    "your task is to",
    "you need to",
    "you are asked to",
)


def verb_and_noun(instruction: str) -> tuple[str, str]:
    """(verb, noun), in lower case; ('', '') for a question or where no verb is known, (verb, '') where it has no object."""
    text = instruction[:400]
    lowered = text.lower()
    for request in _REQUESTS:
        if lowered.startswith(request):
            text, lowered = text[len(request) :], lowered[len(request) :]
    tokens = _TOKEN.findall(lowered)
    if not tokens or tokens[0] in _QUESTIONS:
        return "", ""
    at = next((n for n, token in enumerate(tokens) if token in VERBS and _asks(tokens, n)), None)
    return ("", "") if at is None else (tokens[at], _head(tokens[at + 1 :]))


def _asks(tokens: list[str], at: int) -> bool:
    """Whether a request would put its verb here: at the beginning, or behind a mark, `to`, `please` or an adverb."""
    before = tokens[at - 1] if at else "."
    return at == 0 or before in {".", ",", ":", ";", "please", "then", "and", "!"} or before.endswith("ly")


def _head(tokens: list[str]) -> str:
    """The last word of the noun phrase that begins here; `list` in `a list of ten verbs`."""
    phrase: list[str] = []
    for token in tokens[:14]:
        if not phrase and (token in _ARTICLES or token.isdecimal() or token.endswith("-word")):
            continue
        if not token[0].isalnum():
            if token in "'\"“”‘’`" and not phrase:
                continue
            break
        if token in _STOPS:
            if phrase or token not in {"of"}:
                break
            continue
        phrase.append(token)
    if len(phrase) > 1 and phrase[-1] in {"one", "ones"}:  # the odd one: it stands for a noun that is not named
        phrase.pop()
    return _singular(phrase[-1]) if phrase and phrase[-1].isalpha() else ""


def _singular(noun: str) -> str:
    if len(noun) < 4 or noun.endswith(("ss", "us", "is")):
        return noun
    if noun.endswith("ies"):
        return f"{noun[:-3]}y"
    return noun[:-2] if noun.endswith(("ches", "shes", "sses", "xes")) else noun[:-1] if noun.endswith("s") else noun
