"""Text <-> token ids for one tokenizer, with its control tokens kept apart from text.

A tokenizer finds its added tokens (<|end|>, <s>, <tool_call> ...) wherever their characters stand. Here that happens in
a template's own words alone (`split`); text is encoded by copies of the tokenizer that have no added tokens, so what a
user types can never be one. Added tokens of white space that the vocabulary knows too (Gemma's runs of line ends) stay:
they mean what they say.

SentencePiece tokenizers put a space before text, always or only at the very start; so there are two copies, with and
without it. (Their sign for a space, U+2581, typed, is a space: they have no other.) Ids become bytes, and bytes text,
which is exact for every token.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pacos.errors import UsageError

SPACE = "\u2581"
BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True, slots=True)
class Control:
    """An added token: its id, and whether it swallows the white space beside it, as Phi-3's `<|user|>` does."""

    id: int
    text: str
    special: bool
    lstrip: bool
    rstrip: bool


class Codec:
    """Text <-> ids of a fast tokenizer. Raises UsageError for kinds of tokenizer that cannot be taken apart exactly."""

    def __init__(self, tokenizer: Any):
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise UsageError(f"{_name(tokenizer)}: a fast tokenizer (with a tokenizer.json) is needed")
        self.name = _name(tokenizer)
        self._backend = backend
        self._byte_level = _is_byte_level(_parts(_tree(backend.decoder)), self.name)
        added = backend.get_added_tokens_decoder().items()
        self._spaces = [t for id, t in added if _is_space(t.content) and backend.model.token_to_id(t.content) == id]
        self.controls = {t.content: _control(id, t) for id, t in added if t not in self._spaces}
        self._by_id = {control.id: control for control in self.controls.values()}
        self._look = re.compile("|".join(map(re.escape, sorted(self.controls, key=len, reverse=True))) or r"(?!)")
        self._cache: dict[int, bytes] = {}
        self._bare, self._prefixed = self._build_encoders()
        self._check_that_text_stays_text(getattr(backend.model, "unk_token", None))

    def encode(self, texts: Sequence[str], prefixed: bool) -> list[list[int]]:
        """Ids of each text, none a control token; `prefixed` puts the space that SentencePiece puts at a start."""
        encoder = self._prefixed if prefixed else self._bare
        return [encoding.ids for encoding in encoder.encode_batch_fast(list(texts), add_special_tokens=False)]

    def split(self, literal: str) -> list[Control | str]:
        """A template's own words, cut into control tokens and text; never for what a user wrote."""
        atoms: list[Control | str] = []
        at = 0
        for match in self._look.finditer(literal):
            control = self.controls[match[0]]
            self._add_text(atoms, literal[at : match.start()], control.lstrip)
            atoms.append(control)
            at = match.end()
        self._add_text(atoms, literal[at:], False)
        return atoms

    def token_bytes(self, id: int) -> bytes:
        """What a token stands for: UTF-8 bytes, perhaps not whole characters; none for special tokens."""
        if id not in self._cache:
            self._cache[id] = self._find_bytes(id)
        return self._cache[id]

    def token_text(self, id: int) -> str:
        """A token as people read it: control tokens by name, bytes that are no character as \\xNN."""
        control = self._by_id.get(id)
        return control.text if control else self.token_bytes(id).decode("utf-8", "backslashreplace")

    def control_id(self, text: str) -> int | None:
        return self.controls[text].id if text in self.controls else None

    @cached_property
    def sha256(self) -> str:
        """Names vocabulary, merges and added tokens; how text is cut up is what the contract's probes test."""
        tree = json.loads(self._backend.to_str())
        model = tree["model"]
        vocab = model["vocab"]
        pairs = sorted(vocab.items(), key=lambda item: item[1]) if isinstance(vocab, dict) else vocab
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges", ())]
        added = sorted((t["id"], t["content"], t["lstrip"], t["rstrip"]) for t in tree["added_tokens"])
        text = json.dumps([pairs, merges, added], ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def pipeline(self) -> list[dict[str, Any] | None]:
        """How text is cut up before the vocabulary is asked: normalizer and pre-tokenizer, as tokenizer.json has them."""
        return [_tree(self._backend.normalizer), _tree(self._backend.pre_tokenizer)]

    def _build_encoders(self) -> tuple[Any, Any]:
        """(without, with) the space before text: one and the same where the tokenizer puts none."""
        normalizer, pre_tokenizer = _tree(self._backend.normalizer), _tree(self._backend.pre_tokenizer)
        adding = [part for part in _parts(normalizer) + _parts(pre_tokenizer) if _prefixes(part)]
        # "first" marks only the start of the whole text; the others mark every text that follows a control token.
        self.prefix_after_control = any(part.get("prepend_scheme") != "first" for part in adding)
        bare = self._encoder(_without_prefix(normalizer), _without_prefix(pre_tokenizer))
        return bare, self._encoder(normalizer, pre_tokenizer) if adding else bare

    def _encoder(self, normalizer: dict[str, Any] | None, pre_tokenizer: dict[str, Any] | None) -> Any:
        """The tokenizer's model under these, without its added tokens."""
        from tokenizers import Tokenizer

        empty = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}
        parts = Tokenizer.from_str(json.dumps({**empty, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer}))
        encoder = Tokenizer(self._backend.model)
        if normalizer:
            encoder.normalizer = parts.normalizer
        if pre_tokenizer:
            encoder.pre_tokenizer = parts.pre_tokenizer
        encoder.add_tokens(self._spaces)
        return encoder

    def _check_that_text_stays_text(self, unknown: str | None) -> None:
        texts = [form for text in self.controls for form in (text, f"a{text}b")]
        for encoded, text in zip(self.encode(texts, prefixed=True), texts, strict=True):
            if any(id in self._by_id and self._by_id[id].text != unknown for id in encoded):
                raise UsageError(
                    f"{self.name}: typed text {text!r} becomes a control token; this tokenizer cannot be used"
                )

    @staticmethod
    def _add_text(atoms: list[Control | str], text: str, lstrip: bool) -> None:
        if atoms and isinstance(atoms[-1], Control) and atoms[-1].rstrip:
            text = text.lstrip()
        text = text.rstrip() if lstrip else text
        if text:
            atoms.append(text)

    def _find_bytes(self, id: int) -> bytes:
        if id in self._by_id:
            control = self._by_id[id]
            return b"" if control.special else control.text.encode()
        token = self._backend.id_to_token(id)
        if token is None:
            return b""  # rows that pad the embedding have no token
        if self._byte_level:
            return b"".join(_BYTES.get(character) or character.encode() for character in token)
        byte = BYTE_TOKEN.fullmatch(token)
        return bytes.fromhex(byte[1]) if byte else token.replace(SPACE, " ").encode()


