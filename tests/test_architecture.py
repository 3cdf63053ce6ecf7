"""Who may import whom, and what loads without torch. The table is DESIGN's; imports point down it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pacos"
EVERYWHERE = {"directions", "errors", "files", "lazy", "workspace"}
MAY_IMPORT = {
    "directions": set(),
    "errors": set(),
    "files": set(),
    "lazy": set(),
    "workspace": set(),
    "recipes": set(),
    "data": set(),
    "prompts": {"data"},
    "models": set(),
    "inference": {"prompts", "models", "data"},
    "training": {"data", "prompts", "models", "recipes"},
    "evaluation": {"data", "prompts", "inference"},
    "export": {"data", "prompts", "models", "inference", "training", "evaluation"},
    "studio": {"data"},
    "self_instruct": {"data", "prompts"},
    "cli": {
        "self_instruct",
        "studio",
        "recipes",
        "data",
        "prompts",
        "models",
        "inference",
        "training",
        "evaluation",
        "export",
    },
}
WITHOUT_TORCH = [
    "pacos.data",
    "pacos.prompts",
    "pacos.recipes",
    "pacos.evaluation",
    "pacos.cli.main",
    "pacos.models.catalog",
]
WITHOUT_TORCH += ["pacos.studio.explore.database"]
WITHOUT_TORCH += ["pacos.training.record", "pacos.self_instruct.loop", "pacos.self_instruct.endpoint"]
HEAVY = ("torch", "transformers", "bitsandbytes", "peft")


def modules() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 60
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (parts[1] for parts in (name.split(".") for name in names) if parts[0] == "pacos" and len(parts) > 1)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_what_the_table_allows(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    allowed = MAY_IMPORT[room] | {room} | EVERYWHERE
    assert set(imported_rooms(path)) <= allowed


def test_every_room_is_in_the_table() -> None:
    rooms = {room_of(path) for path in modules()} - {"__init__", "__main__"}
    assert rooms == set(MAY_IMPORT)


def test_the_rooms_that_people_use_without_torch_do_not_load_it() -> None:
    code = f"import sys, {', '.join(WITHOUT_TORCH)}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"


def test_only_the_command_line_prints_or_exits() -> None:
    calls = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in modules()
        if room_of(path) not in ("cli", "__main__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit", "exit")
    ]
    assert calls == []
