"""Each kernel is its plain form, forward and back, in fp32 and bf16; and where there is no compiler the plain forms serve."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pacos.models.kernels import native
from pacos.models.kernels.attention import Span, Work, attend_spans, reference_attention
from pacos.models.kernels.cross_entropy import linear_cross_entropy, reference_cross_entropy
from pacos.models.kernels.gated import gated, gated_halves, reference_gated
from pacos.models.kernels.low_rank import Map, frozen_maps, reference_maps
from pacos.models.kernels.norms import reference_rms_norm, rms_norm
from pacos.models.kernels.rotary import Region, reference_rotate, rotate

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
KINDS = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def agree(ours: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Same values and same gradients, to the tolerance of the dtype."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    results = ours(*leaves), plain(*leaves)
    upstream = torch.randn_like(results[0])
    close = TOLERANCE[inputs[0].dtype]
    torch.testing.assert_close(*results, rtol=close, atol=close)
    grads = [torch.autograd.grad(result, leaves, upstream.to(result.dtype)) for result in results]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=2 * close, atol=2 * close)


def test_the_kernels_are_compiled_here() -> None:
    """The tests below would pass without; this says whether they tested anything."""
    assert native.library() is not None, native.what_was_told()
    assert native.fits(torch.zeros(3))
    assert not native.fits(torch.zeros(3, dtype=torch.float64))
    assert not native.fits(torch.zeros(3, 4).T)


@pytest.mark.parametrize("kind", KINDS)
def test_rms_norm(kind: torch.dtype) -> None:
    weight = torch.rand(48)
    x = torch.randn(2, 37, 48, dtype=kind)
    agree(lambda x: rms_norm(x, weight, 1e-5), lambda x: reference_rms_norm(x, weight, 1e-5), x)
    agree(lambda x, w: rms_norm(x, w, 1e-5), lambda x, w: reference_rms_norm(x, w, 1e-5), x, weight.to(kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("act", ["silu", "gelu"])
def test_gated_products(kind: torch.dtype, act: str) -> None:
    gate, up = torch.randn(2, 19, 40, dtype=kind) * 3, torch.randn(2, 19, 40, dtype=kind)
    agree(lambda g, u: gated(g, u, act), lambda g, u: reference_gated(g, u, act), gate, up)
    both = torch.cat((gate, up), dim=-1)
    agree(lambda x: gated_halves(x, act), lambda x: reference_gated(*x.chunk(2, dim=-1), act), both)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [16, 8])
def test_rotary_positions_of_regions(kind: torch.dtype, width: int) -> None:
    """Whole heads and, as in Phi-3 small, a part of each; what lies outside of the regions stays."""
    angles = torch.randn(1, 11, width)
    cos, sin = angles.cos(), angles.sin()
    regions = (Region(0, 0, 2, 16), Region(0, 32, 1, 16))
    x = torch.randn(1, 11, 60, dtype=kind)
    agree(
        lambda x: rotate([x * 1], regions, cos, sin)[0],
        lambda x: reference_rotate(x, regions, cos.to(kind), sin.to(kind)),
        x,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [False, True])
def test_frozen_maps_of_one_input_with_adapters(kind: torch.dtype, dropout: bool) -> None:
    first, second, third = (nn.Linear(24, n, bias=n == 8, dtype=kind).requires_grad_(False) for n in (16, 8, 12))
    maps = [Map(first, [(0, 16)], 2.0), Map(second), Map(third, [(0, 4), (8, 12)], 0.5)]
    ranks = (3, 5, 2)
    a = [torch.randn(rank, 24) for rank in ranks]
    b = [torch.randn(n, rank) for n, rank in zip((16, 4, 4), ranks, strict=True)]
    x = torch.randn(1, 9, 24, dtype=kind)

    def run(maps_of: Callable[..., object]) -> Callable[..., Tensor]:
        def by(x: Tensor, *ab: Tensor) -> Tensor:
            inner = x * 0.5 if dropout else x
            return torch.cat(list(maps_of(x, inner, maps, ab[:3], ab[3:])), dim=-1)  # type: ignore[call-overload]

        return by

    leaves = [x.requires_grad_(), *(t.requires_grad_() for t in (*a, *b))]
    ours, plain = run(frozen_maps)(*leaves), run(reference_maps)(*leaves)
    close = TOLERANCE[kind] * 20
    torch.testing.assert_close(ours, plain, rtol=close, atol=close)
    upstream = torch.randn_like(ours)
    grads = [torch.autograd.grad(out, leaves, upstream) for out in (ours, plain)]
    for one, other in zip(*grads, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=close, atol=close * 4)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_in_bf16_and_fp32_is_the_plain_one(kind: torch.dtype) -> None:
    spans = [Span((0, 9), ((0, 9),)), Span((9, 15), ((0, 4), (9, 15))), Span((15, 17), ((0, 4), (15, 17)))]
    query, key, value = (torch.randn(17, heads, 8, dtype=kind) for heads in (4, 2, 2))

    def plainly(*qkv: Tensor) -> Tensor:
        with native.plain():
            return attend_spans(*qkv, Work.of(spans, 4), 0.3)

    agree(lambda *qkv: attend_spans(*qkv, Work.of(spans, 4), 0.3), plainly, query, key, value)


LONG = [
    Span((0, 40), ((0, 40),)),
    Span((40, 75), ((0, 40), (40, 75))),
    Span((75, 76), ((0, 40), (75, 76))),
    Span((76, 119), ((5, 40), (60, 75), (76, 119))),
    Span((119, 160), ((100, 160),), 30),
]


@pytest.mark.skipif(not native.says("attention_takes", 64), reason="this processor multiplies no pairs of bf16")
@pytest.mark.parametrize(("heads", "kv", "size"), [(6, 2, 64), (2, 2, 32), (3, 1, 96)])
def test_attention_by_lanes_is_the_plain_one(heads: int, kv: int, size: int) -> None:
    """Its inputs are views of wider tensors, as a joint projection makes them. Rounded to bf16 at other places, so within
    what bf16 makes of the plain one against fp32."""
    wide = torch.randn(160, (heads + 2 * kv) * size).bfloat16()
    parts = wide.split([heads * size, kv * size, kv * size], dim=1)
    query, key, value = (part.view(160, -1, size).detach().requires_grad_() for part in parts)
    upstream = torch.randn(160, heads, size).bfloat16()
    seen = torch.zeros(160, 160, dtype=torch.bool)
    for span in LONG:
        keys = torch.cat([torch.arange(*run) for run in span.keys])
        for query_at, (first, last) in zip(range(*span.queries), zip(*span.seen(), strict=True), strict=True):
            seen[query_at, keys[first:last]] = True
    exact_inputs = [x.detach().float().requires_grad_() for x in (query, key, value)]
    exact = reference_attention(*exact_inputs, seen, 0.2)
    exact_grads = torch.autograd.grad(exact, exact_inputs, upstream.float())
    work = Work.of(LONG, heads)
    ours = attend_spans(query, key, value, work, 0.2)
    assert ours.grad_fn is not None
    assert "ByLanes" in type(ours.grad_fn).__name__
    grads = torch.autograd.grad(ours, (query, key, value), upstream)
    for one, other in zip((ours, *grads), (exact, *exact_grads), strict=True):
        assert (one.float() - other).abs().max() <= 0.012 * other.abs().max()


@pytest.mark.skipif(not native.says("attention_takes", 64), reason="this processor multiplies no pairs of bf16")
def test_attention_by_lanes_gives_the_same_bits_by_any_number_of_threads() -> None:
    tensors = [torch.randn(160, heads, 64).bfloat16().requires_grad_() for heads in (6, 2, 2)]
    upstream, threads = torch.randn(160, 6, 64).bfloat16(), torch.get_num_threads()
    results = []
    try:
        for number in (1, 2, 3, 3):
            torch.set_num_threads(number)
            ours = attend_spans(*tensors, Work.of(LONG, 6), 0.2)
            results.append((ours, *torch.autograd.grad(ours, tensors, upstream)))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_cross_entropy_of_many_words(kind: torch.dtype) -> None:
    weight, targets = torch.randn(1003, 16, dtype=kind), torch.randint(0, 1003, (40,))
    hidden = torch.randn(40, 16, dtype=kind, requires_grad=True)
    ours, plain = linear_cross_entropy(hidden, weight, targets), reference_cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(ours, plain, rtol=TOLERANCE[kind], atol=0)
    grads = [torch.autograd.grad(loss, hidden)[0] for loss in (ours, plain)]
    torch.testing.assert_close(*grads, rtol=5 * TOLERANCE[kind], atol=5 * TOLERANCE[kind])


def test_an_mlp_that_only_looks_like_the_known_ones_keeps_its_own_forward() -> None:
    from pacos.models.kernels.gated import use_gated_mlps
    from tests.tiny import tiny_model

    class ScaledMLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_proj, self.up_proj, self.down_proj = (nn.Linear(4, 4) for _ in range(3))
            self.act_fn = nn.SiLU()

    assert use_gated_mlps(nn.Sequential(ScaledMLP())) == 0
    assert use_gated_mlps(tiny_model("llama")) == 2


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_not_a_number_stays_so(broken: float) -> None:
    hidden, weight = torch.ones(2, 4), torch.ones(50, 4)
    hidden[1, 2] = broken
    assert not torch.isfinite(linear_cross_entropy(hidden, weight, torch.tensor([1, 2])))
    assert not torch.isfinite(rms_norm(hidden, torch.ones(4), 1e-5)[1]).all()
    assert not torch.isfinite(gated(hidden, hidden.clone(), "silu")).all()
    query = torch.ones(2, 1, 4)
    query[1, 0, 0] = broken
    seen = attend_spans(query, torch.rand(2, 1, 4), torch.rand(2, 1, 4), Work.of([Span((0, 2), ((0, 2),))], 1), 1.0)
    assert not torch.isfinite(seen[1]).all()


def test_extreme_logits_lose_nothing() -> None:
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[-5000.0], [3000.0], [2999.0]])
    loss = linear_cross_entropy(hidden, weight, torch.tensor([0]))
    torch.testing.assert_close(loss, reference_cross_entropy(hidden, weight, torch.tensor([0])))


@pytest.fixture
def _fresh() -> Iterator[None]:
    """The kernels as a new process finds them."""
    native._loaded.cache_clear()
    native.what_was_told()
    yield
    native._loaded.cache_clear()
    native.what_was_told()


@pytest.mark.usefixtures("_fresh")
def test_without_a_compiler_plain_torch_serves_and_it_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    x = torch.randn(3, 8)
    torch.testing.assert_close(rms_norm(x, torch.ones(8), 1e-5), reference_rms_norm(x, torch.ones(8), 1e-5))
    assert native.what_was_told() == [
        f"CC names 'no-such-compiler', which is not there: {native.SLOWER}; install gcc or clang, or name one in CC"
    ]
    assert native.library() is None
    assert native.what_was_told() == []


@pytest.mark.usefixtures("_fresh")
def test_a_compiler_that_fails_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'cc1: fatal error: no such thing' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setenv("PACOS_CACHE", str(tmp_path / "cache"))
    assert native.library() is None
    assert native.what_was_told() == [
        f"the C kernels cannot be compiled by {broken} (cc1: fatal error: no such thing): {native.SLOWER}"
    ]


@pytest.mark.usefixtures("_fresh")
def test_a_cache_that_cannot_be_written_costs_a_compilation_and_no_speed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PACOS_CACHE", str(tmp_path / "file" / "cache"))
    assert native.library() is not None
    x = torch.randn(3, 8)
    torch.testing.assert_close(rms_norm(x, torch.ones(8), 1e-5), reference_rms_norm(x, torch.ones(8), 1e-5))
    assert native.what_was_told() == [
        f"{tmp_path}/file/cache/kernels: cannot keep the C kernels (Not a directory), so each process compiles its own; "
        "make room or give leave there, or name a folder that can be written in PACOS_CACHE"
    ]


@pytest.mark.usefixtures("_fresh")
def test_they_are_compiled_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PACOS_CACHE", str(tmp_path))
    assert native.library() is not None
    (line,) = native.what_was_told()
    assert line.startswith("compiled the C kernels in ")
    assert line.endswith(" s, kept for the next run")
    assert len(list((tmp_path / "kernels").glob("native-*/native.so"))) == 1
    native._loaded.cache_clear()
    assert native.library() is not None
    assert native.what_was_told() == []


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_file_is_compiled_again(damage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PACOS_CACHE", str(tmp_path))
    kernels = native._compiled(native._compiler() or ())
    path, native._told[:] = kernels / native.LIBRARY, []
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        at = len(whole) // 2
        path.write_bytes(whole[:at] if damage == "cut" else whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
    assert native.library() is not None
    (line,) = native.what_was_told()
    assert line.startswith("compiled the C kernels in ")
    assert path.read_bytes() == whole
    assert sorted(p.name for p in kernels.iterdir()) == ["manifest.json", "native.so"]
    assert list(kernels.parent.iterdir()) == [kernels]


@pytest.mark.usefixtures("_fresh")
def test_the_compiler_may_be_given_with_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PACOS_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "env LANG=C cc -DNOTHING='a b'")
    compiler = native._compiler()
    assert compiler is not None
    assert compiler[1:] == ("LANG=C", "cc", "-DNOTHING=a b")
    assert native.library() is not None, native.what_was_told()


def test_another_compiler_processor_or_openmp_has_a_file_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The stand-in says what it predefines, as a compiler does of itself and of the processor it finds."""
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\necho "#define __VERSION__ $VERSION"\n')
    compiler.chmod(0o755)
    names = []
    for version, library in (("1", "libgomp-a.so.1"), ("2", "libgomp-a.so.1"), ("1", "libgomp-b.so.1")):
        monkeypatch.setenv("VERSION", version)
        monkeypatch.setattr(native, "_openmp", lambda library=library: [Path(library)])
        names += [native._name([str(compiler)]), native._name([str(compiler), "-m64"])]
    assert len(set(names)) == 6
    predefined = native._run("cc", *native.FLAGS, "-dM", "-E", "-x", "c", "/dev/null")
    assert "__VERSION__" in predefined


