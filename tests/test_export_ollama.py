"""Modelfiles: the Go template renders the trained text on the probes, for every kind of template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prompts_tokenizers import (
    GEMMA_JINJA,
    LLAMA2_JINJA,
    chatml_tokenizer,
    llama_tokenizer,
    phi3_tokenizer,
    sentencepiece_tokenizer,
    with_tokens,
)

from pacos.errors import DataError
from pacos.export.go_template import GoTemplate
from pacos.export.ollama import bos_in_text, check_template, go_text, read_modelfile, write_modelfile
from pacos.prompts import Renderer, make_contract

CHAT = {"Messages": [{"Role": "system", "Content": "S"}, {"Role": "user", "Content": "U"}], "Names": ["b", "a"]}


def gemma_tokenizer() -> Any:
    tokenizer = sentencepiece_tokenizer("first", GEMMA_JINJA, adds_bos=True)
    return with_tokens(tokenizer, "<start_of_turn>", "<end_of_turn>")


MADE = {
    "chatml": lambda: Renderer(chatml_tokenizer(), "chat"),
    "chatml with a system text": lambda: Renderer(chatml_tokenizer(), "chat", 'Say "no" {{ . }}\n'),
    "alpaca": lambda: Renderer(chatml_tokenizer(), "alpaca"),
    "plain": lambda: Renderer(llama_tokenizer(), "plain"),
    "phi3": lambda: Renderer(phi3_tokenizer(), "phi3"),
    "llama 2": lambda: Renderer(llama_tokenizer(), "chat"),
    "gemma": lambda: Renderer(gemma_tokenizer(), "chat"),
}
STRIPPED = ["space at the edges", "line ends at the edges"]


@pytest.mark.parametrize("name", MADE)
def test_the_template_renders_the_trained_text_on_every_probe(name: str, tmp_path: Path) -> None:
    renderer = MADE[name]()
    contract = make_contract(renderer)
    left_out = write_modelfile(tmp_path, "a.gguf", contract, renderer, 4096)
    assert left_out == (STRIPPED if name in ("llama 2", "gemma") else [])
    tree = read_modelfile(tmp_path / "Modelfile")
    assert tree["from"] == "./a.gguf"
    assert tree["stops"] == [stop["token"] for stop in contract["stop"]]
    assert tree["parameters"]["num_ctx"] == "4096"
    assert check_template(tree["template"], contract, renderer) == (left_out, [])


def test_a_template_that_renders_other_text_is_named_by_probe() -> None:
    renderer = Renderer(chatml_tokenizer(), "chat")
    contract = make_contract(renderer)
    text = go_text(renderer.template, renderer.system).replace("assistant\\n", "assistant")
    _, wrong = check_template(text, contract, renderer)
    assert len(wrong) == 20


def test_bos_is_left_to_the_engine() -> None:
    renderer = Renderer(llama_tokenizer(), "chat")
    assert LLAMA2_JINJA
    contract = make_contract(renderer)
    assert bos_in_text(contract, renderer) == "<s>"
    text = GoTemplate(go_text(renderer.template, "", "<s>")).render(CHAT)
    assert text == "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST]"


# What Go itself prints for these (text/template, go1.22), from its documentation and Ollama's own templates.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a {{- 23 -}} < {{- 45 }}", "a23<45"),
        ('{{ "a\\tb" }}{{ `c"d` }}', 'a\tbc"d'),
        ("{{ if and .System (eq 1 1) }}yes{{ else if .Prompt }}p{{ else }}no{{ end }}", "no"),
        (
            "{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Role }}{{ if not $m.Content }}!{{ end }};{{ end }}",
            "0system;1user;",
        ),
        ('{{ range .Messages }}{{ $last := eq .Role "user" }}{{ if $last }}{{ .Content }}{{ end }}{{ end }}', "U"),
        (
            "{{ range $i, $_ := .Messages }}{{ if eq (len (slice $.Messages $i)) 1 }}last{{ $i }}{{ end }}{{ end }}",
            "last1",
        ),
        ('{{ $x := "a" }}{{ range .Messages }}{{ $x = .Role }}{{ end }}{{ $x }}', "user"),
        ('{{ $x := "a" }}{{ if true }}{{ $x := "b" }}{{ end }}{{ $x }}', "a"),
        ("{{ with .Missing }}x{{ else }}none{{ end }}{{/* said */}}", "none"),
        ('{{ "}}" }}{{ eq "a" (index .Names 1) }}', "}}true"),
    ],
)
def test_the_renderer_does_what_go_does(text: str, expected: str) -> None:
    assert GoTemplate(text).render(CHAT) == expected


@pytest.mark.parametrize("text", ["{{ if .A }}", "{{ end }}", "{{ .A | printf }}", "{{ nosuch .A }}", "{{ $x }}"])
def test_what_is_not_known_is_an_error(text: str) -> None:
    with pytest.raises(DataError, match="template: "):
        GoTemplate(text).render({"A": "a"})


def test_a_modelfile_needs_a_from(tmp_path: Path) -> None:
    path = tmp_path / "Modelfile"
    path.write_text('TEMPLATE """{{ .Prompt }}"""\n')
    with pytest.raises(DataError, match="not a Modelfile: it has no FROM"):
        read_modelfile(path)
