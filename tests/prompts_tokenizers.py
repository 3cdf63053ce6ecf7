"""Tokenizers for the tests of the prompts room: small ones of both kinds made here, and real ones where they are.

chatml_tokenizer()              byte-level, ChatML
phi3_tokenizer(scheme)          SentencePiece with byte fallback; Phi-3's control tokens, which swallow a line end
real_tokenizer("llama3")        from ../shared/data/tokenizers; the test is skipped by name where it is absent
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
from tiny import CORPUS, tiny_tokenizer

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
PHI3_TOKENS = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]
PHI3_JINJA = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
# as published for Mistral 7B Instruct v0.1: nothing but a space stands between </s> and the next turn
MISTRAL_JINJA = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
LLAMA2_JINJA = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% endif %}{% for m in rest %}{% if loop.first and system is defined %}"
    "{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + m['content'] %}{% else %}"
    "{% set content = m['content'] %}{% endif %}{% if m['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}"
    "{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
GEMMA_JINJA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + m['role'] | replace('assistant', 'model') + '\n' }}"
    "{{ m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def chatml_tokenizer(jinja: str = "") -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = jinja or tokenizer.chat_template
    return tokenizer


def with_tokens(tokenizer: Any, *texts: str, **options: Any) -> Any:
    from transformers import AddedToken

    tokenizer.add_tokens([AddedToken(text, normalized=False, **options) for text in texts], special_tokens=True)
    return tokenizer


@functools.cache
def _sentencepiece() -> str:
    """The JSON of a BPE over characters with the 256 byte tokens, as Llama's is."""
    from tokenizers import Tokenizer, decoders, models, trainers

    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    texts = [line.replace(" ", "\u2581") for line in CORPUS]
    plain = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=600, special_tokens=plain, show_progress=False))
    parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(parts)
    tree = json.loads(backend.to_str())
    tree["added_tokens"] = tree["added_tokens"][:3]
    return json.dumps(tree)


def sentencepiece_tokenizer(scheme: str, jinja: str, *, adds_bos: bool = False) -> Any:
    """`scheme`: first, always (Metaspace) or legacy (the Prepend normalizer): where a space is put before text."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(_sentencepiece())
    if scheme == "legacy":
        parts = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
        backend.normalizer = normalizers.Sequence(parts)
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=jinja
    )


def phi3_tokenizer(scheme: str = "first") -> Any:
    return with_tokens(sentencepiece_tokenizer(scheme, PHI3_JINJA), *PHI3_TOKENS, rstrip=True)


def llama_tokenizer() -> Any:
    return sentencepiece_tokenizer("first", LLAMA2_JINJA, adds_bos=True)


@functools.cache
def real_tokenizer(name: str, template: str = "") -> Any:
    """A tokenizer of ../shared/data/tokenizers, with one of its chat-templates where `template` names it.

    "file" in place of a template's name takes the pipeline of tokenizer.json; transformers rebuilds it for some classes.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = SHARED / "tokenizers" / name
    if not folder.exists():
        pytest.skip(f"needs ../shared/data/tokenizers/{name}")
    tokenizer = (PreTrainedTokenizerFast if template == "file" else AutoTokenizer).from_pretrained(folder)
    if template not in ("", "file"):
        tokenizer.chat_template = (SHARED / "tokenizers" / "chat-templates" / f"{template}.jinja").read_text()
    elif not tokenizer.chat_template:
        tokenizer.chat_template = MISTRAL_JINJA
    return tokenizer


@functools.cache
def smollm2_tokenizer() -> Any:
    from transformers import AutoTokenizer

    from pacos.models.catalog import SMOLLM2, folder_of

    if not (folder_of(SMOLLM2) / "tokenizer.json").exists():
        pytest.skip("needs the embedded model: pacos models fetch smollm2-135m-instruct")
    return AutoTokenizer.from_pretrained(folder_of(SMOLLM2))


def to_dicts(messages: Any) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def own_ids(tokenizer: Any, messages: Any, *, ask: bool) -> list[int]:
    """The ids of the tokenizer's own apply_chat_template."""
    return tokenizer.apply_chat_template(
        to_dicts(messages), tokenize=True, add_generation_prompt=ask, return_dict=False
    )
