"""The cache of rendered rows: the ids are those of the renderer, whatever happened to the files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacos.data import Example
from pacos.data.records import Message
from pacos.prompts import Rendered, Renderer, RowTable, lengths_of, table_of
from pacos.training.token_cache import key_of, load_table, remove_oldest, render_once
from tests.tiny import tiny_tokenizer

CHAT = Renderer(tiny_tokenizer(), "chat")
EXAMPLES = [Example(f"Say {i} twice.", output=f"{i} {i}") for i in range(20)]

rendered = st.builds(
    lambda pairs, cut, fits: Rendered(tuple(id for id, _ in pairs), tuple(loss for _, loss in pairs), cut, fits),
    st.lists(st.tuples(st.integers(0, 2**31 - 1), st.booleans()), min_size=1, max_size=9),
    st.integers(0, 99),
    st.booleans(),
)


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache, empty."""
    monkeypatch.setenv("PACOS_CACHE", str(tmp_path))
    return tmp_path / "tokens"


class Counting(Renderer):
    """Counts how often it had to render rows, besides the contract's probes."""

    times = 0

    def render_table(self, examples, max_length=None):  # type: ignore[no-untyped-def]
        self.times += len(examples) > 1
        return super().render_table(examples, max_length)


def render(renderer: Renderer, said: list[str], examples: list[Example] = EXAMPLES) -> list[Rendered]:
    return list(render_once(examples, renderer, 40, said.append))


@given(st.lists(rendered, max_size=8), st.data())
def test_a_table_holds_the_rows_that_it_was_made_of(rows: list[Rendered], data: st.DataObject) -> None:
    table = table_of(rows)
    assert list(table) == rows
    assert table.num_targets.tolist() == [sum(row.loss_mask[1:]) for row in rows]
    assert lengths_of(table) == lengths_of(rows)
    start, end = data.draw(st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
    assert list(table[start:end]) == rows[start:end]
    with pytest.raises(IndexError):
        table[len(rows)]


def test_rows_are_rendered_once_and_read_again_the_same(tokens: Path) -> None:
    renderer, said = Counting(tiny_tokenizer(), "chat"), []
    first = render(renderer, said)
    assert first == CHAT.render_examples(EXAMPLES, 40)
    assert render(renderer, said) == first
    assert (renderer.times, said) == (1, [])
    assert [path.suffix for path in tokens.iterdir()] == [".rows"]


def test_a_table_of_many_parts_has_each_row_as_it_is_rendered_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pacos.prompts.render.ROWS_AT_ONCE", 3)
    examples = [Example(f"Count to {i}.", output=" ".join(map(str, range(i)))) for i in range(40)]
    table = CHAT.render_table(examples, 60)
    assert isinstance(table, RowTable)
    assert list(table) == [CHAT.render_examples([example], 60)[0] for example in examples]
    assert 5 < sum(table.cut > 0) < 30


CHANGES = {
    "a row": (CHAT, [*EXAMPLES[:-1], replace(EXAMPLES[-1], output="19  19")], 40),
    "the order": (CHAT, EXAMPLES[::-1], 40),
    "a system message": (CHAT, [replace(EXAMPLES[0], system="Be kind."), *EXAMPLES[1:]], 40),
    "a turn": (
        CHAT,
        [replace(EXAMPLES[0], history=(Message("user", "a"), Message("assistant", "b"))), *EXAMPLES[1:]],
        40,
    ),
    "the length": (CHAT, EXAMPLES, 41),
    "the template": (Renderer(tiny_tokenizer(), "alpaca"), EXAMPLES, 40),
    "the default system message": (Renderer(tiny_tokenizer(), "chat", "Be brief."), EXAMPLES, 40),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_the_ids_changes_the_key(what: str) -> None:
    assert key_of(*CHANGES[what]) != key_of(CHAT, EXAMPLES, 40)


def test_what_does_not_change_the_ids_leaves_the_key() -> None:
    moved = [replace(example, source="other.jsonl:3", extra={"a": 1}) for example in EXAMPLES]
    assert key_of(Renderer(tiny_tokenizer(), "chat"), moved, 40) == key_of(CHAT, EXAMPLES, 40)


def test_a_tokenizer_that_cuts_text_up_otherwise_has_another_key() -> None:
    from tokenizers import pre_tokenizers

    other = tiny_tokenizer()
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    assert key_of(Renderer(other, "chat"), EXAMPLES, 40) != key_of(CHAT, EXAMPLES, 40)


def test_a_flipped_bit_anywhere_is_noticed(tokens: Path) -> None:
    render(CHAT, [])
    (path,) = tokens.iterdir()
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with pytest.raises(ValueError, match="its checksum does not hold"):
            load_table(path, len(EXAMPLES))


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_made_again(kept: float, tokens: Path) -> None:
    expected, said = render(CHAT, []), []
    (path,) = tokens.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert render(CHAT, said) == expected
    (line,) = said
    assert line == f"{path}: damaged (its checksum does not hold); tokenizing again"
    assert path.read_bytes() == whole


def test_where_nothing_can_be_written_the_rows_are_rendered_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PACOS_CACHE", str(tmp_path / "file"))
    said: list[str] = []
    assert render(CHAT, said) == CHAT.render_examples(EXAMPLES, 40)
    (line,) = said
    assert line == f"{tmp_path}/file/tokens: the tokens cannot be kept for the next run: Not a directory"


def test_the_files_used_longest_ago_make_room(tmp_path: Path) -> None:
    for age, name in enumerate("abcd"):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    remove_oldest(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    remove_oldest(tmp_path, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_reading_a_file_counts_as_using_it(tokens: Path) -> None:
    render(CHAT, [])
    (path,) = tokens.iterdir()
    os.utime(path, (1000, 1000))
    render(CHAT, [])
    assert path.stat().st_mtime > 10_000


def test_a_cache_that_may_only_be_read_is_read(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = render(CHAT, [])

    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refused)
    said: list[str] = []
    renderer = Counting(tiny_tokenizer(), "chat")
    assert render(renderer, said) == expected
    assert (renderer.times, said) == (0, [])
