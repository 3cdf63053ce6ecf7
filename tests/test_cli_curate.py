"""`pacos curate` from the command line: what it prints, writes and refuses; and that --fix loses nothing."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pacos.data import Example, load_examples, save_split
from pacos.data.near import sketch
from pacos.data.split import Split
from tests.conftest import Cli

ROWS: list[dict[str, Any] | str] = [
    {"instruction": "Name a fruit.", "input": "Noinput", "output": "An apple.", "topic": "food"},
    {"instruction": "Name a fruit.", "input": "", "output": "an apple", "topic": "food"},
    {"instruction": "Say nothing.", "input": "", "output": "", "topic": "odd"},
    "{broken",
    {"instruction": "What is 2+2?", "input": "", "output": "2 + 2 = 5", "topic": "sums"},
    {"instruction": "Describe the <script>alert(1)</script> tag.", "input": "", "output": "It is caf\u00c3\u00a9.", "topic": "odd"},
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    write(path, ROWS)
    return path


def write(path: Path, rows: list[dict[str, Any] | str]) -> None:
    lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def lines_of(path: str) -> list[Any]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_a_file_is_looked_over_and_nothing_is_written(cli: Cli, data: Path, tmp_path: Path) -> None:
    code, out, err = cli("curate", "rows.jsonl")
    assert code == 0
    assert out.startswith("6 rows of rows.jsonl: 5 findings in 5 rows\n")
    assert "    rows.jsonl:5  7efdd68944e92656  says '2 + 2 = 5, but it is 4'\n" in out
    assert "noinput  1  the input says that there is none [--fix blanks the input]\n" in out
    assert err == "4 rows have a safe fix: --fix --out FILE\n"
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert cli("curate", "check", "rows.jsonl")[:2] == (code, out)


def test_only_rows_that_fix_would_change_are_said_to_have_a_fix(cli: Cli, tmp_path: Path) -> None:
    marked = {"instruction": "Write a table.", "input": "", "output": "A. 6. Input: <noinput> 6. Output: B."}
    write(tmp_path / "rows.jsonl", [marked, {"instruction": "Say a.", "input": "<noinput>", "output": "A."}])
    code, out, err = cli("curate", "rows.jsonl")
    assert (code, "placeholder  1" in out, "noinput  1" in out) == (0, True, True)
    assert err == "1 row has a safe fix: --fix --out FILE\n"


@pytest.mark.parametrize(
    "written",
    [
        ("--report", "same.jsonl", "--findings", "same.jsonl"),
        ("--fix", "--out", "same.jsonl", "--findings", "./same.jsonl"),
        ("--fix", "--out", "same.jsonl", "--report", "same.jsonl.changes.jsonl"),
    ],
)
def test_two_things_are_not_written_to_one_file(cli: Cli, data: Path, tmp_path: Path, written: tuple[str, ...]) -> None:
    code, _, err = cli("curate", "rows.jsonl", *written)
    assert (code, "is to hold two things; give each a file of its own" in err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_json_names_every_rule_and_its_rows(cli: Cli, data: Path) -> None:
    from pacos.data.curation import RULES

    code, out, _ = cli("curate", "rows.jsonl", "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["rows"], facts["rows_with_findings"]) == (6, 5)
    assert [rule["rule"] for rule in facts["rules"]] == list(RULES)
    found = {rule["rule"]: [one["place"] for one in rule["first"]] for rule in facts["rules"] if rule["found"]}
    assert found == {
        "malformed": ["rows.jsonl:4"],
        "empty-output": ["rows.jsonl:3"],
        "noinput": ["rows.jsonl:1"],
        "mojibake": ["rows.jsonl:6"],
        "wrong-arithmetic": ["rows.jsonl:5"],
    }
    assert facts["diversity"]["verbs"][0] == {"verb": "name", "rows": 2, "nouns": {"fruit": 2}}


def test_what_fix_takes_away_lies_beside_the_output_and_nothing_is_lost(cli: Cli, data: Path) -> None:
    code, out, _ = cli("curate", "rows.jsonl", "--fix", "--out", "fixed.jsonl")
    assert code == 0
    assert (
        "fixed: 1 rows changed, 3 dropped, 3 written to fixed.jsonl; what they were: fixed.jsonl.changes.jsonl" in out
    )
    kept, changes = load_examples("fixed.jsonl").examples, lines_of("fixed.jsonl.changes.jsonl")
    assert [e.output for e in kept] == ["an apple", "2 + 2 = 5", "It is café."]
    assert [(c["place"], c["action"], c["rules"]) for c in changes] == [
        ("rows.jsonl:1", "dropped", ["noinput", "duplicate"]),
        ("rows.jsonl:3", "dropped", ["empty-output"]),
        ("rows.jsonl:4", "dropped", ["malformed"]),
        ("rows.jsonl:6", "changed", ["mojibake"]),
    ]
    assert changes[0]["reasons"][1] == "mended, it is the same as another row that is kept"
    assert changes[2]["before"] == "{broken"
    known = {e.id for e in kept} | {change["id"] for change in changes}
    fields = [
        Example(**{k: row[k] for k in ("instruction", "input", "output")}) for row in ROWS if isinstance(row, dict)
    ]
    assert {e.id for e in fields} <= known
    assert [e.extra["topic"] for e in kept] == ["food", "sums", "odd"]
    assert changes[3]["before"]["topic"] == "odd"


def test_a_fixed_file_has_nothing_left_to_fix(cli: Cli, data: Path) -> None:
    assert cli("curate", "rows.jsonl", "--fix", "--out", "fixed.jsonl")[0] == 0
    code, out, err = cli("curate", "fixed.jsonl")
    assert (code, err) == (0, "")
    assert out.startswith("3 rows of fixed.jsonl: 1 findings in 1 rows\n")
    assert cli("curate", "fixed.jsonl", "--fix", "--out", "again.jsonl", "--drop", "wrong-arithmetic")[0] == 0
    assert len(load_examples("again.jsonl").examples) == 2
    assert [change["rules"] for change in lines_of("again.jsonl.changes.jsonl")] == [["wrong-arithmetic"]]


def test_two_rows_that_fixes_make_equal_leave_one(cli: Cli, tmp_path: Path) -> None:
    row = {"instruction": "Name a river.", "output": "The Nile."}
    write(tmp_path / "a.jsonl", [{**row, "input": "Noinput"}, {**row, "input": "<noinput>"}])
    assert cli("curate", "a.jsonl", "--fix", "--out", "b.jsonl")[0] == 0
    assert len(lines_of("b.jsonl")) == 1
    assert [c["action"] for c in lines_of("b.jsonl.changes.jsonl")] == ["changed", "dropped"]
    assert cli("curate", "a.jsonl", "--fix", "--out", "c.jsonl", "--without", "duplicate")[0] == 0
    assert len(lines_of("c.jsonl")) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["rows.jsonl", "--fix"], 2, "--fix and --out FILE go together"),
        (["rows.jsonl", "--out", "b.jsonl"], 2, "--fix and --out FILE go together"),
        (["rows.jsonl", "--drop", "echo"], 2, "--drop has no effect without --fix"),
        (["rows.jsonl", "--embed", "m"], 2, "--embed has no effect without --report FILE"),
        (["rows.jsonl", "--rules", "noinputs"], 2, "no rule 'noinputs'; did you mean 'noinput'?"),
        (["rows.json"], 2, "rows.json: no such file; did you mean rows.jsonl?"),
        (["rows.jsonl", "--gold", "gold.json"], 2, "gold.json: no such file"),
        (["rows.jsonl", "--against", "test.json"], 2, "test.json: no such file"),
        (["rows.jsonl", "--fix", "--out", "b.csv"], 2, "b.csv: '.csv' is no format for rows; name it .json or .jsonl"),
        (["rows.jsonl", "--fix", "--out", "rows.jsonl", "--overwrite"], 2, "rows.jsonl: is the data itself"),
        (["rows.jsonl", "--report", "rows.jsonl", "--overwrite"], 2, "rows.jsonl: is the data itself"),
        (["rows.jsonl", "--report", "old.html"], 2, "old.html: there already; give another file to write, or --overwrite"),
        (["empty.jsonl"], 3, "empty.jsonl: is empty"),
        (["merge", "rows.jsonl", "--out", "b.jsonl"], 3, "rows.jsonl:4: not valid JSON"),
        (["sample", "rows.jsonl", "--rows", "1", "--out", "rows.jsonl", "--overwrite"], 2, "rows.jsonl: is the data itself"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_a_line_and_nothing_is_written(
    cli: Cli, data: Path, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "old.html").write_text("old")
    (tmp_path / "empty.jsonl").write_text("")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ended, out, err = cli("curate", *arguments)
    assert (ended, out) == (code, "")
    assert err.startswith(f"pacos: {said}")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_findings_and_old_changes_are_not_written_over(cli: Cli, data: Path, tmp_path: Path) -> None:
    assert cli("curate", "rows.jsonl", "--fix", "--out", "b.jsonl", "--findings", "f.jsonl")[0] == 0
    assert len(lines_of("f.jsonl")) == 5
    assert set(lines_of("f.jsonl")[0]) == {"place", "id", "rule", "why"}
    (tmp_path / "b.jsonl").unlink()
    code, _, err = cli("curate", "rows.jsonl", "--fix", "--out", "b.jsonl")
    assert code == 2
    assert "b.jsonl.changes.jsonl: there already" in err
    assert cli("curate", "rows.jsonl", "--fix", "--out", "b.jsonl", "--overwrite")[0] == 0


class Page(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]


def test_the_page_needs_nothing_but_itself_and_shows_data_as_text(cli: Cli, tmp_path: Path, tiny_base: Path) -> None:
    rows = [row for row in ROWS if isinstance(row, dict)]
    write(tmp_path / "a.jsonl", [*rows, {"instruction": "<img src=x>", "output": "<script>x</script><|im_end|>"}])
    assert cli("curate", "a.jsonl", "--report", "r.html", "--embed", tiny_base)[0] == 0
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.links == []
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert "&lt;script&gt;" in text
    assert "default-src 'none'" in text
    assert page.tags.count("circle") == 5  # the instruction that stands twice is one point
    assert page.tags.count("svg") == 6
    assert "wrong-arithmetic" in text


def test_a_file_that_is_no_encoder_is_said_to_be_none(cli: Cli, data: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    code, _, err = cli("curate", "rows.jsonl", "--report", "r.html", "--embed", "model")
    assert code in (2, 3)
    assert err.startswith("pacos: model")


def test_precision_and_recall_against_people(cli: Cli, data: Path, tmp_path: Path) -> None:
    rows = [row for row in ROWS if isinstance(row, dict)]
    cleaned = [
        {**rows[0], "input": ""},
        rows[1],
        {**rows[2], "output": "Silence."},
        rows[3],
        {**rows[4], "output": "It is."},
    ]
    write(tmp_path / "a.jsonl", rows)  # type: ignore[arg-type]
    write(tmp_path / "clean.jsonl", cleaned)  # type: ignore[arg-type]
    code, out, _ = cli("curate", "a.jsonl", "--gold", "clean.jsonl", "--json")
    agreed = json.loads(out)["agreement"]
    assert code == 0
    assert (agreed["edited"], agreed["rewritten_or_dropped"]) == (3, 0)
    assert (agreed["precision"]["hits"], agreed["precision"]["total"]) == (3, 4)
    assert (agreed["recall"]["hits"], agreed["recall"]["total"]) == (3, 3)
    assert agreed["rules"]["wrong-arithmetic"]["precision"]["hits"] == 0
    table = cli("curate", "a.jsonl", "--gold", "clean.jsonl")[1].splitlines()
    assert ["errors", "and", "warnings", "4", "3", "75.0%", "30.1%", "to", "95.4%", "100.0%"] in map(str.split, table)


def test_leaks_from_an_evaluation_set_and_from_the_test_side_of_a_split(cli: Cli, tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {word}.", "input": "", "output": word} for word in ("one", "two", "three")]
    write(tmp_path / "train.jsonl", [*rows, {**rows[0], "output": "two then"}])
    write(tmp_path / "test.jsonl", [rows[1]])
    code, out, _ = cli("curate", "train.jsonl", "--against", "test.jsonl", "--rules", "leak")
    assert code == 0
    assert "train.jsonl:2" in out
    assert "leaks: 1 rows against 1; passages of 8 words\n" in out
    ids = [Example(**row).id for row in rows]
    save_split(
        Split(tuple(sorted(ids[1:])), (), (ids[0],), 0, 0.0, 0.3, 0.7, train_prompts=sketch(["x", "y"])),
        tmp_path / "s.json",
    )
    code, out, err = cli("curate", "train.jsonl", "--split", "s.json", "--rules", "leak", "--json")
    assert code == 0, err
    leak = json.loads(out)["rules"][0]
    assert [(one["place"], one["why"]) for one in leak["first"]] == [
        ("train.jsonl:4", "asks the same as train.jsonl:1")
    ]
    assert (
        cli("curate", "train.jsonl", "--against", "test.jsonl", "--fix", "--out", "safe.jsonl", "--drop", "leak")[0]
        == 0
    )
    assert "Say two." not in (tmp_path / "safe.jsonl").read_text()


def test_rules_are_listed(cli: Cli) -> None:
    from pacos.data.curation import RULES

    code, out, _ = cli("curate", "rules")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(RULES)
    assert [rule["rule"] for rule in json.loads(cli("curate", "rules", "--json")[1])] == list(RULES)


def test_merge_keeps_each_content_once_and_every_column(cli: Cli, tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {n}.", "input": "", "output": str(n), "n": n, "tags": ["a", None]} for n in range(4)]
    write(tmp_path / "a.jsonl", rows[:3])  # type: ignore[arg-type]
    write(tmp_path / "b.jsonl", rows[2:])  # type: ignore[arg-type]
    code, out, _ = cli("curate", "merge", "a.jsonl", "b.jsonl", "--out", "c.json")
    assert (code, out) == (0, "4 rows written to c.json; 1 left out, whose content was there\n")
    merged = load_examples("c.json").examples
    assert [dict(e.extra) for e in merged] == [{"n": row["n"], "tags": row["tags"]} for row in rows]


def test_a_sample_has_the_shares_of_the_whole_and_is_the_same_again(cli: Cli, tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {n}.", "input": "", "output": str(n), "topic": "ab"[n % 4 == 0]} for n in range(40)]
    write(tmp_path / "a.jsonl", rows)  # type: ignore[arg-type]
    write(tmp_path / "turned.jsonl", rows[::-1])  # type: ignore[arg-type]
    code, out, _ = cli("curate", "sample", "a.jsonl", "--rows", 8, "--by", "topic", "--out", "s.jsonl", "--json")
    assert code == 0
    assert json.loads(out) == {"path": "s.jsonl", "rows": 8, "groups": {"a": 6, "b": 2}}
    assert cli("curate", "sample", "a.jsonl", "--rows", 8, "--by", "topic", "--out", "t.jsonl", "--seed", 1)[0] == 0
    assert lines_of("s.jsonl") != lines_of("t.jsonl")
    code, _, err = cli("curate", "sample", "a.jsonl", "--rows", 8, "--by", "topc", "--out", "u.jsonl")
    assert (code, err) == (
        2,
        "pacos: --by topc: no row has that column; did you mean 'topic'?; or give: verb, source\n",
    )


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("layout", ["alpaca", "messages", "sharegpt"])
def test_convert_there_and_back_loses_nothing(cli: Cli, tmp_path: Path, suffix: str, layout: str) -> None:
    texts = ['Say "a", then\nb;\tc', "Où est l'été ? 日本", "x" * 300]
    rows = [
        {"instruction": f"{text} {n}", "input": text, "output": text, "topic": "t,1"} for n, text in enumerate(texts)
    ]
    write(tmp_path / "a.jsonl", rows)  # type: ignore[arg-type]
    code, _, err = cli("curate", "convert", "a.jsonl", "--out", f"b{suffix}", "--layout", layout)
    if suffix in (".csv", ".tsv") and layout != "alpaca":
        assert code == 3
        assert "a table holds texts in equal columns; write .jsonl" in err
        assert not (tmp_path / f"b{suffix}").exists()
        return
    assert code == 0, err
    assert cli("curate", "convert", f"b{suffix}", "--out", "back.jsonl", "--layout", "alpaca")[0] == 0
    back = load_examples("back.jsonl").examples
    kept = [(e.instruction, e.input, e.output, dict(e.extra), e.id) for e in load_examples("a.jsonl").examples]
    assert [(e.instruction, e.input, e.output, dict(e.extra), e.id) for e in back] == kept


def test_a_conversation_keeps_its_turns_through_every_layout(cli: Cli, tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("user", "Hi."), ("assistant", "Hello."), ("user", "Bye."), ("assistant", "Bye!")]
    write(tmp_path / "a.jsonl", [{"messages": [{"role": r, "content": c} for r, c in turns]}])
    for before, after, layout in (("a", "b", "sharegpt"), ("b", "c", "alpaca"), ("c", "d", "messages")):
        assert cli("curate", "convert", f"{before}.jsonl", "--out", f"{after}.jsonl", "--layout", layout)[0] == 0
    assert lines_of("d.jsonl")[0]["messages"] == lines_of("a.jsonl")[0]["messages"]
