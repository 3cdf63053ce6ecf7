"""Weight differences: back to the bit, for every kind and shape; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from pacos.errors import DataError, GateError, UsageError
from pacos.export.merge import merge
from pacos.export.weight_diff import FILE, recover, write_diff
from tests.conftest import Cli
from tests.exporting import save_base, save_random_adapter, with_adapter

KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def folder_of(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path.mkdir()
    save_file(tensors, path / "model.safetensors")
    return path


@given(kind=st.sampled_from(sorted(KINDS)), base_kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_any_model_comes_back_to_the_bit(
    kind: str, base_kind: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    at = tmp_path_factory.mktemp("diff")
    generator = torch.Generator().manual_seed(seed)
    base = {"a": torch.randn(5, 4, generator=generator).to(KINDS[base_kind]), "b": torch.ones(3)}
    grown = torch.randn(7, 4, generator=generator).to(KINDS[kind])
    grown[0, 0], grown[1, 1] = float("nan"), -0.0
    tuned = {"a": grown, "b": torch.full((3,), 1e-30), "new": torch.arange(6).reshape(2, 3)}
    tree = write_diff(folder_of(at / "tuned", tuned), str(folder_of(at / "base", base)), at / "out")
    recover(at / "out", "", at / "back")
    back = load_file(at / "back" / "model.safetensors")
    assert back.keys() == tuned.keys()
    for name, tensor in tuned.items():
        assert back[name].dtype == tensor.dtype
        assert back[name].contiguous().view(torch.uint8).tolist() == tensor.contiguous().view(torch.uint8).tolist()
    assert tree["whole"] == ["new"]
    assert load_file(at / "out" / "model.safetensors")["b"].dtype == torch.int32


def test_a_merged_model_goes_out_as_a_difference_and_comes_back(tmp_path: Path, cli: Cli) -> None:
    base = save_base(tmp_path / "base", "qwen2", dtype=torch.bfloat16)
    origin = with_adapter(base, save_random_adapter(base, tmp_path / "adapter", size=0.02))
    merge(origin, tmp_path / "merged", say=lambda _: None)
    code, told, _ = cli("export", "diff", tmp_path / "merged", "--base", base, "--out", tmp_path / "out")
    assert code == 0
    code, again, _ = cli("export", "recover", tmp_path / "out", "--out", tmp_path / "back")
    assert code == 0
    assert told.split("sha256 ")[1][:64] == again.split("sha256 ")[1][:64]
    name = "model.safetensors"
    assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "merged" / name).read_bytes()
    assert (tmp_path / "back" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert (tmp_path / "back" / "README.md").read_bytes() == (tmp_path / "merged" / "README.md").read_bytes()
    assert "as a difference to its base" in (tmp_path / "out" / "README.md").read_text()
    unchanged = load_file(tmp_path / "out" / name)["model.layers.0.mlp.up_proj.weight"]
    assert not unchanged.any()


def test_another_base_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    tuned, base = {"a": torch.ones(4, 4)}, {"a": torch.zeros(4, 4)}
    write_diff(folder_of(tmp_path / "tuned", tuned), str(folder_of(tmp_path / "base", base)), tmp_path / "out")
    other = folder_of(tmp_path / "other", {"a": torch.full((4, 4), 1e-9)})
    with pytest.raises(GateError, match=r"other: not the base of this difference \(sha256 [0-9a-f]{16} here"):
        recover(tmp_path / "out", str(other), tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_flipped_bit_in_the_difference_is_found(tmp_path: Path) -> None:
    tuned, base = {"a": torch.ones(4, 4)}, {"a": torch.zeros(4, 4)}
    write_diff(folder_of(tmp_path / "tuned", tuned), str(folder_of(tmp_path / "base", base)), tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"model\.safetensors has changed"):
        recover(tmp_path / "out", "", tmp_path / "back")


def test_a_model_that_shares_nothing_is_no_base(tmp_path: Path) -> None:
    tuned, base = (
        folder_of(tmp_path / "tuned", {"a": torch.ones(4)}),
        folder_of(tmp_path / "base", {"b": torch.ones(4)}),
    )
    with pytest.raises(UsageError, match="shares no tensor with"):
        write_diff(tuned, str(base), tmp_path / "out")
    with pytest.raises(UsageError, match=f"no weight difference here \\({FILE} is missing\\)"):
        recover(tuned, "", tmp_path / "back")
