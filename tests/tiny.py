"""The smallest real things that tests run on: a random two-layer model of each family, and a tokenizer trained here.

    model = tiny_model("phi3")                  fused qkv, a sliding window of 8 tokens, 4 query and 2 key heads
    model = tiny_model("gemma2", seed=1, vocab_size=512)
    tokenizer = tiny_tokenizer()                320 byte-level BPE entries and the ChatML template

Weights are drawn wide enough (std 0.15) that attention, window and caps move the logits: a wrong mask changes the ids.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

FAMILIES = ("llama", "phi3", "mistral", "qwen2", "gemma2")
VOCAB = 320
WINDOW = 8

SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
OWN: dict[str, dict[str, Any]] = {
    "llama": {},
    "phi3": {"sliding_window": WINDOW},
    "mistral": {"sliding_window": WINDOW, "head_dim": 16},
    "qwen2": {"tie_word_embeddings": True},
    "gemma2": {
        "sliding_window": WINDOW,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
        "tie_word_embeddings": True,
    },
}

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CORPUS = [
    "Give three tips for staying healthy. Eat well, sleep enough and move every day.",
    "Sort these words: pear, apple, fig. The sorted list is apple, fig, pear.",
    "### Instruction: write the answer. ### Input: some text. ### Response: the answer is here.",
    "system user assistant You are a helpful assistant. What is the capital of France? Paris.",
]


def tiny_model(family: str, *, seed: int = 0, **overrides: Any) -> Any:
    """A random transformers CausalLM in fp32, eval mode, with eager attention. Same seed, same weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **(SHAPE | OWN[family] | overrides))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    return model.eval()


@functools.cache
def _trained() -> str:
    """The JSON of a byte-level BPE of `VOCAB` entries, trained on CORPUS."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=SPECIAL, initial_alphabet=alphabet, min_frequency=1, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend.to_str()


def tiny_tokenizer() -> Any:
    """A fast tokenizer of `VOCAB` ids: <|endoftext|> 0, <|im_start|> 1, <|im_end|> 2; ChatML."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()),
        pad_token="<|endoftext|>",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        chat_template=CHATML,
        model_max_length=512,
    )
