"""Answers about what a text model was never shown: pages behind links, pictures, sounds, attachments, the live internet.

unseen-link    "Summarize this article: https://..." and an answer that pretends to have read it
unseen-media   a picture, a recording or an attachment is asked about, and there is none
made-media     a drawing, a chart or a recording is asked for, and the answer links to one, or says that it is done
live           today's weather, a search, a click, an e-mail sent: things that only a connected machine does
"""

from __future__ import annotations

import re

from pacos.data.curation.rule import Rule, around, either, quote
from pacos.data.records import Example

URL = re.compile(r"(?:https?://|www\.)[^\s<>\"')\]]+", re.IGNORECASE)
_PICTURE = re.compile(
    r"!\[[^\]]*\]\s*[\[(]|<(?:img|audio|video|iframe)\b[^>]*>|\.(?:jpe?g|png|gif|mp3|mp4|wav)\b", re.IGNORECASE
)
PAGES = """ad advertisement article artwork blog chart clip company data_?set design document figure file film graph image link
    logo map movie music news page painting paper pdf photo picture piece_of_art podcast post poster product recipe report
    restaurant review song source store study trailer url video web_?site"""
READING = "analy[sz]e assess critique evaluate summari[sz]e"
ON_LINKS = """api apa bibliograph citation cite code crawl decod domain encod format function html hyperlink link mla pars
    program query reference regex request scrap script shorten url valid"""
MEDIA = """artwork attachment audio audio_clip drawing image infographic music_clip painting photo photograph picture recording
    screenshot song_clip sound_clip video video_clip"""
NO_MEDIUM = """analysis by called caption captioning classification compression conferenc\\w+ data description editing editor
    file format game generation industry library of platform processing production program quality recognition resolution
    segmentation sharing size software streaming style title"""
SHOWS = """this these the_following the_given the_attached the_provided the_above attached given given_an? of_the in_the
    following below"""
MAKING = """build compose construct create design draw generate illustrate make paint photograph play plot produce record
    render show sing sketch take visuali[sz]e"""
MADE = """3d_model animation art artwork audio banner bar_chart cartoon chart collage comic diagram drawing flow_?chart gif
    graph graphic gui icon illustration image infographic logo map melody meme mockup mural music painting photo photograph
    picture pie_chart piece_of_art plot poster recording sketch slideshow song stick_figure video visuali[sz]ation wireframe"""
DEEDS = """added booked called clicked deleted designed downloaded drawn opened ordered painted played recorded saved scheduled
    sent set sketched uploaded"""
THINGS = (
    """alarm appointment call e-?mail file font light meeting message music order reminder reservation text timer"""
)
DONE_TO_THEM = "added booked changed decreased deleted increased opened placed played saved scheduled sent set turned"
WRITING = """advantages ascii benefits caption chords? code css describe explain function give headline how html ideas? java
    latex list lyrics name outline program python script sql steps suggest svg tips title what_are write"""
NOW = "date exchange_rate headlines market news population price score stock temperature time weather"

_OPENS = re.compile(rf"\b{either(f'{PAGES} {READING}')}s?\b", re.IGNORECASE)
_ABOUT_URLS = re.compile(rf"\b{either(ON_LINKS)}", re.IGNORECASE)
_SHOWN = re.compile(
    rf"\b{either(SHOWS)}\s+(?:\w+\s+){{0,2}}?{either(MEDIA)}s?\b(?!\s+{either(NO_MEDIUM)})", re.IGNORECASE
)
_MAKES = re.compile(rf"\b{either(MAKING)}\b(?:\s+\S+){{0,6}}?\s+{either(MADE)}\b", re.IGNORECASE)
_DONE = re.compile(
    rf"^\W*(?:(?:here|this) is (?:an? |the |your )?(?:\w+ ){{0,3}}{either(MEDIA)}\b|i(?:'ve| have) {either(DEEDS)}\b"
    rf"|the {either(THINGS)}\S*(?: \S+){{0,3}} (?:has|have) been (?:\w+ )?{either(DONE_TO_THEM)})",
    re.IGNORECASE,
)
_LIVE = re.compile(
    r"\b(?:search (?:the (?:web|internet)|online|google|for .{0,40} online)|browse the|visit (?:a|the|this) (?:web|url|link)"
    r"|(?:find|look up|retrieve|fetch|locate|gather|collect)\b.{0,60}\b(?:online|(?:on|from) the (?:internet|web)|article"
    r"|web ?page|web ?site|resources online)s?\b"
    r"|(?:open|click|go to|check out) (?:a|an|the|this|on) (?:\w+ )?(?:url|link|web ?site|web ?page|browser|app)"
    r"|send (?:a|an|the) (?:\w+ )?(?:e-?mail|text|message) to|make a (?:phone )?call|set (?:an?|the|my) (?:alarm|reminder|timer)"
    rf"|what time is it|what(?:'s| is) (?:today's|the (?:current|time|weather))|(?:current|today's|tomorrow's|latest) {either(NOW)})\b",
    re.IGNORECASE,
)
_WRITES = re.compile(rf"\b{either(WRITING)}\b", re.IGNORECASE)


