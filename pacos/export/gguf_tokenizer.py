"""A tokenizer as GGUF metadata, from its tokenizer.json: vocabulary, kinds of token, merges or scores, how text is cut.

    byte-level BPE    model "gpt2": tokens, merges, and by name the rule that cuts text before merging
    SentencePiece     model "llama": tokens, scores (the rank of the merge that makes a token), the space put before text

A rule that llama.cpp has no name for is refused: with another one the same text would become other ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pacos.errors import UsageError
from pacos.prompts import Renderer
from pacos.prompts.chat_template import family_bos

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CUTS = {LLAMA3: "llama-bpe", LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"): "qwen2", TEKKEN: "tekken"}
"""Pattern of tokenizer.json -> llama.cpp's name of it."""
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
NO_SCORE = -1e9
"""Of single characters, which no merge makes."""


def tokenizer_metadata(renderer: Renderer, contract: Mapping[str, Any], vocab_size: int, jinja: str) -> dict[str, Any]:
    """The `tokenizer.*` keys, with the trained stops and the chat template. Raises UsageError."""
    tokenizer = renderer.tokenizer
    tree = json.loads(tokenizer.backend_tokenizer.to_str())
    model = tree["model"]
    if model["type"] != "BPE":
        raise UsageError(f"GGUF: a tokenizer of kind {model['type']} is not written here; known: BPE")
    tokens, kinds = _tokens(tree, vocab_size)
    found: dict[str, Any] = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds}
    found |= _sentencepiece(tree, tokens) if model.get("byte_fallback") else _byte_level(tree)
    stops = [stop["id"] for stop in contract["stop"]]
    found["tokenizer.ggml.eos_token_id"] = stops[0]
    # llama.cpp ends an answer at each of these
    found["tokenizer.ggml.eot_token_id"] = stops[1] if len(stops) > 1 else stops[0]
    if tokenizer.bos_token_id is not None:
        found["tokenizer.ggml.bos_token_id"] = tokenizer.bos_token_id
    if tokenizer.unk_token_id is not None:
        found["tokenizer.ggml.unknown_token_id"] = tokenizer.unk_token_id
    found["tokenizer.ggml.padding_token_id"] = (
        tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    )
    found["tokenizer.ggml.add_bos_token"] = adds_bos(renderer, contract)
    found["tokenizer.ggml.add_eos_token"] = False
    found["tokenizer.chat_template"] = jinja
    return found


def adds_bos(renderer: Renderer, contract: Mapping[str, Any]) -> bool:
    """Whether every text begins with BOS, so that an engine is to put it there; never where the template's words do."""
    return bool(contract["bos"]["token"] or family_bos(renderer.tokenizer))


def _tokens(tree: Mapping[str, Any], vocab_size: int) -> tuple[list[str], list[int]]:
    """Every id's text and kind; ids that only pad the embedding are named [PADn]."""
    names = {id: token for token, id in tree["model"]["vocab"].items()}
    kinds = {id: BYTE for id, token in names.items() if BYTE_TOKEN.fullmatch(token)}
    unknown = tree["model"].get("unk_token")
    for added in tree["added_tokens"]:
        names[added["id"]] = added["content"]
        kinds[added["id"]] = CONTROL if added["special"] else USER_DEFINED
        if added["content"] == unknown:
            kinds[added["id"]] = UNKNOWN
    if max(names) >= vocab_size:
        raise UsageError(f"GGUF: the tokenizer has ids up to {max(names)}, and the model has {vocab_size} rows")
    ids = range(vocab_size)
    return [names.get(i, f"[PAD{i}]") for i in ids], [kinds.get(i, NORMAL) if i in names else UNUSED for i in ids]


def _byte_level(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": cut_name(tree["pre_tokenizer"]),
        "tokenizer.ggml.merges": [_joined(merge) for merge in tree["model"]["merges"]],
    }


def _joined(merge: str | list[str]) -> str:
    return merge if isinstance(merge, str) else " ".join(merge)


def cut_name(pre_tokenizer: Mapping[str, Any] | None) -> str:
    """llama.cpp's name of how a byte-level vocabulary cuts text. Raises UsageError where it has none."""
    parts = list((pre_tokenizer or {}).get("pretokenizers") or [pre_tokenizer or {}])
    kinds = [part.get("type") for part in parts]
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and (name := CUTS.get(parts[0]["pattern"].get("Regex", ""))):
        return name
    raise UsageError(
        "GGUF: llama.cpp has no name here for how this tokenizer cuts text "
        f"({json.dumps(pre_tokenizer)[:200]}); known: gpt-2, smollm, {', '.join(CUTS.values())}"
    )


def _sentencepiece(tree: Mapping[str, Any], tokens: list[str]) -> dict[str, Any]:
    """llama.cpp joins the pair whose whole has the highest score: minus the rank of the first merge that makes it."""
    rank: dict[str, int] = {}
    for i, merge in enumerate(tree["model"]["merges"]):
        rank.setdefault(_joined(merge).replace(" ", "", 1) if isinstance(merge, str) else "".join(merge), i)
    found = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": [float(-rank[token]) if token in rank else NO_SCORE for token in tokens],
        "tokenizer.ggml.add_space_prefix": _puts_space(tree),
    }
    # readers that would derive the merges from the scores get them as they are
    return {**found, "tokenizer.ggml.merges": [_joined(merge) for merge in tree["model"]["merges"]]}


def _puts_space(tree: Mapping[str, Any]) -> bool:
    text = json.dumps([tree["normalizer"], tree["pre_tokenizer"]])
    return '"Prepend"' in text or bool(re.search(r'"prepend_scheme": "(first|always)"', text))
