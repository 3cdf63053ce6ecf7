"""Write docs/cli.md from the command line's own help and docs/recipes.md from the recipe schema; --check says if they are stale.

python scripts/make_docs.py            writes
python scripts/make_docs.py --check    exits 1 and names what is stale
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
os.environ["COLUMNS"] = os.environ["TERMINAL_WIDTH"] = "100"
sys.path.insert(0, str(ROOT))


def cli_page() -> str:
    """Every verb with the help that it prints."""
    import typer.main

    from pacos.cli.main import app

    parts = [
        "# The command line\n\nMade from `--help` by `make docs`. Exit codes: 0 done, 1 failed, 2 asked wrongly, 3 bad data,"
    ]
    parts.append(
        "4 out of memory or disk, 5 a gate did not pass, 6 cannot be told yet, 130 and 143 on signals, after saving.\n"
    )
    for path, command in commands("pacos", typer.main.get_command(app)):
        context = command.make_context(path, [], resilient_parsing=True)
        parts.append(f"## `{path}`\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


def commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(f"{path} {name}", child)


def recipes_page() -> str:
    """The recipes that come along, then every option with type, default and meaning."""
    from pacos.recipes import load_recipe, names, walk_fields
    from pacos.recipes.load import describe_type

    lines = [
        "# Recipes",
        "",
        "Made from the schema by `make docs`. A recipe is YAML that holds only what differs from the defaults below;",
    ]
    lines += [
        "`--set key=value` overrides any key. An unknown key is an error.",
        "",
        "## Recipes that come with pacos",
        "",
    ]
    lines += ["| recipe | for | base | method |", "|---|---|---|---|"]
    for name in names():
        recipe = load_recipe(name)
        link = f"[`{name}`](../pacos/recipes/{name}.yaml)"
        lines.append(f"| {link} | {recipe.description} | `{recipe.model.base}` | {recipe.method} |")
    lines += ["", "## Options", "", "| key | type | default | meaning |", "|---|---|---|---|"]
    for key, field in walk_fields():
        default = field.get_default(call_default_factory=True)
        shown = ", ".join(default) if isinstance(default, tuple) else "" if default in (None, "") else str(default)
        lines.append(f"| `{key}` | {describe_type(field).replace('|', '&#124;')} | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"


PAGES = {"docs/cli.md": cli_page, "docs/recipes.md": recipes_page}


def main(check: bool) -> int:
    stale = []
    for name, make in PAGES.items():
        path, text = ROOT / name, make()
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            stale.append(name)
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"stale: {', '.join(stale)}; run: make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
