"""TRL with liger-kernel on the rows and models of gpu_speed.py: what our step is measured beside. Part of `make gpu-check`.

Packed is TRL's padding_free: the rows of a device batch end to end in one sequence, as many tokens as our packs have.
flash_attn is used where it is installed; TRL's valid settings without it are among the contenders, and its best one counts.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from typing import Any

from gpu_speed import RATE, TARGETS, Case, dry, figures, model_of, now, rows, sizes

THEIRS = {
    "trl, packed, liger, flash": {"packed": True, "attention": "flash_attention_2"},
    "trl, packed, liger, sdpa": {"packed": True, "attention": "sdpa"},
    "trl, by length, liger, sdpa": {"packed": False, "attention": "sdpa"},
}


def trl(case: Case, *, packed: bool, attention: str) -> dict[str, Any]:
    """TRL's SFTTrainer with liger-kernel on the same rows, ids and labels, as many a step."""
    refuse_missing(attention)
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    model = model_of(case)
    model.set_attn_implementation(attention)
    everything, (warm, steps, batch, room) = rows(model.config.vocab_size), sizes()
    labels = [[i if m else -100 for i, m in zip(r.ids, r.loss_mask, strict=True)] for r in everything]
    per_device = min(batch, room // 128 if packed else 16)
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            use_cpu=dry(),
            bf16=not dry(),
            use_liger_kernel=not dry(),
            gradient_checkpointing=False,
            padding_free=packed,
            max_length=None,
            train_sampling_strategy="sequential" if packed else "group_by_length",
            per_device_train_batch_size=per_device,
            gradient_accumulation_steps=batch // per_device,
            max_steps=warm + steps,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused" if dry() or case.optimizer == "adamw" else case.optimizer,
            dataset_kwargs={"skip_prepare_dataset": True},
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
        )
        table = Dataset.from_dict({"input_ids": [r.ids for r in everything], "labels": labels})
        trainer = SFTTrainer(trained(model, case), settings, train_dataset=table, processing_class=any_tokenizer())
        return timed(trainer, everything)


def refuse_missing(attention: str) -> None:
    """Raises RuntimeError that names a package which this contender stands on."""
    wanted = (["flash_attn"] if attention.startswith("flash") else []) + ([] if dry() else ["liger_kernel"])
    for package in wanted:
        if importlib.util.find_spec(package) is None:
            raise RuntimeError(f"{package} is not installed")


def trained(model: Any, case: Case) -> Any:
    """The model with all weights trained, or with PEFT's adapters."""
    from peft import LoraConfig, get_peft_model

    if case.method == "full":
        return model.requires_grad_(True)
    model.is_loaded_in_4bit = case.method == "qlora"
    targets = ["qkv_proj", "o_proj"] if model.config.model_type == "phi3" else list(TARGETS)
    return get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=targets, task_type="CAUSAL_LM"))


def any_tokenizer() -> Any:
    """TRL asks for one, and encodes nothing with it here."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<bos>": 1, "<eos>": 2}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")


def timed(trainer: Any, everything: Sequence[Any]) -> dict[str, Any]:
    """Train, noting when each optimizer step ends."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(now())

    trainer.add_callback(Clock())
    trainer.train()
    return figures(everything, ends, [line["loss"] for line in trainer.state.log_history if "loss" in line])
