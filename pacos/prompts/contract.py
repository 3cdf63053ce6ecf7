"""The template contract: what a model was trained to read, checked in token ids.

Written at training, kept in the run's folder, checked at every load: the template as data, the tokens that stop and
begin, the tokenizer's hash, and twenty probe conversations with their exact ids and loss. Whoever loads the folder
renders the probes again and must get the same ids, or is told where they first differ and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from pacos.data.records import Example, Message
from pacos.errors import GateError, UsageError
from pacos.prompts.chat_template import write_jinja
from pacos.prompts.probes import PROBES
from pacos.prompts.render import Renderer
from pacos.prompts.templates import template_from_tree

VERSION = 1
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError)


def make_contract(renderer: Renderer) -> dict[str, Any]:
    """The contract as plain JSON values."""
    return {**_head(renderer), "probes": [_probe(renderer, name, example) for name, example in PROBES.items()]}


def largest_id(contract: Mapping[str, Any]) -> int:
    """The largest token id among its probes and stops."""
    probes = (id for probe in contract["probes"] for id in (*probe["prompt_ids"], *probe["ids"]))
    return max((*probes, *(stop["id"] for stop in contract["stop"])))


def check_contract(contract: Mapping[str, Any], renderer: Renderer) -> None:
    """Raises GateError that names the first token that differs, and why; silent where all is as it was trained."""
    try:
        _check(contract, renderer)
    except _DAMAGE as error:
        raise _damaged(error) from None


def renderer_from_contract(contract: Mapping[str, Any], tokenizer: Any) -> Renderer:
    """The renderer that the model was trained with, checked. Raises GateError."""
    try:
        template, system = template_from_tree(dict(contract["template"])), contract["system"]
        if not isinstance(system, str):
            raise TypeError(f"system is {system!r}")
        renderer = Renderer(tokenizer, template, system)
    except _DAMAGE as error:
        raise _damaged(error) from None
    except UsageError as error:
        raise GateError(f"template contract: {error}") from None
    check_contract(contract, renderer)
    return renderer


def differing_probes(contract: Mapping[str, Any], renderer: Renderer) -> list[str]:
    """Names of the probes whose ids are others with this renderer, whatever it was made from."""
    rows = ((probe, renderer.render_example(_example(probe))) for probe in contract["probes"])
    return [probe["name"] for probe, row in rows if list(row.ids) != list(probe["ids"])]


def chat_template_jinja(renderer: Renderer) -> str:
    """What to save as chat_template.jinja: the model's own where it says the same, else the contract's as jinja.

    With the folder's tokenizer, it gives the contract's ids for ordinary conversations in tools that know no contract.
    """
    own = renderer.tokenizer.chat_template
    if renderer.template.name == "chat" and isinstance(own, str) and not renderer.system and "strftime" not in own:
        return own
    messages = [{"role": "user", "content": "Hi"}]
    ids = list(renderer.render_chat([Message("user", "Hi")]))
    # SentencePiece may put its space at the very start alone; behind a BOS that stands in the text, the text brings it
    for begin in ("", " "):
        jinja = write_jinja(renderer.template, renderer.system, begin)
        text = renderer.tokenizer.apply_chat_template(messages, tokenize=False, chat_template=jinja)
        if renderer.tokenizer(text, add_special_tokens=False)["input_ids"] == ids:
            break
    return jinja


def _head(renderer: Renderer) -> dict[str, Any]:
    codec, bos = renderer.codec, renderer.template.bos or ""
    return {
        "version": VERSION,
        "template": renderer.template.to_tree(),
        "system": renderer.system,
        "stop": [{"id": id, "token": codec.token_text(id)} for id in renderer.stop_ids],
        "bos": {"id": codec.control_id(bos), "token": bos},
        "tokenizer_sha256": codec.sha256,
    }


def _probe(renderer: Renderer, name: str, example: Example) -> dict[str, Any]:
    rendered = renderer.render_example(example)
    return {
        "name": name,
        "system": example.system,
        "history": [asdict(message) for message in example.history],
        "instruction": example.instruction,
        "input": example.input,
        "output": example.output,
        "prompt_ids": list(renderer.render_prompt(example)),
        "ids": list(rendered.ids),
        "loss": _spans(rendered.loss_mask),
    }


def _check(contract: Mapping[str, Any], renderer: Renderer) -> None:
    if contract["version"] != VERSION:
        raise GateError(f"template contract: version {contract['version']!r} is not known here; it is {VERSION}")
    if not contract["probes"]:
        raise GateError("template contract: it has no probes; take the run's own files")
    cause = _cause(contract, renderer)
    for probe in contract["probes"]:
        again = _probe(renderer, probe["name"], _example(probe))
        for key in ("prompt_ids", "ids"):
            _compare(probe["name"], probe[key], again[key], renderer, cause)
        if probe["loss"] != again["loss"]:
            raise GateError(
                f"template contract: probe '{probe['name']}': loss on {again['loss']}, trained {probe['loss']}"
            )
    if cause:
        raise GateError(f"template contract: {cause}")


def _cause(contract: Mapping[str, Any], renderer: Renderer) -> str:
    """What differs besides the ids of the probes: the usual reason for theirs."""
    now = _head(renderer)
    if contract["tokenizer_sha256"] != now["tokenizer_sha256"]:
        was, is_now = str(contract["tokenizer_sha256"])[:12], now["tokenizer_sha256"][:12]
        return (
            f"the tokenizer is another one ({was} in training, {is_now} here); load the tokenizer of the run's folder"
        )
    for key in ("template", "system", "stop", "bos"):
        if contract[key] != now[key]:
            return f"the {key} is another one ({contract[key]!r} in training, {now[key]!r} here)"
    return ""


def _compare(name: str, trained: Sequence[int], here: Sequence[int], renderer: Renderer, cause: str) -> None:
    if list(trained) == list(here):
        return
    shared = zip(trained, here, strict=False)
    at = next((i for i, (a, b) in enumerate(shared) if a != b), min(len(trained), len(here)))
    reason = (
        cause or "the vocabulary is the same, so the tokenizer cuts text up in another way; install the run's versions"
    )
    raise GateError(
        f"template contract: probe '{name}' differs at token {at}: "
        f"{_show(trained, at, renderer)} in training, {_show(here, at, renderer)} here: {reason}"
    )


def _show(ids: Sequence[int], at: int, renderer: Renderer) -> str:
    return f"{ids[at]} {renderer.codec.token_text(ids[at])!r}" if at < len(ids) else "the end"


def _example(probe: Mapping[str, Any]) -> Example:
    history = tuple(Message(turn["role"], turn["content"]) for turn in probe["history"])
    return Example(probe["instruction"], probe["input"], probe["output"], probe["system"], history)


def _spans(mask: Sequence[bool]) -> list[list[int]]:
    """[start, end) of each run of tokens that carry loss."""
    spans, at = [], 0
    for loss, run in groupby(mask):
        length = sum(1 for _ in run)
        if loss:
            spans.append([at, at + length])
        at += length
    return spans


def _damaged(error: Exception) -> GateError:
    return GateError(f"template contract: damaged ({type(error).__name__}: {error}); take the run's own files again")
