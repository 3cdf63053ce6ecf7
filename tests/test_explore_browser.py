"""`pacos explore` in headless Chromium: what a person does, and that a stored script tag stays text."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("datasette", reason="needs pacos[studio]")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which drives Chromium")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")

ROOT = Path(__file__).parents[1]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SCRIPT = "<script>document.title = 'ran'</script><img src=x onerror=\"document.title = 'ran'\">"
ROWS = [
    {"instruction": "Give three tips for staying healthy.", "input": "", "output": "Eat, sleep, run."},
    {"instruction": "Write a recipe.", "input": "eggs", "output": "Boil them."},
    {"instruction": f"Write a page. {SCRIPT}", "input": SCRIPT, "output": f"Here it is: {SCRIPT}"},
    {"instruction": "What is 2 + 3?", "input": "", "output": "5"},
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("explore")
    (folder / f"rows {SCRIPT[:8]}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pacos",
        "explore",
        f"rows {SCRIPT[:8]}.jsonl",
        "--no-browser",
        "--port",
        "0",
        "--json",
    ]
    environment = {**os.environ, "PACOS_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment)
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())["url"]
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        profile = tmp_path_factory.mktemp("profile")
        context = driver.chromium.launch_persistent_context(profile, executable_path=CHROMIUM, args=FLAGS)
        yield context
        context.close()


@pytest.fixture
def page(context: Any, address: str) -> Iterator[Any]:
    """The start page. At the end of a test nothing was blocked by the policy, and nothing asked for elsewhere."""
    page, blocked, asked = context.new_page(), [], []
    page.on("console", lambda message: blocked.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: blocked.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    page.close()
    assert blocked == []
    assert asked
    assert all(url.startswith((address, "data:")) for url in asked)


def cells(page: Any, column: str) -> list[str]:
    return page.locator(f"td.col-{column}").all_inner_texts()


def test_a_search_from_the_start_page_finds_rows(page: Any) -> None:
    page.get_by_role("searchbox").fill("recipes")
    page.keyboard.press("Enter")
    page.wait_for_url("**/data/rows?_search=recipes")
    assert cells(page, "instruction") == ["Write a recipe."]


def test_a_facet_is_followed_to_its_rows_and_left_again(page: Any) -> None:
    page.get_by_role("link", name="write", exact=True).click()
    page.wait_for_url("**/data/rows?verb=write")
    assert cells(page, "number") == ["2", "3"]
    page.locator(".facet-info a.cross").first.click()
    page.wait_for_url("**/data/rows")
    assert cells(page, "number") == ["1", "2", "3", "4"]


def test_sql_typed_into_the_editor_is_answered_at_a_url_of_its_own(page: Any) -> None:
    page.get_by_role("navigation").get_by_role("link", name="SQL").click()
    page.locator(".CodeMirror").click()
    page.keyboard.press("Control+A")
    page.keyboard.type("select count(*) as rows, max(words) as longest from rows where verb = 'write'")
    page.get_by_role("button", name="Run SQL").click()
    page.wait_for_url("**/data?sql=*")
    assert (cells(page, "rows"), cells(page, "longest")) == (["2"], ["10"])


def test_a_question_shows_its_box_filled_and_can_be_asked_anew(page: Any) -> None:
    page.get_by_role("link", name="Contains a text").click()
    assert page.get_by_label("search").input_value() == "recipe"
    page.get_by_label("search").fill("tips")
    page.get_by_role("button", name="Run SQL").click()
    page.wait_for_url("**/data/contains?search=tips*")
    assert cells(page, "number") == ["1"]


@pytest.mark.parametrize(
    "url", ["", "data/rows", "data/rows/3", "data/contains?search=page", "data/rows?_facet=output"]
)
def test_a_stored_script_shows_as_text_and_does_not_run(page: Any, address: str, url: str) -> None:
    page.goto(address + url)
    assert "ran" not in page.title().split()
    if url:
        assert SCRIPT in page.inner_text("body")
        assert page.locator("img").count() == 0
    else:
        assert page.locator("h1").inner_text() == "rows <script>.jsonl"


def test_a_random_row_is_one_click_away(page: Any) -> None:
    page.get_by_role("link", name="A random row").click()
    page.wait_for_url("**/data/rows/*")
    assert len(cells(page, "instruction")) == 1


@pytest.mark.parametrize("url", ["", "data", "data/rows", "data/rows/3", "data/contains?search=page", "data?sql=drop"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_telephone(context: Any, address: str, url: str, scheme: str) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": 360, "height": 780})
    page.emulate_media(color_scheme=scheme)
    page.goto(address + url)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
    assert (dark, page.evaluate("document.documentElement.scrollWidth")) == (scheme == "dark", 360)
    page.close()
