"""A Modelfile for Ollama: the file, a TEMPLATE that renders the trained text, the trained stops, context and sampling.

The template is written from the contract's, every text as a quoted literal, so that no white space depends on dashes. It
is proved by rendering it (go_template.py) on the contract's probes. Ollama joins instruction and input into one user
message, cannot strip white space, and puts BOS itself; a probe that needs the stripping is left out, by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pacos.data.records import Message
from pacos.errors import DataError, GateError
from pacos.export.gguf_tokenizer import adds_bos
from pacos.export.go_template import GoTemplate
from pacos.prompts import Renderer, Template
from pacos.prompts.templates import SLOT, conversation_of_messages, full_text

MODELFILE = "Modelfile"
MOST_CONTEXT = 8192
"""Ollama sets memory aside for all of it; more can be asked for at any time."""
SLOTS = {"user": ".Content", "instruction": ".Content", "system": "$system"}


def write_modelfile(
    folder: Path, file: str, contract: Mapping[str, Any], renderer: Renderer, context: int
) -> list[str]:
    """Write it, prove its template, and return the names of the probes that Ollama cannot render. Raises GateError."""
    template = go_text(renderer.template, renderer.system, bos_in_text(contract, renderer))
    left_out, wrong = check_template(template, contract, renderer)
    if wrong:
        raise GateError(f"Ollama's template renders other text for the probes: {', '.join(wrong)}")
    lines = [f"FROM ./{file}", f'TEMPLATE """{template}"""']
    lines += [f"PARAMETER stop {json.dumps(stop['token'])}" for stop in contract["stop"]]
    # the likeliest token each time, nothing taken off for repetition: as `pacos chat` answers
    lines += [
        f"PARAMETER num_ctx {min(context, MOST_CONTEXT)}",
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1",
    ]
    (folder / MODELFILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return left_out


def bos_in_text(contract: Mapping[str, Any], renderer: Renderer) -> str:
    """The BOS that the template's own words begin with, which the engine puts there instead; else ""."""
    bos = renderer.tokenizer.bos_token or ""
    return bos if bos and adds_bos(renderer, contract) and renderer.template.first.startswith(bos) else ""


def go_text(template: Template, system: str, bos: str = "") -> str:
    """The template in Go's language; `bos` is taken off its beginning."""
    folded = "" if template.first_with_system else '{{ if $system }}{{ $system }}{{ "\\n\\n" }}{{ end }}'
    first = _actions(template.first.removeprefix(bos), folded)
    opening = first
    if template.first_with_system:
        with_system = _actions(template.first_with_system.removeprefix(bos))
        opening = f"{{{{ if $system }}}}{with_system}{{{{ else }}}}{first}{{{{ end }}}}"
    before, after = template.around_answer
    return (
        f"{{{{ $system := {_quoted(system)} }}}}{{{{ $first := true }}}}"
        '{{ range .Messages }}{{ if eq .Role "system" }}{{ $system = .Content }}{{ end }}{{ end }}'
        '{{ range .Messages }}{{ if eq .Role "user" }}'
        f"{{{{ if $first }}}}{opening}{{{{ $first = false }}}}{{{{ else }}}}{_actions(template.later)}{{{{ end }}}}"
        f'{{{{ else if eq .Role "assistant" }}}}{_literal(before)}{{{{ .Content }}}}{_literal(after + template.stop)}'
        "{{ end }}{{ end }}"
    )


def _actions(form: str, before_user: str = "") -> str:
    """A form as literals and slots; `before_user` stands before what the user says."""
    pieces = re.split(SLOT.pattern, form)
    parts = []
    for i, piece in enumerate(pieces):
        if not i % 2:
            parts.append(_literal(piece))
        else:
            parts.append((before_user if piece != "system" else "") + f"{{{{ {SLOTS[piece]} }}}}")
    return "".join(parts)


def _literal(text: str) -> str:
    return f"{{{{ {_quoted(text)} }}}}" if text else ""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace('"""', '"\\u0022"')


def check_template(text: str, contract: Mapping[str, Any], renderer: Renderer) -> tuple[list[str], list[str]]:
    """Names of the probes that are left out, since they need stripping, and of those that come out as other text."""
    template, own = GoTemplate(text), renderer.template
    bos = bos_in_text(contract, renderer) or (own.bos or "")
    left_out, wrong = [], []
    for probe in contract["probes"]:
        messages = messages_of(probe)
        if any(m.role in own.trims and m.content != m.content.strip() for m in messages):
            left_out.append(probe["name"])
            continue
        conversation = renderer._with_system(conversation_of_messages(messages))
        expected = full_text(own, conversation).removeprefix(bos)
        given = [{"Role": m.role, "Content": m.content} for m in messages]
        if template.render({"Messages": given, "System": "", "Prompt": ""}) != expected:
            wrong.append(probe["name"])
    return left_out, wrong


def messages_of(probe: Mapping[str, Any]) -> list[Message]:
    """A probe's prompt as chat messages, instruction and input in one."""
    user = f"{probe['instruction']}\n\n{probe['input']}" if probe["input"] else probe["instruction"]
    system = [Message("system", probe["system"])] if probe["system"] else []
    history = [Message(turn["role"], turn["content"]) for turn in probe["history"]]
    return [*system, *history, Message("user", user)]


def read_modelfile(path: Path) -> dict[str, Any]:
    """from, template, system and stops of a Modelfile. Raises DataError where it has no FROM."""
    text = path.read_text(encoding="utf-8")
    found: dict[str, Any] = {"from": "", "template": "", "system": "", "stops": [], "parameters": {}}
    pattern = r'^(FROM|TEMPLATE|SYSTEM|PARAMETER)\s+("""(?P<long>.*?)"""|(?P<line>[^\n]*))'
    for match in re.finditer(pattern, text, re.DOTALL | re.MULTILINE | re.IGNORECASE):
        value = match["long"] if match["long"] is not None else _unquoted(match["line"].strip())
        key = match[1].lower()
        if key == "parameter":
            name, _, argument = value.partition(" ")
            argument = _unquoted(argument.strip())
            found["parameters"][name] = argument
            found["stops"] += [argument] if name == "stop" else []
        else:
            found[key] = value
    if not found["from"]:
        raise DataError(f"{path}: not a Modelfile: it has no FROM")
    return found


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text[1:-1]
    return text
