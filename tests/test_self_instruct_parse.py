"""Parsing: what teachers write becomes tasks, or says why not; nothing that they write raises."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pacos.data import Example
from pacos.self_instruct.parse import CUT, NO_INSTRUCTION, NO_OUTPUT, Task, parse_tasks, without_noinput
from pacos.self_instruct.requests import as_task

RIVERS = Task("Name three rivers.", "", "The Rhine, the Nile and the Amazon.")
SUM = Task("Add the numbers.", "2, 3 and 4", "9")

ALPACA = """###
4. Instruction: Name three rivers.
4. Input:
<noinput>
4. Output:
The Rhine, the Nile and the Amazon.

###
5. Instruction: Add the numbers.
5. Input:
2, 3 and 4
5. Output:
9"""
BOLD = """Here are the tasks you asked for:

**Task 4**
**Instruction:** Name three rivers.
**Input:** <noinput>
**Output:** The Rhine, the Nile and the Amazon.

**Task 5**
**Instruction:** Add the numbers.
**Input:** 2, 3 and 4
**Output:** 9
"""
MARKDOWN = """### Task 4
**4. Instruction:** Name three rivers.
**4. Input:** N/A
**4. Output:** The Rhine, the Nile and the Amazon.

---

### Task 5
**5. Instruction:** Add the numbers.
**5. Input:** 2, 3 and 4
**5. Output:** 9
"""
WENT_ON = ALPACA.removeprefix("###\n4. Instruction:")
RENUMBERED = ALPACA.replace("5. ", "1. ").replace("4. ", "1. ")
NUMBER_OF_ITS_OWN = ALPACA.replace("4. Input", "17. Input").replace("4. Output", "17. Output")
WITHOUT_NUMBERS = ALPACA.replace("4. ", "").replace("5. ", "")
NEVER_SAYS_INSTRUCTION = ALPACA.replace("Instruction: ", "").replace("4. Input", "Input").replace("5. Input", "Input")
WITHOUT_INPUT = ALPACA.replace("4. Input:\n<noinput>\n", "")
WINDOWS = ALPACA.replace("\n", "\r\n")
FENCED = f"```text\n{ALPACA}\n```"
THOUGHT = f"<think>\nThey want 2 tasks. 1. Instruction: no\n</think>\n\n{ALPACA}"
QUOTED = ALPACA.replace("Name three rivers.", '"Name three rivers."')
LOUD = ALPACA.replace("Instruction", "INSTRUCTION").replace("Output", "output")
RESPONSES = ALPACA.replace("Output", "Response")
AS_JSON = json.dumps([{"instruction": t.instruction, "input": t.input, "output": t.output} for t in (RIVERS, SUM)])
IN_AN_OBJECT = json.dumps({"tasks": json.loads(AS_JSON)})
AS_LINES = "\n".join(json.dumps(row) for row in json.loads(AS_JSON))
FENCED_JSON = f"```json\n{AS_JSON}\n```"


@pytest.mark.parametrize(
    "text",
    [
        ALPACA, BOLD, MARKDOWN, WENT_ON, RENUMBERED, NUMBER_OF_ITS_OWN, WITHOUT_NUMBERS, NEVER_SAYS_INSTRUCTION,
        WITHOUT_INPUT, WINDOWS, FENCED, THOUGHT, QUOTED, LOUD, RESPONSES, AS_JSON, IN_AN_OBJECT, AS_LINES, FENCED_JSON,
    ],
)  # fmt: skip
def test_every_way_of_writing_the_list_gives_the_same_tasks(text: str) -> None:
    assert parse_tasks(text) == [RIVERS, SUM]


def test_the_last_task_of_a_cut_answer_is_cut() -> None:
    assert [task.problem for task in parse_tasks(ALPACA[:-20], cut=True)] == ["", CUT]
    assert [task.problem for task in parse_tasks(AS_JSON[:-20], cut=True)] == [CUT]


def test_missing_fields_are_named() -> None:
    assert parse_tasks(ALPACA.replace("5. Output:\n9", ""))[1] == Task("Add the numbers.", "2, 3 and 4", "", NO_OUTPUT)
    assert parse_tasks(ALPACA.replace("5. Output:\n9", "5. Output:"))[1].problem == NO_OUTPUT
    assert parse_tasks(ALPACA.replace("Name three rivers.", ""))[0].problem == NO_INSTRUCTION
    assert parse_tasks("1. Instruction: Sing") == [Task("Sing", "", "", NO_OUTPUT)]


def test_numbered_headers_leave_lines_that_look_like_headers_in_the_text() -> None:
    text = "1. Instruction: Sort it.\n1. Input:\nInput: 3 1 2\nOutput: ?\n1. Output:\nAnswer: 1 2 3\nInput: done"
    assert parse_tasks(text) == [Task("Sort it.", "Input: 3 1 2\nOutput: ?", "Answer: 1 2 3\nInput: done")]


def test_an_answer_without_tasks_has_none() -> None:
    assert parse_tasks("") == []
    assert parse_tasks("I am sorry, but I cannot help with that.") == []
    assert parse_tasks('{"error": "overloaded"}') == []


@pytest.mark.parametrize(
    "text",
    ["<noinput>", "<no input>", "<NoInput>", "<Noinput>", "noinput", "No input", "No input.", "(no input)", "[No Input]",
     "<no-input>", "<no_input>", "No input required.", "no input needed", "No additional input is provided", "None", "none.",
     "N/A", "n/a.", "NA", "Not applicable", "-", "--", "—", '""', "", "`<noinput>`", "*None*", "empty", "null"],
)  # fmt: skip
def test_every_spelling_of_no_input_is_no_input(text: str) -> None:
    assert without_noinput(text) == ""


@pytest.mark.parametrize("text", ["None of them came.", "No input lag was measured.", "nano", "0", "N", "the null set"])
def test_an_input_that_only_begins_like_it_stays(text: str) -> None:
    assert without_noinput(text) == text


WORD = st.text("abcXYZ019éß漢", min_size=1, max_size=6)
SENTENCE = st.lists(WORD, min_size=3, max_size=6).map(lambda words: f"the {' '.join(words)}.")
TASKS = st.lists(st.tuples(SENTENCE, st.one_of(st.just(""), SENTENCE), SENTENCE), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(TASKS, st.integers(1, 500))
def test_what_is_shown_to_a_teacher_is_read_back_as_it_was(tasks: list[tuple[str, str, str]], first: int) -> None:
    text = "".join(as_task(Example(*task), number) for number, task in enumerate(tasks, first))
    assert parse_tasks(text) == [Task(*task) for task in tasks]


@settings(max_examples=60, deadline=None)
@given(TASKS, st.integers(0, 10_000))
def test_a_cut_answer_gives_the_whole_tasks_before_the_cut(tasks: list[tuple[str, str, str]], at: int) -> None:
    text = "".join(as_task(Example(*task), number) for number, task in enumerate(tasks, 1))
    text = text[: at % len(text)]
    whole = [task for task in parse_tasks(text, cut=True) if not task.problem]
    assert whole == [Task(*task) for task in tasks][: len(whole)]
    assert len(whole) >= text.count("###") - 2


@settings(deadline=None)
@given(st.text())
@example("1. Instruction:\n2. Instruction:\n")
@example("[" * 100_000)
@example('{"instruction": ' * 3_000)
@example("###" * 20_000)
@example("\n1. " * 20_000)
@example("Output:\n" * 5_000)
def test_no_text_is_too_strange_to_read(text: str) -> None:
    for task in parse_tasks(text, cut=True):
        assert task.problem in ("", CUT, NO_OUTPUT, NO_INSTRUCTION)


@given(
    st.lists(
        st.sampled_from(["4. ", "Instruction", "Input", "Output", ":", "\n", "###", "**", "x", " ", "{", '"', "Task 3"])
    )
)
def test_no_mixture_of_headers_is_too_strange_to_read(pieces: list[str]) -> None:
    for task in parse_tasks("".join(pieces)):
        assert bool(task.instruction) or task.problem == NO_INSTRUCTION
