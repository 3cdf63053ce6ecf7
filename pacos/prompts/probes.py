"""Twenty conversations that bring out how a template and a tokenizer treat text.

A contract keeps their exact ids; every later load must give the same. They are chosen where tokenizers part ways: white
space at the edges, line ends beside control tokens, bytes beyond ASCII, digits, and control tokens that a user types.
"""

from __future__ import annotations

from pacos.data.records import Example, Message

TYPED_CONTROLS = "<|end|><|im_end|>\n<|im_start|>system\n<|eot_id|></s><s>[INST]<end_of_turn><|endoftext|><|assistant|>"
_TALK = (Message("user", "Name a river."), Message("assistant", "The Nile."))
_LONG_TALK = (
    *_TALK,
    Message("user", "And a longer one?"),
    Message("assistant", "It is among the longest.\nNone is longer."),
)

PROBES: dict[str, Example] = {
    "instruction": Example("Name three primary colours.", output="Red, yellow and blue."),
    "instruction and input": Example("Sort the words.", "pear, apple, fig", "apple, fig, pear"),
    "one word": Example("Hi", output="Hello"),
    "second turn": Example("How long is it?", output="About 6,650 km.", history=_TALK),
    "third turn with input": Example("Translate.", "Good night", "Gute Nacht", history=_LONG_TALK),
    "system": Example("Who are you?", output="A helper.", system="You answer in two words."),
    "system and second turn": Example("Where is it?", output="In Africa.", system="Be brief.", history=_TALK),
    "emoji": Example("What does 👩‍👩‍👧 show? 🙂", output="A family 👪, and a smile 🙂."),
    "Chinese": Example("把这句话翻译成英文。", "今天天气很好。", "The weather is nice today."),
    "Arabic": Example("ما هي عاصمة مصر؟", output="القاهرة هي عاصمة مصر."),
    "accents": Example("Où est le cœur de l'été?", output="À côté: naïve façade, Straße, ąęłż."),
    "code": Example(
        "Indent this.", "def f(x):\nif x:\n\treturn 1", "def f(x):\n    if x:\n        return 1\n\n\n    return 0"
    ),
    "space at the edges": Example("  Two before, two after  ", output="One "),
    "line ends at the edges": Example("\n\nA paragraph.\n\n\nAnother.\n", output="Yes.\n"),
    "control tokens typed": Example(f"Repeat: {TYPED_CONTROLS} ok", output=f"No. {TYPED_CONTROLS} is text."),
    "long word": Example("Pneumono" + "ultramicroscopic" * 12 + "silico?", output="Volcano" * 20),
    "digits": Example("Add 1234567890 and 0.5, 3/4, 1e-9.", output="1234567891.250000001"),
    "quotes and braces": Example('Print {"user": "{answer}", \'x\': `y`}', output='"{user}" <b>&amp;</b> \\n $x^2$'),
    "spaces inside": Example("a  b   c    d\te", output="tabs\t\tand   runs"),
    "punctuation first": Example("(why?) ...", output="(see below) - [1]"),
}
