"""A dataset becomes a table with full-text search; the site shows it, answers questions, and only reads."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("datasette", reason="needs pacos[studio]")

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from pacos.data import Example, Message, load_examples, make_split, save_split
from pacos.errors import DataError, UsageError
from pacos.studio.explore import Sources, make_app, open_database
from pacos.studio.explore.database import KEPT, read_about
from pacos.studio.explore.site import SETTINGS, any_word, shuffle
from pacos.studio.explore.table import column_name, make_table, sound
from tests.conftest import Cli

ROOT = Path(__file__).parents[1]
SCRIPT = "<script>document.title = 'ran'</script>"
ROWS = [
    {
        "instruction": "Give three tips for staying healthy.",
        "input": "",
        "output": "Eat, sleep, run.",
        "category": "list",
    },
    {"instruction": "Write a recipe.", "input": "eggs", "output": "Boil them.", "category": "list"},
    {"instruction": "Write a page.", "input": "Noinput", "output": f"<b>Hi</b> {SCRIPT}", "category": "code"},
    {"instruction": "What is 2 + 3?", "input": "", "output": "", "category": "code"},
    {"instruction": "write a recipe. ", "input": "eggs", "output": "Fry them. " + "Stir. " * 30, "category": "code"},
]


def write_rows(folder: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def site(folder: Path, rows: list[dict[str, Any]] = ROWS, **sources: Any) -> TestClient:
    built = open_database(Sources(str(write_rows(folder, rows)), **sources), folder / "cache")
    return TestClient(make_app(built.path), base_url="http://127.0.0.1:8001")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return site(tmp_path_factory.mktemp("site"))


def numbers(client: TestClient, url: str) -> list[int]:
    """The numbers of the rows behind a URL of the site, by its JSON."""
    path, _, query = url.partition("?")
    answer = client.get(f"{path}.json?{query}&_shape=array")
    assert answer.status_code == 200, answer.text
    return [row["number"] for row in answer.json()]


def test_search_finds_words_in_all_three_columns(client: TestClient) -> None:
    assert numbers(client, "/data/rows?_search=recipes") == [2, 5]
    assert numbers(client, "/data/rows?_search=EGGS") == [2, 5]
    assert numbers(client, "/data/rows?_search=sleep") == [1]
    assert 'name="_search" value="sleep"' in client.get("/data/rows?_search=sleep").text


def test_facets_count_rows_and_filter_them(client: TestClient) -> None:
    facets = client.get("/data/rows.json").json()["facet_results"]
    counts = {name: {v["value"]: v["count"] for v in facet["results"]} for name, facet in facets.items()}
    assert counts["category"] == {"code": 3, "list": 2}
    assert counts["length"] == {"1 to 9 words": 3, "25 to 49 words": 1, "no words": 1}
    assert counts["verb"] == {"write": 3, "give": 1}  # a question has no verb
    assert "source" not in counts  # one file: nothing to tell apart
    assert numbers(client, "/data/rows?category=list&verb=write") == [2]


def test_the_start_page_links_each_value_of_a_facet_to_its_rows(client: TestClient) -> None:
    page = client.get("/").text
    assert "<strong>5 rows</strong>" in page
    links = re.findall(r'<li[^>]*><a href="(/data/rows\?[^"]+)">([^<]+)</a> <span>(\d+)</span>', page)
    assert len(links) == 12
    for link, label, count in links:
        assert len(numbers(client, link)) == int(count), label


def test_sql_is_answered_as_page_json_and_csv(client: TestClient) -> None:
    sql = "select+number,+verb+from+rows+where+words+=+0"
    assert "<td" in client.get(f"/data?sql={sql}").text
    assert client.get(f"/data.json?sql={sql}&_shape=array").json() == [{"number": 4, "verb": None}]
    assert client.get(f"/data.csv?sql={sql}").text == "number,verb\r\n4,\r\n"


def test_the_csv_of_a_query_holds_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, "max_returned_rows", 10)
    rows = [{"instruction": f"Name {n} rivers.", "output": "Nile"} for n in range(2500)]
    client = site(tmp_path, rows)
    found = client.get("/data.csv?sql=select+number,+:word+as+word+from+rows+order+by+number&word=a,b&_dl=on")
    assert found.headers["content-disposition"] == 'attachment; filename="query.csv"'
    assert found.text.splitlines() == ["number,word", *(f'{n},"a,b"' for n in range(1, 2501))]
    assert len(client.get("/data/contains.csv?search=rivers").text.splitlines()) == 201  # its own limit
    assert client.get("/data.csv?sql=select+:absent").text == ':absent\r\n""\r\n'
    for wrong in ("delete+from+rows", "select+nothing", "select+1;+select+2"):
        assert client.get(f"/data.csv?sql={wrong}").status_code == 400
    assert client.get("/data/nowhere.csv").status_code == 404


def test_the_csv_of_the_table_holds_every_row_whole(client: TestClient) -> None:
    rows = list(csv.DictReader(io.StringIO(client.get("/data/rows.csv?_stream=on").text)))
    assert [{name: row[name] for name in ROWS[0]} for row in rows] == ROWS
    assert [row["id"] for row in rows] == [Example(r["instruction"], r["input"], r["output"]).id for r in ROWS]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("/data/empty-outputs", [4]),
        ("/data/inputs-that-say-none", [3]),
        ("/data/rows-by-verb?verb=Write", [5, 3, 2]),
        ("/data/longest-outputs?count=2", [5, 3]),
        ("/data/shortest-outputs?count=1", [2]),
        ("/data/nearest?text=tips+for+a+healthy+life&count=1", [1]),
        ("/data/nearest?text=write+the+recipe&count=2", [2, 5]),
        ("/data/nearest?text=", []),
        ("/data/output-in-input", []),
    ],
)
def test_questions_are_answered(client: TestClient, url: str, found: list[int]) -> None:
    assert numbers(client, url) == found


def test_questions_that_count_are_answered(client: TestClient) -> None:
    (repeated,) = client.get("/data/repeated-prompts.json?_shape=array").json()
    assert (repeated["times"], repeated["outputs"], repeated["numbers"]) == (2, 2, "2, 5")
    assert client.get("/data/repeated-outputs.json?_shape=array").json() == []
    verbs = client.get("/data/verbs.json?_shape=array").json()
    assert [(v["verb"], v["rows"], v["percent"], v["first_number"]) for v in verbs[:1]] == [("write", 3, 60.0, 2)]
    lengths = client.get("/data/lengths.json?_shape=array").json()
    assert lengths == [{"words_from": 0, "rows": 4}, {"words_from": 30, "rows": 1}]


def test_every_question_on_the_start_page_has_a_page_json_and_csv(client: TestClient) -> None:
    links = [link.replace("&amp;", "&") for link in re.findall(r'<dt><a href="([^"]+)"', client.get("/").text)]
    assert len(links) == 13
    for link in links:
        path, _, query = link.partition("?")
        for suffix in ("", ".json", ".csv"):
            answer = client.get(f"{path}{suffix}?{query}")
            assert answer.status_code == 200, (link, suffix)
            assert "message-error" not in answer.text, (link, suffix)


def test_a_text_anywhere_is_found_with_like(client: TestClient) -> None:
    assert sorted(numbers(client, "/data/contains?search=IPE")) == [2, 5]
    assert sorted(numbers(client, "/data/contains?search=three%25run")) == [1]


def test_a_sample_is_the_same_for_its_seed_and_another_for_another(client: TestClient) -> None:
    orders = [numbers(client, f"/data/sample?seed={seed}&count=5") for seed in (1, 1, 2, 3)]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) > 1
    assert all(sorted(order) == [1, 2, 3, 4, 5] for order in orders)


def test_a_random_row_is_one_of_the_rows(client: TestClient) -> None:
    answer = client.get("/random", follow_redirects=False)
    assert re.fullmatch(r"/data/rows/[1-5]", answer.headers["location"])
    assert answer.headers["cache-control"] == "no-store"
    assert client.get(answer.headers["location"]).status_code == 200


@pytest.mark.parametrize(
    "url", ["/data/rows", "/data/rows/3", "/data/contains?search=Hi", "/data?sql=select+output+from+rows"]
)
def test_a_stored_script_is_text_on_every_page(client: TestClient, url: str) -> None:
    page = client.get(url).text
    assert "&lt;script&gt;document.title" in page
    assert SCRIPT not in page
    assert "<b>Hi" not in page


def test_only_scripts_of_the_templates_carry_the_nonce_of_the_page(client: TestClient) -> None:
    for url in ("/", "/data", "/data/rows", "/data/rows/3", "/data/verbs", "/nothing-here"):
        answer = client.get(url)
        policy = answer.headers["content-security-policy"]
        nonce = re.search(r"script-src 'nonce-([\w-]+)';", policy)[1]  # type: ignore[index]
        scripts = re.findall(r"<script[^>]*>", answer.text)
        assert scripts, url
        assert all(f'nonce="{nonce}"' in script for script in scripts), url
        assert "default-src 'none'" in policy
    assert client.get("/").headers["content-security-policy"] != client.get("/").headers["content-security-policy"]


def test_no_page_loads_anything_from_elsewhere(client: TestClient) -> None:
    for url in ("/", "/data", "/data/rows", "/data/rows/3", "/data/verbs"):
        loaded = re.findall(r'(?:<script|<link|<img)[^>]*(?:src|href)="([^"]+)"', client.get(url).text)
        assert loaded, url
        assert all(re.match(r"/|http://127\.0\.0\.1:8001/", address) for address in loaded), loaded
    style = client.get("/assets/explore.css")
    assert (style.status_code, style.headers["content-type"].split(";")[0]) == (200, "text/css")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_methods_that_write_are_refused(client: TestClient, method: str) -> None:
    answer = client.request(method, "/data/rows")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "sql",
    [
        "delete from rows",
        "insert into about values ('a', 'b')",
        "drop table rows",
        "attach 'other.db' as other",
        "pragma query_only=0",
        "with x as (select 1) delete from rows",
        "select 1; delete from rows",
        "select load_extension('x')",
        "select writefile('x', 'y')",
        "select length(hex(zeroblob(900000000)))",
    ],
)
def test_sql_that_writes_is_refused(client: TestClient, sql: str) -> None:
    answer = client.get("/data.json", params={"sql": sql})
    assert (answer.status_code, answer.json()["ok"]) == (400, False)
    assert numbers(client, "/data/rows") == [1, 2, 3, 4, 5]


def test_sql_that_runs_too_long_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(SETTINGS, "sql_time_limit_ms", 50)
    slow = site(tmp_path)
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    answer = slow.get("/data.json", params={"sql": endless})
    assert (answer.status_code, answer.json()["title"]) == (400, "SQL Interrupted")
    assert numbers(slow, "/data/rows?_search=recipe") == [2, 5]


def test_a_page_elsewhere_is_given_no_leave_to_read(client: TestClient) -> None:
    answer = client.get("/data/rows.json", headers={"origin": "http://elsewhere.example"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_another_name_for_the_server_is_not_answered(client: TestClient) -> None:
    assert client.get("/data/rows.json", headers={"host": "elsewhere.example"}).status_code == 421
    assert client.get("/data/rows.json", headers={"host": "elsewhere.example:8001"}).status_code == 421
    for host in ("localhost:8001", "127.0.0.1", "[::1]:8001"):
        assert client.get("/data/rows.json", headers={"host": host}).status_code == 200


def test_the_site_can_be_mounted_under_a_path(tmp_path: Path) -> None:
    built = open_database(Sources(str(write_rows(tmp_path))), tmp_path / "cache")
    outer = Starlette(routes=[Mount("/explore", make_app(built.path, base_url="/explore/"))])
    client = TestClient(outer, base_url="http://localhost")
    assert 'action="/explore/data/rows"' in client.get("/explore/").text
    assert [row["number"] for row in client.get("/explore/data/rows.json?_search=recipe&_shape=array").json()] == [2, 5]
    assert client.get("/explore/assets/explore.css").status_code == 200
    assert client.get("/explore/random", follow_redirects=False).headers["location"].startswith("/explore/data/rows/")


def test_a_split_and_findings_become_facets(tmp_path: Path) -> None:
    examples = load_examples(write_rows(tmp_path), keep_blank=True).examples
    split = make_split(examples, validation_share=0, test_share=0.4, seed=1, near_threshold=0.9)
    save_split(split, tmp_path / "split.json")
    found = [
        {"id": examples[3].id, "rule": "empty-output", "why": "the output is empty"},
        {"id": examples[2].id, "rule": "no-input", "why": "says 'Noinput'"},
        {"id": examples[2].id, "rule": "markup", "why": "has tags"},
    ]
    lines = "".join(json.dumps(one) + "\n" for one in found)
    (tmp_path / "findings.jsonl").write_text(lines, encoding="utf-8")
    client = site(tmp_path, split=tmp_path / "split.json", findings=tmp_path / "findings.jsonl")
    sides = client.get("/data/rows.json?_shape=array").json()
    assert [row["split"] for row in sides] == [split.side_of()[e.id] for e in examples]
    assert {row["split"] for row in sides} == {"train", "test"}
    assert numbers(client, "/data/rows?findings__arraycontains=markup") == [3]
    assert 'href="/data/rows?findings__arraycontains=no-input">no-input</a> <span>1</span>' in client.get("/").text
    by_rule = client.get("/data/by-rule.json?_shape=array").json()
    assert [(r["rule"], r["rows"]) for r in by_rule] == [("empty-output", 1), ("markup", 1), ("no-input", 1)]
    by_split = client.get("/data/by-split.json?_shape=array").json()
    assert {row["split"]: row["rows"] for row in by_split} == {"train": len(split.train), "test": len(split.test)}
    assert client.get("/data/findings.json?_shape=array").json()[0]["row"] == 4


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("nothing", DataError, "findings.jsonl:1: is not a JSON object"),
        ('{"id": "a", "rule": 1}', DataError, "findings.jsonl:1: has no text as rule and why"),
        ('{"id": "a", "rule": "b", "why": "c"}\n\n[1]', DataError, "1 of 2 lines are no findings"),
        (None, UsageError, "findings.jsonl: cannot be read"),
    ],
)
def test_findings_that_are_none_are_refused(tmp_path: Path, text: str | None, kind: type, message: str) -> None:
    path = tmp_path / "findings.jsonl"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(kind, match=re.escape(message)):
        open_database(Sources(str(write_rows(tmp_path)), findings=path), tmp_path / "cache")


def test_what_curate_found_is_read_as_it_wrote_it(cli: Cli, tmp_path: Path) -> None:
    path, findings = write_rows(tmp_path), tmp_path / "findings.jsonl"
    code, _, err = cli("curate", path, "--findings", findings)
    assert code == 0, err
    rules = {json.loads(line)["rule"] for line in findings.read_text(encoding="utf-8").splitlines()}
    assert "empty-output" in rules
    by_rule = site(tmp_path, findings=findings).get("/data/by-rule.json?_shape=array").json()
    assert {row["rule"] for row in by_rule} == rules


def test_a_database_is_made_once_for_the_same_content(tmp_path: Path) -> None:
    path, cache = write_rows(tmp_path), tmp_path / "cache"
    first = open_database(Sources(str(path)), cache)
    again = open_database(Sources(str(path)), cache)
    assert (first.reused, again.reused, again.path, again.about) == (False, True, first.path, first.about)
    other = open_database(Sources(str(path), limit=2), cache)
    assert (other.reused, other.about["rows"], other.path == first.path) == (False, 2, False)
    first.path.write_bytes(b"damaged")
    assert open_database(Sources(str(path)), cache).about["rows"] == 5


def test_the_cache_keeps_the_databases_used_last(tmp_path: Path) -> None:
    paths = []
    for count in range(1, KEPT + 3):
        (tmp_path / str(count)).mkdir()
        source = write_rows(tmp_path / str(count), ROWS[:1] * count)
        paths.append(open_database(Sources(str(source)), tmp_path / "cache").path)
        os.utime(paths[-1], (count, count))
    assert sorted((tmp_path / "cache").iterdir()) == sorted(paths[-KEPT:])


def test_a_kept_database_is_where_it_was_asked_for_and_takes_no_others_place(tmp_path: Path) -> None:
    keep = tmp_path / "a #1 100%?.db"
    source = write_rows(tmp_path)
    built = open_database(Sources(str(source)), tmp_path / "cache", keep)
    assert (built.path, (tmp_path / "cache").exists()) == (keep, False)
    assert open_database(Sources(str(source)), tmp_path / "cache", keep).reused
    assert (
        TestClient(make_app(keep), base_url="http://localhost")
        .get("/data/rows.json")
        .json()["filtered_table_rows_count"]
        == 5
    )
    with pytest.raises(UsageError, match="is there already, and holds something else"):
        open_database(Sources(str(source), limit=1), tmp_path / "cache", keep)
    assert read_about(keep)["rows"] == 5


def test_the_database_can_be_downloaded_and_searched_by_itself(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_bytes(client.get("/data.db").content)
    with sqlite3.connect(tmp_path / "copy.db") as connection:
        sql = (
            "select number from rows where number in (select rowid from rows_fts where rows_fts match 'egg') order by 1"
        )
        assert [number for (number,) in connection.execute(sql)] == [2, 5]


def test_conversations_and_unknown_columns_have_columns_of_their_own() -> None:
    history = (Message("user", "Hi"), Message("assistant", "Hello"))
    example = Example(
        "Add.", "", "5", "Be brief.", history, "rows.jsonl:7", ("seed_1",), {"Output": [1], "a__b": 1.5, "_c]": True}
    )
    table = make_table([example])
    row = dict(zip(["number", *(c.name for c in table.columns)], next(table.rows()), strict=True))
    assert row == {
        "number": 1, "instruction": "Add.", "input": "", "output": "5", "system": "Be brief.",
        "earlier": "user: Hi\n\nassistant: Hello", "source": "rows.jsonl", "line": 7, "length": "1 to 9 words",
        "words": 1, "verb": "add", "noun": None, "lineage": '["seed_1"]', "Output_2": "[1]", "a_b": 1.5, "c": "true",
        "id": example.id,
    }  # fmt: skip


def test_too_many_unknown_columns_go_together(tmp_path: Path) -> None:
    examples = [Example("Add.", "", "5", extra={f"k{n}": n for n in range(m + 1)}) for m in range(60)]
    table = make_table(examples)
    assert [c.name for c in table.columns if c.name.startswith("k")] == [f"k{n}" for n in range(40)]
    last = dict(zip(["number", *(c.name for c in table.columns)], list(table.rows())[-1], strict=True))
    assert json.loads(last["extra"]) == {f"k{n}": n for n in range(40, 60)}  # type: ignore[arg-type]


def test_rows_that_cannot_be_read_are_left_out_and_said(tmp_path: Path) -> None:
    page = site(tmp_path, [*ROWS, {"instruction": 1, "output": "x"}]).get("/").text
    assert "1 row could not be read" in page
    assert "rows.jsonl:6: " in page


def test_columns_of_any_name_and_cells_of_any_size_are_shown(tmp_path: Path) -> None:
    names = [
        "select",
        "order by",
        "from",
        "rowid",
        "_facet",
        "rank",
        "rows_fts",
        " ",
        "Number",
        'a"b]c',
        "?a=b&c",
        "%",
        "#",
    ]
    big = "x" * 3_000_000
    rows = [
        {
            "instruction": "\u202e\U0001f469\u200d\U0001f469 \ufdfd",
            "input": "",
            "output": big,
            **dict.fromkeys(names, n),
        }
        for n in "ab"
    ]
    odd = site(tmp_path, rows)
    (first, second) = odd.get("/data/rows.json?_shape=array").json()
    assert (first["output"], first["instruction"]) == (big, rows[0]["instruction"])
    assert [key for key in first if (first[key], second[key]) == ("a", "b")] == [
        "select", "order by", "from", "rowid_2", "facet", "rank", "rows_fts", "column", "Number_2", "a_b_c", "a_b_c_2",
        "column_2", "column_3",
    ]  # fmt: skip
    assert len(odd.get("/data/rows").text) < 60_000  # a table shows the beginning of a cell
    assert big in odd.get("/data/rows/1").text
    links = [link.replace("&amp;", "&") for link in re.findall(r'<a href="(/data/rows\?[^"]+)"', odd.get("/").text)]
    assert len(links) > 20
    assert {link: odd.get(link).status_code for link in links} == dict.fromkeys(links, 200)


def test_a_row_leads_to_its_neighbours(client: TestClient) -> None:
    pages = [client.get(f"/data/rows/{number}").text for number in (1, 3, 5)]
    ways = [re.findall(r'href="/data/rows/(\d)" rel="(prev|next)"', page) for page in pages]
    assert ways == [[("2", "next")], [("2", "prev"), ("4", "next")], [("4", "prev")]]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.text(), st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.text()))
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_column_and_value_can_be_stored_and_found(extras: list[dict[str, Any]]) -> None:
    table = make_table([Example("Do it.", "", "Done.", extra=extra) for extra in extras])
    names = ["number", *(c.name for c in table.columns)]
    assert len({name.lower() for name in names}) == len(names)
    connection = sqlite3.connect(":memory:")
    columns = ", ".join(f'"{name}"' for name in names)
    connection.execute(f"create table rows ({columns})")
    connection.executemany(f"insert into rows values ({', '.join('?' * len(names))})", table.rows())
    assert connection.execute("select count(*) from rows").fetchone() == (len(extras),)


@given(st.text())
def test_a_column_name_is_one_that_urls_and_sql_can_carry(key: str) -> None:
    name = column_name(key, {"column"})
    assert name
    assert name.lower() != "column"
    assert not name.startswith("_")
    assert not set(name) & set("[]\"'`\0\n")
    assert "__" not in name


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_sound_text_can_be_encoded_and_sound_again(text: str) -> None:
    assert sound(sound(text)) == sound(text)
    assert "\0" not in sound(text).encode().decode()


@given(st.text())
def test_any_text_is_a_valid_question_for_the_nearest_rows(text: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("create virtual table f using fts5(instruction, input)")
    assert connection.execute("select * from f where f match ?", [any_word("instruction", text)]).fetchall() == []


def test_shuffling_is_the_same_everywhere() -> None:
    assert shuffle(1, "a") == 62688223382197047


def test_a_place_that_cannot_be_written_is_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out, err = cli(
        "explore", write_rows(tmp_path), "--no-browser", "--port", 0, "--keep", tmp_path / "file" / "a.db"
    )
    assert (code, out) == (4, "")
    assert re.fullmatch(r"pacos: \S+/file/a\.db: cannot be written: [^;]+; free some space, or name another .*\n", err)


def test_what_a_killed_run_left_half_written_goes_in_time(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    old, new = tmp_path / "cache" / ".a.db.1.part", tmp_path / "cache" / ".b.db.2.part"
    old.touch(), new.touch()
    os.utime(old, (1, 1))
    built = open_database(Sources(str(write_rows(tmp_path))), tmp_path / "cache")
    assert sorted((tmp_path / "cache").iterdir()) == sorted([new, built.path])


def test_a_port_in_use_is_one_line(cli: Cli, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = cli("explore", write_rows(tmp_path), "--no-browser", "--port", port)
    assert (code, out) == (2, "")
    assert (
        err
        == f"pacos: port {port} of 127.0.0.1: Address already in use; give another with --port (0 takes a free one)\n"
    )


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PACOS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "pacos",
        "explore",
        str(write_rows(tmp_path)),
        "--no-browser",
        "--port",
        "0",
        "--json",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_serves_until_a_signal_ends_it(running: subprocess.Popen[str], number: int, code: int) -> None:
    assert running.stdout is not None
    ready = json.loads(running.stdout.readline())
    assert (ready["rows"], ready["reused"], Path(ready["database"]).is_file()) == (5, False, True)
    with urlopen(f"{ready['url']}data/rows.json?_search=recipe&_shape=array") as answer:
        assert [row["number"] for row in json.load(answer)] == [2, 5]
    began = time.monotonic()
    running.send_signal(number)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out, err) == (code, "", "")
    assert time.monotonic() - began < 15
