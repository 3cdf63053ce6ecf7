"""Who writes: teachers as they are named on the command line, with keys from the environment, or a model of this machine.

--teacher gpt-4o-mini                              at OPENAI_BASE_URL, with OPENAI_API_KEY
--teacher qwen@http://localhost:8000/v1            another server; the key of OpenAI is not sent there
--teacher @http://gpu7:8000/v1,key=GPU7_KEY        the first model that it serves, with a key of its own
--teacher base@http://gpu7:8000/v1,api=completions     a base model, which goes on writing the text of the request
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pacos.cli.show import say
from pacos.errors import UsageError, UserError, did_you_mean

if TYPE_CHECKING:
    from pacos.self_instruct.answers import Answer, Teacher
    from pacos.self_instruct.endpoint import Drawing, Endpoint
    from pacos.self_instruct.local import Local
    from pacos.self_instruct.options import Options

DEFAULT_URL = "https://api.openai.com/v1"
PRICES = {"price_in", "price_out"}
SETTINGS = {"key": str, "in_flight": int, "price_in": float, "price_out": float, "api": str}
_AT_URL = re.compile(r"@(?=https?://)")
"""Where the URL begins; models may have an @ in their names too."""
_SECRET = re.compile(r"//[^/?#]*@")


def open_teachers(options: Options) -> list[Teacher]:
    """Every teacher asked for. Raises UsageError where there is none, or one that cannot be."""
    remote = [open_endpoint(spec, options) for spec in options.teacher]
    local = [open_local(options)] if options.local else []
    teachers: list[Teacher] = [*remote, *local]
    if not teachers:
        raise UsageError(
            "no teacher: give --teacher MODEL (with OPENAI_BASE_URL and OPENAI_API_KEY in the environment), "
            "--teacher MODEL@URL, or --local MODEL"
        )
    names = [teacher.name for teacher in teachers]
    if len(set(names)) != len(names):
        raise UsageError(f"a teacher is given twice; names: {', '.join(names)}")
    return teachers


def drawing_of(options: Options) -> Drawing:
    from pacos.self_instruct.endpoint import Drawing

    return Drawing(options.max_tokens, options.temperature, options.top_p)


def open_endpoint(spec: str, options: Options) -> Endpoint:
    """A teacher behind a URL, from `MODEL[@URL][,key=VARIABLE][,in_flight=N][,price_in=X][,price_out=X][,api=NAME]`."""
    from pacos.self_instruct.budget import Price
    from pacos.self_instruct.endpoint import Endpoint

    named, *pairs = spec.split(",")
    own = dict(_setting(pair, spec) for pair in pairs)
    model, url = _AT_URL.split(named, 1) if _AT_URL.search(named) else _first_at(named)
    home = os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
    key = _key(str(own["key"])) if "key" in own else ""
    if "key" in own and not key:
        raise UsageError(f"--teacher {spec}: the environment has no {own['key']}; export it")
    if not url or url.rstrip("/") == home.rstrip("/"):
        url, key = home, key or _key("OPENAI_API_KEY")
    if options.budget_dollars is not None and not (options.price_in or options.price_out or PRICES & own.keys()):
        raise UsageError(
            f"--teacher {spec}: --budget-dollars needs its prices: give --price-in and --price-out, or behind it "
            ",price_in=X,price_out=Y (,price_in=0 where it costs nothing)"
        )
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--teacher {spec}: '{url}' is not the address of an API; give it as http://HOST:PORT/v1")
    if _SECRET.search(url):
        raise UsageError(
            f"--teacher {_SECRET.sub('//***@', spec)}: the address holds a name or password, and addresses are written "
            "into every row; give the key by an environment variable: ,key=VARIABLE"
        )
    endpoint = Endpoint(
        model,
        url,
        drawing_of(options),
        key=key,
        price=Price(float(own.get("price_in", options.price_in)), float(own.get("price_out", options.price_out))),
        in_flight=int(own.get("in_flight", options.in_flight)),
        timeout_seconds=options.timeout,
        api="completions" if own.get("api") == "completions" else "chat",
    )
    return endpoint if model else _first_model(endpoint)


def _first_at(named: str) -> tuple[str, str]:
    model, _, url = named.partition("@")
    return model, url


def _key(variable: str) -> str:
    """A key from the environment, without the line end that a file gave it. Raises UsageError for what no header can hold."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"the key in {variable} holds a character that no key has; export it again")
    return key


def _setting(pair: str, spec: str) -> tuple[str, str | int | float]:
    name, equals, text = pair.partition("=")
    if name not in SETTINGS or not equals:
        raise UsageError(
            f"--teacher {spec}: unknown '{name}'{did_you_mean(name, SETTINGS)}; known: {', '.join(SETTINGS)}"
        )
    try:
        value = SETTINGS[name](text)
    except ValueError:
        raise UsageError(f"--teacher {spec}: {name} is a number, not '{text}'") from None
    if name == "api" and value not in ("chat", "completions"):
        raise UsageError(f"--teacher {spec}: api is chat or completions, not '{text}'")
    if isinstance(value, int | float) and not (1 if name == "in_flight" else 0) <= value < float("inf"):
        raise UsageError(f"--teacher {spec}: {name}={text} is not accepted")
    return name, value


def _first_model(endpoint: Endpoint) -> Endpoint:
    """The endpoint with the name of the first model that it says it serves."""

    async def ask() -> list[str]:
        try:
            return await endpoint.models()
        finally:
            await endpoint.close()

    try:
        found = asyncio.run(ask())
    except OSError as error:
        raise UserError(f"{error}; name the model: --teacher MODEL@{endpoint.url}") from None
    if not found:
        raise UserError(f"{endpoint.url}: serves no model")
    return endpoint.named(found[0])


def open_local(options: Options) -> Local:
    """A model of this machine, or a run with its adapter, as a teacher."""
    from pacos.cli.session import find_run, open_base, open_run
    from pacos.inference import Engine, Sampling
    from pacos.self_instruct.answers import Answer
    from pacos.self_instruct.local import Local
    from pacos.training.record import FILE

    is_run = (find_run(options.local) / FILE).is_file()
    opened = open_run(options.local) if is_run else open_base(options.local, template=options.template)
    engine = Engine(opened.network, opened.renderer.stop_ids, slots=options.batch_size)

    def complete(texts: Sequence[str], numbers: Sequence[int]) -> list[Answer]:
        from pacos.data import Message

        prompts = [opened.renderer.render_chat([Message("user", text)]) for text in texts]
        samplings = [
            Sampling(options.max_tokens, options.temperature, options.top_p, seed=options.seed + number)
            for number in numbers
        ]
        return [
            Answer(
                opened.renderer.decode(done.ids),
                done.finish_reason,
                done.prompt_seconds + done.seconds,
                len(prompt),
                done.generated_tokens,
            )
            for prompt, done in zip(prompts, engine.generate(prompts, samplings), strict=True)
        ]

    say(f"{options.local} writes on {opened.network.device}, {options.batch_size} answers at once")
    return Local(f"local:{options.local}", complete, batch=options.batch_size, max_tokens=options.max_tokens)