HUGE = 1 << 60
TOO_LARGE: dict[str, tuple[object, ...]] = {
    "rms_norm_forward": (None, None, None, None, 1, HUGE, 1e-5, True),
    "rms_norm_backward": (None, None, None, None, None, 1, HUGE, True),
    "gated_forward": (None, None, None, 1, HUGE, 0, False, True),
    "gated_backward": (None, None, None, None, None, 1, HUGE, 0, False, True),
    "rotate": (None, None, None, 1, 1, 0, HUGE, 0, False, True),
    "softmax_spans": (None, None, None, 1, 1, 1, HUGE, True),
    "softmax_backward": (None, None, 1, HUGE, True),
    "cross_entropy_rows": (None, None, None, 1, HUGE, False, True),
}
if native.says("attention_takes", 64):
    counts = (None, 0, None, 1 << 44, 1, 1, 64, *[64] * 6, 1.0)
    TOO_LARGE["attention_forward"] = (None, None, None, None, *counts)
    TOO_LARGE["attention_backward"] = (*[None] * 7, *counts)


@pytest.mark.parametrize("kernel", TOO_LARGE)
def test_a_kernel_without_memory_is_an_error(kernel: str) -> None:
    with pytest.raises(MemoryError, match=f"^{kernel}: out of memory$"):
        native.call(kernel, *(native.Address(0) if x is None else x for x in TOO_LARGE[kernel]))  # type: ignore[arg-type]


