"""native.c and decode.c, compiled once on this machine and called through ctypes; or their absence, which is no error.

    library()       the compiled kernels, or None where there is no C compiler
    fits(x, ...)    whether they take these tensors: on the CPU, fp32 or bf16, contiguous
    plain()         a block in which they are not used
    by_shape()      a block in which they take shapes, and do nothing

The compiled file is kept under the cache folder, in a folder with a manifest (artifact.py): one that is damaged is made
again. It is named by the hash of sources, flags, torch's OpenMP library, and all that the compiler says of itself and of the
processor. It is linked against the very OpenMP library that torch has loaded: a second one would bring a second set of
threads, and the two would fight.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from pacos.errors import ResourceError

SOURCES = tuple(Path(__file__).with_name(name) for name in ("native.c", "spans.c", "decode.c"))
HEADER = Path(__file__).with_name("native.h")
LIBRARY = "native.so"
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
FAILURES = {1: (MemoryError, "out of memory"), 2: (IndexError, "a target is out of range")}
"""What a kernel returns where it could not do its work."""
SLOWER = "attention, norms, gated products, rotary positions, losses and decoding run as plain torch operations, slower"

Use = Literal["kernels", "plain", "shapes"]
_use: ContextVar[Use] = ContextVar("use", default="kernels")
_told: list[str] = []
"""What there is to say about the kernels, once."""


def library() -> ctypes.CDLL | None:
    """The kernels, compiled the first time (about a second). None where they cannot be, or inside `plain()`."""
    return None if _use.get() == "plain" else _loaded()


def fits(*tensors: Tensor) -> bool:
    """Whether the kernels take these: contiguous fp32 or bf16 on a CPU, all of one dtype."""
    kind = tensors[0].dtype
    return (
        kind in DTYPES
        and all(x.dtype == kind and x.is_contiguous() for x in tensors)
        and (all(x.device.type == "cpu" for x in tensors) or _by_shape(tensors[0]))
        and not torch.compiler.is_compiling()
        and type(tensors[0]) is Tensor
        and library() is not None
    )


def _by_shape(x: Tensor) -> bool:
    return x.is_meta and _use.get() == "shapes"


def says(name: str, *arguments: int) -> bool:
    """What a question that needs no tensor is answered with; false where there are no kernels."""
    kernels = library()
    return kernels is not None and bool(getattr(kernels, name)(*(_c(x) for x in arguments)))


def call(name: str, *arguments: Tensor | int | float | None) -> None:
    """Call a kernel: tensors go by address, numbers as int64 or float, a bool as int.

    Raises MemoryError, or IndexError where a target is none of the columns.
    """
    kernels = library()
    assert kernels is not None
    if _use.get() == "shapes":
        return
    if failed := getattr(kernels, name)(*(_c(x) for x in arguments)):
        kind, what = FAILURES[failed]
        raise kind(f"{name}: {what}")


class Address(int):
    """Where something lies in memory."""


def address(x: Tensor, offset: int = 0) -> Address:
    """The address of element `offset` of x."""
    return Address(x.data_ptr() + offset * x.element_size())


def wide(x: Tensor) -> bool:
    return x.dtype == torch.float32


@contextmanager
def used_as(use: Use) -> Iterator[None]:
    """Inside, in this thread, the kernels are used so."""
    before = _use.set(use)
    try:
        yield
    finally:
        _use.reset(before)


def plain() -> AbstractContextManager[None]:
    """Inside, everything is computed by plain torch operations."""
    return used_as("plain")


def by_shape() -> AbstractContextManager[None]:
    """Inside, the kernels take shapes and do nothing: they only ever write into tensors that torch has made."""
    return used_as("shapes")


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
        named = os.environ.get("CC", "").strip()
        missing = f"CC names '{named}', which is not there" if named else "no C compiler is found"
        _told.append(f"{missing}: {SLOWER}; install gcc or clang, or name one in CC")
        return None
    try:
        return _made(compiler)
    except (OSError, ResourceError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        line = next(iter(said.strip().splitlines()), type(error).__name__)
        _told.append(f"the C kernels cannot be compiled by {shlex.join(compiler)} ({line}): {SLOWER}")
        return None


def _made(compiler: Sequence[str]) -> ctypes.CDLL:
    """The kernels from the cache; from a file of this process alone where the cache cannot be written or loaded from."""
    try:
        return ctypes.CDLL(str(_compiled(compiler) / LIBRARY))
    except (OSError, ResourceError) as error:
        why = getattr(error, "strerror", None) or str(error)
    with tempfile.TemporaryDirectory() as folder:  # what is loaded stays when its file goes
        _compile(compiler, Path(folder))
        kernels = ctypes.CDLL(f"{folder}/{LIBRARY}")
    _told.append(
        f"{_folder()}: cannot keep the C kernels ({why}), so each process compiles its own; "
        "make room or give leave there, or name a folder that can be written in PACOS_CACHE"
    )
    return kernels


def _folder() -> Path:
    from pacos.models.catalog import cache_folder

    return cache_folder() / "kernels"


def _compiler() -> tuple[str, ...] | None:
    """The command: CC, which may hold arguments ("ccache gcc", "gcc -m64"), or the first that is there."""
    names = (os.environ["CC"],) if os.environ.get("CC", "").strip() else COMPILERS
    for program, *arguments in map(shlex.split, names):
        if found := shutil.which(program):
            return (found, *arguments)
    return None


def _compiled(compiler: Sequence[str]) -> Path:
    """The folder of the compiled file, whole; made where it is not there or damaged."""
    from pacos.models.artifact import damage, whole_folder

    folder = _folder() / f"native-{_name(compiler)}"
    if not any(damage(folder)):
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    try:
        with whole_folder(folder) as draft:
            _compile(compiler, draft)
    except OSError:
        if any(damage(folder)):  # else another process was there first
            raise
    _told.append(f"compiled the C kernels in {time.perf_counter() - began:.1f} s, kept for the next run")
    return folder


def _compile(compiler: Sequence[str], folder: Path) -> None:
    """With OpenMP where torch brings a library for it; by one thread otherwise."""
    openmp = _openmp()
    threads = ("-fopenmp",) if openmp else ()
    objects = {source: folder / f"{source.stem}.o" for source in SOURCES}
    for source, object_ in objects.items():
        _run(*compiler, *FLAGS, *threads, "-c", str(source), "-o", str(object_))
    _run(*compiler, "-shared", *map(str, (*objects.values(), *openmp)), "-lm", "-o", str(folder / LIBRARY))
    for object_ in objects.values():
        object_.unlink()


def _run(*command: str) -> str:
    return subprocess.run(
        command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    ).stdout


def _openmp() -> list[Path]:
    """torch's own libgomp."""
    return sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))[:1]


def _name(compiler: Sequence[str]) -> str:
    """Names what the compiled file depends on. What a compiler predefines holds its version, and for -march=native every
    instruction set that the processor has."""
    predefined = _run(*compiler, *FLAGS, "-dM", "-E", "-x", "c", os.devnull)
    libraries = [path.name for path in _openmp()]
    texts = (path.read_text(encoding="utf-8") for path in (HEADER, *SOURCES))
    parts = (*texts, *FLAGS, *compiler, predefined, torch.__version__, *libraries)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
