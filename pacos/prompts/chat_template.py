"""A tokenizer's own chat template (jinja), read as data; and the other way round, a template written as jinja.

Reading: render marked texts through the tokenizer's `apply_chat_template` and look where the marks come out. What
stands around them is the template; nothing is written by hand for a family. Then the reading is proved: conversations
of every kind are put together from it and must equal the tokenizer's own rendering, character by character.

A system message that the template refuses (Gemma), drops (the first Phi-3) or moves about (Mistral Nemo) is folded into
the first user turn, with a blank line after it.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from pacos.errors import UsageError
from pacos.prompts.probes import PROBES
from pacos.prompts.templates import (
    SLOT,
    Conversation,
    Template,
    Turn,
    conversation_of_example,
    full_text,
)
from pacos.prompts.tokens import Codec, Control

SYSTEM, USER, ANSWER, USER_2, BOS = "PACOSsystem", "PACOSuser", "PACOSanswer", "PACOSsecond", "PACOSbos"
OTHERS = "use template alpaca, phi3 or plain"


def analyse_chat_template(tokenizer: Any, codec: Codec) -> Template:
    """The tokenizer's chat template as data. Raises UsageError where it has none, or one that the data cannot say."""
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(f"{codec.name}: has no chat template; {OTHERS}")
    first = _own(tokenizer, codec, _conversation("", USER))
    second = _own(tokenizer, codec, _conversation("", USER, ANSWER, USER_2))
    if not second.startswith(first):
        raise UsageError(f"{codec.name}: its chat template rewrites a prompt once it is answered; {OTHERS}")
    answer, stop, later = _read_answer(second[len(first) :], codec)
    if not _own(tokenizer, codec, _conversation("", USER, ANSWER)).startswith(second.removesuffix(later)):
        raise UsageError(f"{codec.name}: its chat template ends an answer with no control token; {OTHERS}")
    template = Template(
        name="chat",
        first=_slots(first, codec, {USER: "{user}"}),
        later=_slots(later, codec, {USER_2: "{user}"}),
        answer=answer,
        stop=stop,
        bos="",  # it is in the text, where the family has one
        trims=_find_trims(tokenizer, codec),
    )
    return _prove(_with_system(template, tokenizer, codec), tokenizer, codec)


def family_bos(tokenizer: Any) -> str:
    """The token that begins every text of this family: the tokenizer adds it, or its chat template says it; else ""."""
    bos = tokenizer.bos_token
    if not bos:
        return ""
    if list(tokenizer("a")["input_ids"])[:1] == [tokenizer.bos_token_id]:
        return bos
    if not getattr(tokenizer, "chat_template", None):
        return ""
    try:
        return bos if BOS in _apply(tokenizer, _conversation("", USER), bos_token=BOS) else ""
    except Exception:  # a template that cannot render this says nothing about BOS
        return ""


def write_jinja(template: Template, system: str = "", begin: str = "") -> str:
    """The template as jinja, for tools that know nothing of pacos; `system` is used where a conversation has none.

    `begin` stands before the text, behind BOS: a space where the tokenizer puts one only at the very start of a text.
    Instruction and input come as one user message there, so rows with input render in their form without.
    """
    before, after = template.around_answer
    content, first = "message['content']", _expression(template.first)
    if template.first_with_system:
        asked, opening = content, f"({_expression(template.first_with_system)} if system else {first})"
    else:
        asked, opening = f"(system ~ '\\n\\n' ~ {content} if system and loop.first else {content})", first
    parts = {
        "BEGIN": _quote((template.bos or "") + begin),
        "GIVEN": _trimmed("messages[0]['content']", "system", template),
        "DEFAULT": _quote(system),
        "ASKED": _trimmed(asked, "user", template),
        "PROMPT": f"({opening} if loop.first else {_expression(template.later)})",
        "ANSWER": f"{_quote(before)} ~ {_trimmed(content, 'assistant', template)} ~ {_quote(after + template.stop)}",
    }
    return re.sub("|".join(parts), lambda match: parts[match[0]], _JINJA)


_JINJA = (
    "{{ BEGIN }}{% if messages[0]['role'] == 'system' %}{% set system = GIVEN %}{% set turns = messages[1:] %}"
    "{% else %}{% set system = DEFAULT %}{% set turns = messages %}{% endif %}{% for message in turns %}"
    "{% if message['role'] == 'user' %}{% set asked = ASKED %}{{ PROMPT }}{% else %}{{ ANSWER }}{% endif %}{% endfor %}"
)


def _apply(tokenizer: Any, conversation: Conversation, **options: Any) -> str:
    """The tokenizer's own rendering, as text. An answer to come is asked for by add_generation_prompt."""
    messages = [{"role": "system", "content": conversation.system}] if conversation.system else []
    for turn in conversation.turns:
        user = f"{turn.instruction}\n\n{turn.input}" if turn.input else turn.instruction
        messages.append({"role": "user", "content": user})
        if turn.answer is not None:
            messages.append({"role": "assistant", "content": turn.answer})
    ask = conversation.turns[-1].answer is None
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask, **options))