def _control(id: int, token: Any) -> Control:
    return Control(id, token.content, token.special, token.lstrip, token.rstrip)


def _tree(component: Any) -> dict[str, Any] | None:
    """A normalizer, pre-tokenizer or decoder as its JSON, as tokenizer.json has it."""
    return None if component is None else json.loads(component.__getstate__())


def _name(tokenizer: Any) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or "tokenizer")


def _is_space(text: str) -> bool:
    return not text.replace(SPACE, " ").strip()


def _parts(node: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The leaves of a normalizer, pre-tokenizer or decoder, sequences opened."""
    if node is None:
        return []
    for key in ("normalizers", "pretokenizers", "decoders"):
        if key in node:
            return [leaf for child in node[key] for leaf in _parts(child)]
    return [node]


def _prefixes(part: dict[str, Any]) -> bool:
    return bool(
        part["type"] == "Prepend" or part.get("add_prefix_space") or part.get("prepend_scheme", "never") != "never"
    )


def _without_prefix(node: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same normalizer or pre-tokenizer, putting no space before text."""
    if node is None or node["type"] == "Prepend":
        return None
    for key in ("normalizers", "pretokenizers"):
        if key in node:
            return {**node, key: [kept for child in node[key] if (kept := _without_prefix(child))]}
    if node["type"] == "Metaspace":
        return {**node, "prepend_scheme": "never"}
    return {**node, "add_prefix_space": False} if node["type"] == "ByteLevel" else node


def _is_byte_level(decoders: Sequence[dict[str, Any]], name: str) -> bool:
    kinds = {part["type"] for part in decoders}
    if "ByteLevel" in kinds:
        return True
    if kinds & {"Metaspace", "ByteFallback"}:
        return False
    found = ", ".join(sorted(kinds)) or "none"
    raise UsageError(f"{name}: its tokenizer's decoder ({found}) is neither byte-level nor SentencePiece")


def _byte_alphabet() -> dict[str, bytes]:
    """GPT-2's printable stand-in for each byte -> the byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): bytes([byte]) for byte in printable}
    return table | {chr(256 + index): bytes([byte]) for index, byte in enumerate(others)}


_BYTES = _byte_alphabet()
