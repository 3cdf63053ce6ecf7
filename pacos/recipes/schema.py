"""Every option of a run, written once.

A recipe is YAML that holds only what differs from these defaults. Each field has its type, default, description and
check here; recipe keys, `--set key=value`, the resolved recipe in `pacos.json` and `docs/recipes.md` are made from it.
Unknown keys are errors. What depends on another key is checked in `Recipe`, where both are known.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class ModelOptions(Section):
    base: str = Field(
        "smollm2-135m-instruct", description="hub id, folder, .gguf file or embedded name of the base model"
    )
    revision: str = Field("", description="hub revision: a branch, tag or commit; empty takes the default branch")
    dtype: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="compute type; auto takes bf16 where the machine multiplies it natively, else fp32"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    double_quant: bool = Field(True, description="quantize the NF4 scales too (method qlora)")


class DataOptions(Section):
    path: str = Field("starter", description="file, folder of files, hub dataset (owner/name) or `starter`")
    limit: int | None = Field(None, ge=1, description="take only the first N valid rows")
    split: str = Field(
        "", description="split file to use; empty makes one beside the run's workspace, once, and reuses it"
    )
    validation_share: float = Field(0.03, ge=0, lt=0.5, description="share of rows held out to watch training")
    test_share: float = Field(0.05, ge=0, lt=0.5, description="share of rows held out for `pacos eval`")
    split_seed: int = Field(42, ge=0, description="seed of the split")
    near_duplicate: float = Field(
        0.8, gt=0, le=1, description="rows whose word-shingle Jaccard similarity is at least this stay on one side"
    )
    skip_bad_rows: bool = Field(False, description="leave out rows that do not validate, named, instead of stopping")
    max_cut_share: float = Field(
        0.01, ge=0, le=1, description="share of rows that may be longer than train.max_length before it is an error"
    )


class PromptOptions(Section):
    template: Literal["alpaca", "phi3", "plain", "chat"] = Field(
        "chat", description="prompt template; chat is the model's own"
    )
    system: str = Field(
        "", description="system message for rows that have none; empty keeps the template's own default"
    )


class LoraOptions(Section):
    rank: int = Field(16, ge=1, le=1024, description="LoRA rank r")
    alpha: float = Field(32.0, gt=0, description="LoRA alpha; the update is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the input of the adapters")
    targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj"),
        min_length=1,
        description="projections to adapt, each must be in every layer: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj",
    )


class TrainOptions(Section):
    epochs: float = Field(1.0, gt=0, le=1e9, description="passes over the training rows")
    max_steps: int | None = Field(None, ge=1, description="stop after this many optimizer steps")
    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate")
    batch_size: int = Field(16, ge=1, description="rows per optimizer step")
    batch_tokens: int = Field(
        0,
        ge=0,
        description="tokens per optimizer step in place of rows: as many full packs of pack_tokens; 0 takes batch_size rows",
    )
    max_length: int = Field(1024, ge=16, description="longest row, in tokens")
    pack_tokens: int = Field(
        2048, ge=16, description="tokens computed at once; a batch is split into packs of about this size"
    )
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="learning rate after warm-up")
    warmup_share: float = Field(
        0.03, ge=0, lt=1, description="share of steps in which the learning rate rises linearly"
    )
    min_lr_share: float = Field(0.0, ge=0, le=1, description="where cosine and linear end, as a share of learning_rate")
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw", description="8-bit ones by bitsandbytes"
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW beta 1")
    beta2: float = Field(0.999, ge=0, lt=1, description="AdamW beta 2")
    eps: float = Field(1e-8, gt=0, description="AdamW epsilon")
    weight_decay: float = Field(0.0, ge=0, description="AdamW decoupled weight decay, on matrices only")
    clip_norm: float = Field(1.0, ge=0, description="largest gradient norm; 0 does not clip")
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: slower, less memory"
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto",
        description="fuse the layers' small operations on a GPU by torch.compile; auto does where that can be done",
    )
    shard: bool = Field(
        True,
        description="with several processes, divide the weights among them (FSDP2); false keeps them whole in each, faster where they fit",
    )
    seed: int = Field(42, ge=0, lt=1 << 32, description="seed of adapter initialisation, row order and dropout")
    eval_every: int = Field(0, ge=0, description="steps between evaluations on the validation rows; 0 takes ten a run")
    eval_rows: int = Field(200, ge=1, description="validation rows used while training, at most")
    patience: int = Field(0, ge=0, description="stop after this many evaluations without a better loss; 0 never")
    keep: Literal["best", "last"] = Field("best", description="which weights become the artifact")
    save_every: int = Field(
        0, ge=0, description="steps between checkpoints, which are also written at every evaluation; 0 adds none"
    )
    keep_checkpoints: int = Field(2, ge=1, description="checkpoints kept; older ones are removed")


class EvalOptions(Section):
    limit: int = Field(200, ge=1, description="test rows evaluated, at most")
    max_new_tokens: int = Field(256, ge=1, description="longest answer, in tokens")
    batch_size: int = Field(32, ge=1, description="answers written at once")
    seed: int = Field(42, ge=0, description="seed of row choice and of the bootstrap")
    resamples: int = Field(2000, ge=100, description="bootstrap resamples")
    temperature: float = Field(0.0, ge=0, description="0 takes the likeliest token; 0.7 varies, by eval.seed")
    top_p: float = Field(
        1.0, gt=0, le=1, description="draw from the likeliest tokens that together have this probability"
    )
    top_k: int = Field(0, ge=0, description="draw from this many of the likeliest tokens; 0 from all")
    min_p: float = Field(
        0.0, ge=0, le=1, description="draw from tokens that are at least this share as likely as the likeliest"
    )
    repetition_penalty: float = Field(1.0, gt=0, description="over 1 makes what was said less likely; 1 is none")
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="an answer also ends before any of these texts"
    )


NO_CUT = {"top_p": 1.0, "top_k": 0, "min_p": 0.0}
"""The values of options that cut off unlikely tokens at which nothing is cut off."""


class TrackOptions(Section):
    to: tuple[Literal["tensorboard", "trackio", "wandb", "mlflow"], ...] = Field(
        (), description="also log metrics there; each needs its package"
    )
    project: str = Field("pacos", description="project name shown by the trackers")


class Recipe(Section):
    """A run, resolved: what `pacos.json` keeps and what a run can be repeated from."""

    name: str = Field(
        "run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the run; also its folder under runs/"
    )
    description: str = Field("", description="one line on what the recipe is for")
    method: Literal["full", "lora", "qlora"] = Field(
        "lora", description="train all weights, adapters, or adapters on NF4 weights"
    )
    model: ModelOptions = Field(default_factory=lambda: ModelOptions(), description="the base model")
    data: DataOptions = Field(default_factory=lambda: DataOptions(), description="rows and how they are split")
    prompt: PromptOptions = Field(default_factory=lambda: PromptOptions(), description="the prompt format")
    lora: LoraOptions = Field(default_factory=lambda: LoraOptions(), description="adapters (methods lora and qlora)")
    train: TrainOptions = Field(default_factory=lambda: TrainOptions(), description="the training loop")
    eval: EvalOptions = Field(default_factory=lambda: EvalOptions(), description="defaults of `pacos eval` on the run")
    track: TrackOptions = Field(default_factory=lambda: TrackOptions(), description="experiment trackers")

    @field_validator("description")
    @classmethod
    def _one_line(cls, text: str) -> str:
        return " ".join(text.split())

    @model_validator(mode="after")
    def _no_option_without_effect(self) -> Recipe:
        if self.method == "full" and "lora" in self.model_fields_set:
            raise ValueError(
                "'lora' has no effect with method 'full'; take it out (--set lora=null), or set method to lora or qlora"
            )
        if self.method != "qlora" and "double_quant" in self.model.model_fields_set:
            raise ValueError("'model.double_quant' has no effect without method 'qlora'")
        if 0 < self.train.batch_tokens < self.train.pack_tokens:
            raise ValueError(
                f"train.batch_tokens={self.train.batch_tokens} holds no pack of train.pack_tokens={self.train.pack_tokens}; "
                "give a multiple of it, or 0 for batch_size rows a step"
            )
        if self.train.batch_tokens and "batch_size" in self.train.model_fields_set:
            raise ValueError(
                "'train.batch_size' has no effect with 'train.batch_tokens'; "
                "take it out (--set train.batch_size=null), or set train.batch_tokens to 0"
            )
        cuts = [name for name, none in NO_CUT.items() if getattr(self.eval, name) != none]
        if cuts and self.eval.temperature == 0:
            raise ValueError(
                f"'eval.{cuts[0]}' has no effect at eval.temperature 0, which takes the likeliest token; "
                "take it out, or give a temperature"
            )
        if self.data.validation_share + self.data.test_share >= 0.9:
            raise ValueError("data.validation_share and data.test_share leave no rows to train on")
        return self
