"""The end of a run: everything that the folder holds, written, compared with the live model, and sealed."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pacos.data import save_split, write_examples
from pacos.models import LoadedModel
from pacos.models.artifact import file_sha256, seal
from pacos.prompts import chat_template_jinja, make_contract
from pacos.recipes import resolved_tree
from pacos.training.card import model_card
from pacos.training.checkpoint import Position
from pacos.training.plot import loss_plot
from pacos.training.prepare import Prepared
from pacos.training.receipt import save_and_compare
from pacos.training.record import (
    BaseIdentity,
    DataIdentity,
    Result,
    RunRecord,
    environment,
    peak_memory_bytes,
    write_record,
)
from pacos.training.trainee import Trainee

OUTSIDE_MANIFEST = ("checkpoints", "eval", "tensorboard")
"""Folders in a run that carry their own proof, or come after it is finished."""

Row = dict[str, Any]


def write_artifact(
    prepared: Prepared,
    trainee: Trainee,
    folder: Path,
    position: Position,
    kept: int,
    steps: list[Row],
    processes: int = 1,
) -> RunRecord:
    """Write everything the artifact holds, compare the saved weights with the live ones, and seal it."""
    network, loaded = trainee.network, trainee.loaded
    network.model.eval()
    contract = make_contract(prepared.renderer)
    receipt = save_and_compare(network, trainee.adapter, loaded, folder, contract)
    save_tokenizer(prepared, loaded, folder)
    save_split(prepared.split, folder / "split.json")
    write_examples(prepared.test, folder / "test.jsonl")
    write_examples(prepared.validation.examples, folder / "validation.jsonl")
    where = environment()
    record = RunRecord(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        recipe=resolved_tree(prepared.recipe),
        base=BaseIdentity(**asdict(loaded.identity)),
        compute_dtype=str(loaded.compute_dtype).removeprefix("torch."),
        data=data_identity(prepared, file_sha256(folder / "split.json")),
        contract=contract,
        result=result_of(position, kept, steps, network.device.type),
        receipts=[receipt],
        libraries=where.libraries,
        hardware=where.hardware | ({"processes": processes} if processes > 1 else {}),
    )
    write_record(record, folder)
    (folder / "README.md").write_text(model_card(record), encoding="utf-8")
    (folder / "loss.svg").write_text(picture(steps), encoding="utf-8")
    seal(folder, OUTSIDE_MANIFEST)
    return record


def picture(steps: list[Row]) -> str:
    train = [(row["step"], row["loss"]) for row in steps]
    return loss_plot(train, [(row["step"], row["eval_loss"]) for row in steps if "eval_loss" in row])


def save_tokenizer(prepared: Prepared, loaded: LoadedModel, folder: Path) -> None:
    """The tokenizer's files, with a chat template that renders the contract's text."""
    tokenizer = loaded.tokenizer
    before = tokenizer.chat_template
    tokenizer.chat_template = chat_template_jinja(prepared.renderer)
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.chat_template = before
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    # the class that every version of transformers has, for a tokenizer that is nothing but its tokenizer.json
    path.write_text(
        json.dumps(config | {"tokenizer_class": "PreTrainedTokenizerFast"}, indent=1) + "\n", encoding="utf-8"
    )


def data_identity(prepared: Prepared, split_sha256: str) -> DataIdentity:
    data = prepared.data
    return DataIdentity(
        path=str(prepared.recipe.data.path),
        format=data.format,
        sha256=data.sha256,
        split_sha256=split_sha256,
        num_train=len(prepared.train.rendered),
        num_validation=len(prepared.validation.examples),
        num_test=len(prepared.test),
        num_left_out=len(data.left_out) + len(data.problems),
        num_cut=prepared.train.num_cut,
    )


def result_of(position: Position, kept: int, steps: list[Row], device_type: str) -> Result:
    """Figures over all steps of the run, those before a resume too."""
    seconds = sum(row["seconds"] for row in steps)
    tenth = max(1, len(steps) // 10)
    return Result(
        steps=position.step,
        kept_step=kept,
        first_loss=mean_loss(steps[:tenth]),
        last_loss=mean_loss(steps[-tenth:]),
        best_eval_loss=position.best_loss,
        seconds=seconds,
        tokens=position.tokens,
        tokens_per_second=position.tokens / seconds,
        peak_memory_bytes=peak_memory_bytes(device_type),
    )


def mean_loss(steps: list[Row]) -> float:
    """Over all response tokens of the steps, in nats."""
    return sum(row["loss"] * row["targets"] for row in steps) / sum(row["targets"] for row in steps)
