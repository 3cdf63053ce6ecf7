"""What each rule finds, and what it leaves alone: a row of each kind, side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacos.data import Example
from pacos.data.curation import RULES, SEVERITIES, choose_rules
from pacos.data.curation.arithmetic import agrees, value_of, wrong_equations
from pacos.data.curation.encoding import put_right
from pacos.data.curation.language import language_of
from pacos.data.curation.placeholders import noinput
from pacos.data.curation.privacy import iban, luhn, mask
from pacos.data.curation.rules import ROW_RULES
from pacos.errors import UsageError

Fields = dict[str, Any]
SHARED = Path(__file__).parents[2] / "shared" / "data" / "alpaca" / "alpaca_data.json"


def row(instruction: str = "Say it.", input: str = "", output: str = "Done.") -> Fields:
    return {"instruction": instruction, "input": input, "output": output}


LONG = "The company grew over the years, and its people were proud of what they had made, because they made it for"
FOUND: dict[str, list[Fields]] = {
    "empty-output": [row(output=""), row(output=" \n")],
    "no-output": [row(output="<No Output>"), row(output="<noinput>"), row(output="No output possible, this is no task."),
                  row(output="N/A (GPT model cannot take any action)")],
    "noinput": [row(input="Noinput"), row(input="<no input>")],
    "placeholder": [row(output='<noinput>\n"A title"'), row(input="Tip: read.\n\n<noinput>")],
    "merged-tasks": [row(output="Be kind.\n\n## 6. Instruction: Write a poem.\n6. Input:\n<noinput>"),
                     row(output="Yes.\n### Instruction:\nNext")],
    "field-mark": [row(output="Output:\nB A G G")],
    "control-token": [row(output="Bye<|im_end|>"), row(instruction="[INST] hello [/INST]"), row(output="a</s>b")],
    "template-mark": [row(output="Sure.\n### Response: x"), row(instruction="Below is an instruction that describes a task. Go")],
    "mojibake": [row(output="The cafÃ© is open."), row(input="donâ€™t")],
    "broken-character": [row(output="na\ufffdve"), row(output="lonely \u0326\u0326\u0326\u0326\u0326")],
    "control-character": [row(output="a\x03b"), row(output="a\x0bb")],
    "invisible": [row(output="many\u200b words"), row(instruction="\ufeffSay it.")],
    "escaped": [row(output="She said &quot;no&quot;."), row(output="caf\\u00e9")],
    "truncated": [row(output=LONG), row(output="Here it is:\n```python\nprint(1)\nx = 2"), row(output=f"{LONG} this,")],
    "repetition": [row(output="Go. " + "very good " * 12), row(output="ha" * 40 + "!")],
    "refusal": [row("What is the sum?", output="I'm sorry, I cannot do that."), row("Add 2 and 3.", output="I can't help with it.")],
    "as-an-ai": [row("Which food is best?", output="As an AI language model, I do not eat.")],
    "lived": [row("Describe a movie you watched recently.", output="I recently watched a comedy.")],
    "echo": [row("Name the longest river of Africa.", output="Name the longest river of Africa. ")],
    "double-input": [row("Edit: The dogs barked all day long.", "The dogs barked all day long.")],
    "unseen-link": [row("Summarize this article.", "https://news.test/a/1"),
                    row("Open the URL and classify the website", "https://www.apple.com")],
    "unseen-media": [row("Describe this photo in a sentence."), row("What could this sign be?", "![sign](./a.png)")],
    "made-media": [row("Draw a cat.", output="![cat](https://i.test/c.png)"), row("Book it.", output="I have booked two seats.")],
    "wants-media": [row("Design a logo for a bakery", output="A cake.")],
    "live": [row("Search the web for the number of refugees."), row("Send an email to your boss.")],
    "wrong-arithmetic": [row(output="So 12 x 4 = 58."), row("Calculate 8 * (25 + 7).", output="216")],
    "wrong-order": [row("Sort these alphabetically.", "pear, apple, fig", "apple, pear, fig"),
                    row("Sort in descending order: 3, 9, 5", output="9, 3, 5")],
    "broken-python": [row("Write Python to print one.", output="import os\nprint(os. sep"),
                      row(output="So:\n```python\ndef f(:\n```\n")],
    "broken-json": [row("Give me JSON.", output='{"a": 1,}')],
    "answer-language": [row("Write a short note about the weather in the city.",
                            output="Das Wetter in der Stadt ist heute schön und die Sonne scheint auch.")],
    "personal": [row(output="Write to jane.roe@uni-bonn.de."), row(output="Card 4539 1488 0343 6467."),
                 row(output="Call 212-736-5000."), row(output="Pay to DE89 3704 0044 0532 0130 00."), row(output="536-22-8745")],
    "secret": [row(output="key AKIAIOSFODNN7ABCDEFG"), row(input="-----BEGIN RSA PRIVATE KEY-----")],
}  # fmt: skip
LEFT_ALONE: dict[str, list[Fields]] = {
    "empty-output": [row(output="0")],
    "no-output": [row(output="No."), row(output="No output was lost in the fire, the firm said."), row(output="None")],
    "noinput": [row(input=""), row(input="No input devices were found"), row(input="0")],
    "placeholder": [row(input="<noinput>"), row(output="an input of 3")],
    "merged-tasks": [row(output="1. Instruction comes first.\n2. Then practice.")],
    "field-mark": [row(output="Output: 3")],
    "control-token": [row(output="if a < b | c > d"), row(output="<p>text</p>")],
    "template-mark": [row(output="# Response\nfine")],
    "mojibake": [row(output="Ça va, Ångström? Über £5 – “naïve” café"), row(output="日本語"), row(output="Ā ā")],
    "broken-character": [row(output="e\u0301le\u0300ve")],
    "control-character": [row(output="a\tb\nc")],
    "invisible": [row(output="a b"), row(output="\U0001f468\u200d\U0001f469")],
    "escaped": [row("Escape this HTML.", output="&quot;a&quot;")],
    "truncated": [row(output=f"{LONG} us."), row(output="a for")],
    "repetition": [row("Repeat ha 40 times.", output="ha" * 40), row(output="-" * 80)],
    "refusal": [row("Write an apology.", output="I'm sorry for the delay."), row(output="I can swim.")],
    "as-an-ai": [row("Are you an AI?", output="As an AI, yes.")],
    "lived": [row("Write about a film.", "The film", "I recently watched it.")],
    "echo": [row("Say it.", output="Say it.")],
    "double-input": [row("Edit the sentence.", "The dogs barked all day long.")],
    "unseen-link": [row("Shorten this URL.", "https://news.test/a/1"), row("Name a website.", output="https://a.test")],
    "unseen-media": [row("How does image processing work?"), row("Describe the painting.", "Oil on canvas, a lake, dusk.")],
    "made-media": [row("Show an image in HTML.", output='<img src="cat.jpg">')],
    "wants-media": [row("Write a title for a poster.", output="Clean air")],
    "live": [row("Explain how to search the web."), row("Write an email to a friend.")],
    "wrong-arithmetic": [row(output="7 / 2 = 3.5 and 10/3 = 3.33 and 2^3 = 8"), row("What is 2+2?", output="It is four, 4.0"),
                         row(output="3x + 4 - 2 = 10"), row(output="1/2 = 2/4"), row("Give a 1-2 sentence note.", output="3 cats")],
    "wrong-order": [row("Sort these alphabetically.", "pear, apple, fig", "apple, fig, pear"),
                    row("Sort by length, alphabetically.", "bb, a, ccc", "bb, a, ccc")],
    "broken-python": [row("Write Python to print one.", output="print(1)"), row("Write C.", output="int main() {")],
    "broken-json": [row("Give me JSON.", output='{"a": [1, 2]}'), row(output="{not asked}")],
    "answer-language": [row("Translate into German: the weather in the city is fine.",
                            output="Das Wetter in der Stadt ist heute schön und die Sonne scheint auch.")],
    "personal": [row(output="jane@example.com"), row(output="(555) 123-4567"), row(output="4539 1488 0343 6468"),
                 row(output="in 1984, 3.14159265358979")],
    "secret": [row(output="a task-list of high value")],
}  # fmt: skip


def test_every_row_rule_has_a_row_that_it_finds_and_one_that_it_leaves_alone() -> None:
    assert set(FOUND) == set(LEFT_ALONE) == {rule.name for rule in ROW_RULES}


@pytest.mark.parametrize(("name", "fields"), [(name, fields) for name, rows in FOUND.items() for fields in rows])
def test_a_rule_finds(name: str, fields: Fields) -> None:
    look = RULES[name].look
    assert look
    why = look(Example(**fields))
    assert len(why) > 5
    assert "\n" not in why


@pytest.mark.parametrize(("name", "fields"), [(name, fields) for name, rows in LEFT_ALONE.items() for fields in rows])
def test_a_rule_leaves_alone(name: str, fields: Fields) -> None:
    look = RULES[name].look
    assert look
    assert look(Example(**fields)) == ""


@pytest.mark.parametrize("name", [name for name in FOUND if RULES[name].mend])
def test_a_safe_fix_leaves_nothing_for_its_rule_to_find(name: str) -> None:
    rule = RULES[name]
    assert rule.look
    assert rule.mend
    for fields in FOUND[name]:
        mended = rule.mend(Example(**fields))
        assert mended is None or rule.look(mended) == ""
        assert (mended is None) == rule.mends.startswith("drops")


def test_what_safe_fixes_leave_is_what_was_meant() -> None:
    def mended(name: str, **fields: str) -> Example:
        mend = RULES[name].mend
        assert mend
        after = mend(Example(**row(**fields)))
        assert after is not None
        return after

    assert mended("noinput", input="No input required.").input == ""
    assert mended("mojibake", output="cafÃ© donâ€™t â‚¬5").output == "café don’t €5"
    assert mended("merged-tasks", output="Be kind.\n\n##\n11. Instruction: x").output == "Be kind."
    assert mended("merged-tasks", output="A.\n______\n12. Instruction: x\n12. Output: y").output == "A."
    assert mended("placeholder", output='<noinput>\n"Title"').output == '"Title"'
    assert mended("placeholder", input="Read it.\n<noinput>").input == "Read it.\n".rstrip("\n")
    assert mended("invisible", output="many\u200b words").output == "many words"


@pytest.mark.parametrize(
    "spelling",
    ["Noinput", "noinput", "No input", "No Input.", "<no input>", "<noinput>.", '"<noinput>"', "`<noinput>`", "(no input)",
     "N/A", "NA", "None", "none", "<N/A>", "No input required.", "no input provided", "<noinput> 8", "No input is needed", "The <noinput>",
     "<NO INPUT>", "- No input", "no_input", "no-input", "Not applicable", "null"],
)  # fmt: skip
def test_every_spelling_of_no_input_is_found(spelling: str) -> None:
    assert noinput(Example(**row(input=spelling))) == f"the input is '{spelling}'"


@pytest.mark.parametrize(
    "word", ["Nonet", "Nina", "nothing to wear", "A", "No", "no inputs from 3 sensors", "National"]
)
def test_a_word_like_it_is_an_input(word: str) -> None:
    assert noinput(Example(**row(input=word))) == ""


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data/alpaca/alpaca_data.json")
def test_the_28_empty_outputs_and_the_noinputs_of_alpaca_are_all_found() -> None:
    examples = [Example(**fields) for fields in json.loads(SHARED.read_text(encoding="utf-8"))]
    empty = [e for e in examples if RULES["empty-output"].look(e)]  # type: ignore[misc]
    assert len(empty) == 28
    said = [e for e in examples if "noinput" in e.input.lower().replace(" ", "") and len(e.input) < 30]
    assert len(said) == 649
    missed = [e.input for e in said if not noinput(e) and not RULES["placeholder"].look(e)]  # type: ignore[misc]
    assert missed == []


@given(st.text(min_size=1).filter(lambda t: not any(0xD800 <= ord(c) < 0xE000 for c in t)))
def test_text_read_in_the_wrong_encoding_is_read_again(text: str) -> None:
    wrong = text.encode("utf-8").decode("latin-1")
    if put_right(text) == text:
        assert put_right(wrong) == text


@given(st.integers(-999, 999), st.sampled_from("+-*"), st.integers(0, 999), st.integers(-3, 3))
def test_a_sum_is_wrong_exactly_where_it_does_not_hold(a: int, sign: str, b: int, off: int) -> None:
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    assert value_of(f"{a} {sign} {b}") == value
    assert bool(wrong_equations(f"{abs(a)} + {b} = {abs(a) + b + off}")) == bool(off)


@pytest.mark.parametrize(
    ("expression", "value"),
    [("2 x (3 + 4)", 14), ("1,200 ÷ 4", 300), ("2^10", 1024), ("2 ** 3 ** 9", None), ("1/0", None), ("9^99", None),
     ("__import__('os')", None), ("(" * 200, None), ("$3.50 + $1", 4.5), ("007 + 1", 8)],
)  # fmt: skip
def test_the_evaluator_knows_arithmetic_and_nothing_else(expression: str, value: float | None) -> None:
    assert value_of(expression) == value


def test_a_rounded_result_agrees() -> None:
    assert agrees(10 / 3, "3.33")
    assert agrees(10 / 3, "3")
    assert agrees(2 / 3, "0.66")
    assert agrees(1200.0, "1,200")
    assert not agrees(10 / 3, "3.43")
    assert not agrees(40.0, "41")


def test_card_and_account_numbers_are_told_by_their_checks() -> None:
    assert luhn("4539148803436467")
    assert not luhn("4539148803436468")
    assert not luhn("0000000000000000")
    assert iban("DE89 3704 0044 0532 0130 00")
    assert not iban("DE88 3704 0044 0532 0130 00")


def test_a_report_shows_two_characters_of_a_secret() -> None:
    assert mask("AKIAIOSFODNN7ABCDEFG") == "AK…(20 characters)"
    why = RULES["secret"].look(Example(**row(output="AKIAIOSFODNN7ABCDEFG")))  # type: ignore[misc]
    assert why == "holds a key AK…(20 characters)"


@pytest.mark.parametrize(
    ("text", "code"),
    [("What is the capital of France and of Spain?", "en"), ("¿Cuál es la capital de Francia y por qué es famosa?", "es"),
     ("Quelle est la capitale de la France et pour qui?", "fr"), ("Was ist die Hauptstadt von Frankreich und wie ist sie?", "de"),
     ("Qual è la capitale della Francia e come sono le strade?", "it"), ("Какая столица Франции?", "ru"), ("法国的首都是什么？", "zh"),
     ("フランスの首都はどこですか", "ja"), ("프랑스의 수도는 어디입니까", "ko"), ("x = 3; y += [1, 2]", ""), ("Paris", "")],
)  # fmt: skip
def test_a_language_is_told_where_it_can_be(text: str, code: str) -> None:
    assert language_of(text) == code


def test_rules_are_chosen_by_name_and_a_wrong_name_is_named() -> None:
    assert choose_rules() == tuple(RULES)
    assert choose_rules(["noinput", "echo"]) == ("noinput", "echo")
    assert "echo" not in choose_rules(without=["echo"])
    with pytest.raises(UsageError, match="no rule 'noinputs'; did you mean 'noinput'"):
        choose_rules(["noinputs"])


def test_every_rule_says_what_it_is() -> None:
    for rule in RULES.values():
        assert rule.severity in SEVERITIES
        assert rule.about
        assert bool(rule.mend) == bool(rule.mends)
