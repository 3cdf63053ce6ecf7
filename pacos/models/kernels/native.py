"""native.c, compiled once on this machine and called through ctypes; or its absence, which is no error.

    library()       the compiled kernels, or None where there is no C compiler
    fits(x, ...)    whether they take these tensors: on the CPU, fp32 or bf16, contiguous
    plain()         a block in which they are not used

The compiled file is kept under the cache folder by the hash of source, flags, compiler and processor. It is linked against
the very OpenMP library that torch has loaded: a second one would bring a second set of threads, and the two would fight.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("native.c")
MATHS = ("math-errno", "trapping-math", "signed-zeros")
FLAGS = (
    "-O3",
    "-march=native",
    "-fPIC",
    *(f"-fno-{name}" for name in MATHS),
    "-fassociative-math",
    "-freciprocal-math",
)
COMPILERS = ("cc", "gcc", "clang")
DTYPES = (torch.float32, torch.bfloat16)

_off = 0
_told: list[str] = []
"""What there is to say about the kernels, once."""


def library() -> ctypes.CDLL | None:
    """The kernels, compiled the first time (about a second). None where they cannot be, or inside `plain()`."""
    return None if _off else _loaded()


def fits(*tensors: Tensor) -> bool:
    """Whether the kernels take these: contiguous fp32 or bf16 on a CPU, all of one dtype."""
    kind = tensors[0].dtype
    return (
        kind in DTYPES
        and all(x.device.type == "cpu" and x.dtype == kind and x.is_contiguous() for x in tensors)
        and not torch.compiler.is_compiling()
        and type(tensors[0]) is Tensor
        and library() is not None
    )


def call(name: str, *arguments: Tensor | int | float | None) -> None:
    """Call a kernel: tensors go by address, numbers as int64 or float, a bool as int."""
    kernels = library()
    assert kernels is not None
    getattr(kernels, name)(*(_c(x) for x in arguments))


class Address(int):
    """Where something lies in memory."""


def address(x: Tensor, offset: int = 0) -> Address:
    """The address of element `offset` of x."""
    return Address(x.data_ptr() + offset * x.element_size())


def wide(x: Tensor) -> bool:
    return x.dtype == torch.float32


@contextmanager
def plain() -> Iterator[None]:
    """Inside, everything is computed by plain torch operations."""
    global _off
    _off += 1
    try:
        yield
    finally:
        _off -= 1


def prepare() -> list[str]:
    """Compile the kernels now where they are not yet; what there is to say about it."""
    library()
    return what_was_told()


def what_was_told() -> list[str]:
    """Lines on how the kernels came to be, or why they are not there; each is given out once."""
    lines, _told[:] = list(_told), []
    return lines


def _c(x: Tensor | int | float | None) -> object:
    if isinstance(x, Tensor):
        return ctypes.c_void_p(x.data_ptr())
    if isinstance(x, Address):
        return ctypes.c_void_p(x)
    if isinstance(x, bool):
        return ctypes.c_int(x)
    return ctypes.c_float(x) if isinstance(x, float) else ctypes.c_int64(x or 0)


@cache
def _loaded() -> ctypes.CDLL | None:
    compiler = _compiler()
    if compiler is None:
        _told.append(
            "no C compiler is found: norms, SwiGLU, rotary positions and softmax run as plain torch operations, slower"
        )
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        line = next(iter(said.strip().splitlines()), type(error).__name__)
        _told.append(f"the C kernels cannot be compiled ({line}); plain torch operations are used, slower")
        return None


def _compiler() -> str | None:
    names = (os.environ["CC"],) if os.environ.get("CC") else COMPILERS
    return next((found for name in names if (found := shutil.which(name))), None)


def _compiled(compiler: str) -> Path:
    from pacos.models.catalog import cache_folder

    folder = cache_folder() / "kernels"
    path = folder / f"native-{_name(compiler)}.so"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as draft:
        _compile(compiler, Path(draft))
        os.replace(Path(draft) / "native.so", path)
    _told.append(f"compiled the C kernels in {time.perf_counter() - began:.1f} s, kept for the next run")
    return path


def _compile(compiler: str, folder: Path) -> None:
    """With OpenMP where torch brings a library for it; by one thread otherwise."""
    object_, shared = str(folder / "native.o"), str(folder / "native.so")
    openmp = _openmp()
    threads = ("-fopenmp",) if openmp else ()
    _run(compiler, *FLAGS, *threads, "-c", str(SOURCE), "-o", object_)
    _run(compiler, "-shared", object_, *openmp, "-lm", "-o", shared)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)


def _openmp() -> list[str]:
    """torch's own libgomp, by its path."""
    return [str(path) for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))[:1]]


def _name(compiler: str) -> str:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=30).stdout
    parts = (SOURCE.read_text(encoding="utf-8"), *FLAGS, compiler, version, torch.__version__, _processor())
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return "|".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