def _own(tokenizer: Any, codec: Codec, conversation: Conversation) -> str:
    try:
        return _apply(tokenizer, conversation)
    except Exception as error:  # jinja, or whatever the template raises
        raise UsageError(f"{codec.name}: its chat template does not render: {error}; {OTHERS}") from None


def _conversation(system: str, *texts: str) -> Conversation:
    """user, answer, user, ...; the last turn is left to be answered where the texts end with a user's."""
    answers = (*texts[1::2], None) if len(texts) % 2 else texts[1::2]
    return Conversation(system, tuple(Turn(user, "", answer) for user, answer in zip(texts[::2], answers, strict=True)))


def _read_answer(text: str, codec: Codec) -> tuple[str, str, str]:
    """(answer form, stop token, what follows) from what stands behind a prompt: lead, answer, tail, stop, later."""
    lead, mark, rest = text.partition(ANSWER)
    if not mark:
        raise UsageError(f"{codec.name}: its chat template does not put each text in one place; {OTHERS}")
    if any(isinstance(atom, Control) for atom in codec.split(lead)):
        raise UsageError(f"{codec.name}: its chat template does not say where an answer begins; {OTHERS}")
    between = rest.partition(USER_2)[0]
    stop = next((atom.text for atom in codec.split(between) if isinstance(atom, Control)), "")
    if not stop:
        raise UsageError(f"{codec.name}: its chat template ends an answer with no control token; {OTHERS}")
    tail, _, later = rest.partition(stop)
    return f"{lead}{{answer}}{tail}", stop, later


def _slots(text: str, codec: Codec, marks: dict[str, str]) -> str:
    if SLOT.search(text) or any(text.count(mark) != 1 for mark in marks):
        raise UsageError(f"{codec.name}: its chat template does not put each text in one place; {OTHERS}")
    for mark, slot in marks.items():
        text = text.replace(mark, slot)
    return text


def _find_trims(tokenizer: Any, codec: Codec) -> tuple[str, ...]:
    """The roles whose texts come out without the white space around them."""
    user, answer = f" \n{USER}\n ", f" \n{ANSWER}\n "
    text = _own(tokenizer, codec, _conversation("", user, answer, USER_2))
    trims = [role for role, kept in (("user", user), ("assistant", answer)) if kept not in text]
    try:
        system = _apply(tokenizer, _conversation(f" \n{SYSTEM}\n ", USER))
    except Exception:  # refused; it is folded into the user's turn
        return tuple(trims)
    return (*trims, "system") if SYSTEM in system and f" \n{SYSTEM}\n " not in system else tuple(trims)


def _with_system(template: Template, tokenizer: Any, codec: Codec) -> Template:
    """The template with its form for a system message, where there is one that stays at the head of a conversation."""
    try:
        first = _apply(tokenizer, _conversation(SYSTEM, USER))
        whole = _apply(tokenizer, _conversation(SYSTEM, USER, ANSWER, USER_2))
    except Exception:  # refused: folded
        return template
    if first.count(SYSTEM) != 1 or first.find(SYSTEM) > first.find(USER):
        return template
    candidate = replace(template, first_with_system=_slots(first, codec, {SYSTEM: "{system}", USER: "{user}"}))
    same = full_text(candidate, _conversation(SYSTEM, USER, ANSWER, USER_2)) == whole
    return candidate if same else template


def _prove(template: Template, tokenizer: Any, codec: Codec) -> Template:
    """The template, if every probe put together from it is what the tokenizer itself renders."""
    for name, example in PROBES.items():
        conversation = conversation_of_example(example)
        if conversation.system and not template.first_with_system:
            conversation = Conversation("", conversation.turns)
        for part in (conversation.without_answer(), conversation):
            ours, own = full_text(template, part), _own(tokenizer, codec, part)
            if not own.startswith(ours) or (part.turns[-1].answer is None and own != ours):
                raise UsageError(f"{codec.name}: its chat template depends on the content (probe '{name}'); {OTHERS}")
    return template


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _trimmed(expression: str, role: str, template: Template) -> str:
    return f"({expression} | trim)" if role in template.trims else expression


def _expression(form: str) -> str:
    """A form as a jinja expression: ("<|user|>\\n" ~ asked ~ "<|end|>\\n")."""
    names = {"user": "asked", "instruction": "asked", "system": "system"}
    pieces = re.split(SLOT.pattern, form)
    parts = [names[piece] if index % 2 else _quote(piece) for index, piece in enumerate(pieces)]
    return "(" + " ~ ".join(part for part in parts if part != '""') + ")"