def test_every_kernel_is_asked_for_too_much() -> None:
    """The decoder's step takes structures, and has a test of its own."""
    text = "".join(source.read_text() for source in native.SOURCES if source.name != "decode.c")
    kernels = dict(re.findall(r"^int (\w+)\((.*?)^}", text, flags=re.MULTILINE | re.DOTALL))
    asking = {k for k, body in kernels.items() if "scratch(" in body or "desk_of(" in body}
    if not native.says("attention_takes", 64):
        asking -= {"attention_forward", "attention_backward"}
    assert set(TOO_LARGE) == asking


def test_plain_and_by_shape_hold_for_their_own_thread() -> None:
    def fits() -> bool:
        return native.fits(torch.zeros(3))

    with ThreadPoolExecutor(1) as other, native.plain():
        assert not fits()
        assert other.submit(fits).result()
        with native.by_shape():
            assert native.fits(torch.zeros(3, device="meta"))
            assert not other.submit(native.fits, torch.zeros(3, device="meta")).result()
        assert not fits()
    assert fits()


def test_they_run_on_the_threads_of_torch() -> None:
    """A second OpenMP library would fight with torch's for the cores."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc/self/maps")
    code = (
        "import torch; from pacos.models.kernels import native; assert native.library() is not None;"
        "print({l.split()[-1] for l in open('/proc/self/maps') if 'omp' in l.rpartition('/')[2]})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.count(".so") == 1, said