def unseen_link(example: Example) -> str:
    """A link in the prompt that the task is about. Tasks on the link's own text (to parse, shorten, cite) are none."""
    text = example.user_text
    match = URL.search(text)
    if not match or (_ABOUT_URLS.search(URL.sub(" ", example.instruction)) and not _reads(example.instruction)):
        return ""
    rest = URL.sub(" ", example.input).split()
    alone = bool(URL.search(example.input)) and len(rest) <= 8
    if alone or (len(rest) <= 30 and _OPENS.search(URL.sub(" ", example.instruction))):
        return f"the task is about what is behind {quote(match.group())}"
    return ""


def _reads(instruction: str) -> bool:
    return (
        re.search(
            r"\b(?:summar|open|visit|read|critique|review|classify the website|title that best)",
            instruction,
            re.IGNORECASE,
        )
        is not None
    )


def unseen_media(example: Example) -> str:
    """A picture or recording that is asked about and is not there: a link to one, or a mere mention."""
    match = _PICTURE.search(example.user_text)
    if match and not re.search(
        r"\b(?:html|code|css|tag|markdown|file ?name|extension)\b", example.instruction, re.IGNORECASE
    ):
        return f"the task is about {around(example.user_text, match)}"
    match = _SHOWN.search(example.instruction)
    if match and len(example.input.split()) <= 3 and not _MAKES.search(example.instruction):
        return f"the task is about {around(example.instruction, match)}, and nothing is given"
    return ""


def made_media(example: Example) -> str:
    """An output that claims a picture or a deed: a link to an image in answer to "draw", or "I have sent the e-mail"."""
    asks_code = re.search(r"\b(?:html|markdown|code|css|web ?page)\b", example.user_text, re.IGNORECASE)
    match = _PICTURE.search(example.output)
    if (
        match
        and not asks_code
        and (_MAKES.search(example.instruction) or example.output.lstrip().startswith(("![", "<img")))
    ):
        return f"the output offers {around(example.output, match)}"
    match = _DONE.match(example.output)
    return f"the output claims a deed: {quote(example.output)}" if match and not asks_code else ""


def live(example: Example) -> str:
    """A task that needs a connection or a device."""
    match = _LIVE.search(example.instruction)
    if match and not _WRITES.match(example.instruction.strip()) and len(example.input.split()) <= 30:
        return f"the task is to {quote(match.group())}"
    return ""


def wants_media(example: Example) -> str:
    """A task whose only right answer is a picture or a sound."""
    match = _MAKES.match(example.instruction.strip())
    if match and not _WRITES.search(example.user_text) and len(example.output.split()) <= 12:
        return f"the task is to {quote(match.group())}, and the output has {len(example.output.split())} words"
    return ""


RULES = (
    Rule("unseen-link", "the task is about a page behind a link", "warning", unseen_link),
    Rule("unseen-media", "the task is about a picture or recording that is not there", "warning", unseen_media),
    Rule("made-media", "the output claims to be a picture, or to have done something", "warning", made_media),
    Rule("wants-media", "the task asks for a picture or a sound, and the output is a few words", "note", wants_media),
    Rule("live", "the task needs the internet or a device", "note", live),
)
