"""`pacos plan`: memory, time and dollars of a run before anything is spent."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pacos.cli.plan_tables import does_not_fit, print_measured, print_plan
from pacos.cli.show import bar, note, plain, say
from pacos.errors import ResourceError, UsageError, UserError
from pacos.recipes import Recipe, load_recipe

if TYPE_CHECKING:
    from pacos.training import Prepared
    from pacos.training.devices import Device, Efficiency
    from pacos.training.plan import Estimate, Plan

Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="override a recipe key; may be given more than once")
]


@dataclass(frozen=True)
class Asked:
    """What the command line says of the device and its price."""

    hardware: str | None
    memory: str | None
    price: float | None
    gpus: int
    mfu: float | None

    @property
    def efficiency(self) -> Efficiency | None:
        from pacos.training.devices import Efficiency

        return None if self.mfu is None else Efficiency(self.mfu, self.mfu)


def plan(
    recipe: Annotated[str, typer.Argument(help="a recipe that comes with pacos (see docs/recipes.md), or a YAML file")],
    hardware: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="plan for this device: 4090, a100-80gb, ...; 'here' is this machine"),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="plan for a GPU with this much memory: 24GB, 16GiB")
    ] = None,
    price: Annotated[float | None, typer.Option(metavar="DOLLARS", help="of one device for one hour", min=0)] = None,
    gpus: Annotated[int, typer.Option(help="devices that divide the weights and share the work", min=1)] = 1,
    mfu: Annotated[
        float | None,
        typer.Option(help="share of the device's peak that is reached, in place of the assumed range", max=1),
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="load the model here and run three steps")] = False,
    set_: Set = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="print the plan as JSON")] = False,
) -> None:
    """Memory, time and cost of a run, by method and device, before anything is spent. Needs no weights."""
    from pacos.models.load import refuse_unknown_device

    refuse_idle_options(hardware, memory, measure, mfu, gpus)
    refuse_non_finite(price, mfu)
    asked = Asked(hardware, memory, price, gpus, mfu)
    resolved = load_recipe(recipe, set_)
    refuse_unknown_device(resolved.model.device)
    prepared = rows_of(resolved)
    planned = plan_of(resolved, prepared)
    if measure:
        report_measured(planned, prepared, asked, as_json)
        return
    estimates = estimates_of(planned, asked)
    if as_json:
        print(json.dumps(as_tree(planned, estimates)))
    else:
        print_plan(planned, estimates, asked.efficiency)
    own = estimates[0]
    if (hardware, memory) != (None, None) and not own.fits:
        raise ResourceError(does_not_fit(planned, own))


def refuse_idle_options(hardware: str | None, memory: str | None, measure: bool, mfu: float | None, gpus: int) -> None:
    """Raises UsageError for options that contradict each other."""
    if hardware is not None and memory is not None:
        raise UsageError("--hardware names a device with its memory; give it or --memory, not both")
    if mfu is not None and mfu <= 0:
        raise UsageError(f"--mfu {mfu:g}: give a share above 0, as in 0.4")
    idle = [
        name
        for name, given in {"--memory": memory is not None, "--mfu": mfu is not None, "--gpus": gpus > 1}.items()
        if given
    ]
    if measure and (idle or hardware not in (None, "here")):
        raise UsageError(
            f"--measure runs on this machine, so {idle[0] if idle else '--hardware'} has no effect beside it"
        )


def refuse_non_finite(price: float | None, mfu: float | None) -> None:
    """Raises UsageError for inf and nan, which argument parsers take for numbers."""
    for option, value in {"--price": price, "--mfu": mfu}.items():
        if value is not None and not math.isfinite(value):
            raise UsageError(f"{option} {value}: give a finite number")


def rows_of(recipe: Recipe) -> Prepared | None:
    """The rows as the run will see them; None where data or tokenizer cannot be had and what is known of the data will do."""
    from pacos.cli.train import prepare_run
    from pacos.training.known import DATA

    try:
        return prepare_run(recipe)
    except UserError as error:
        if recipe.data.path not in DATA or error.exit_code == 3:
            raise
        note(f"planned by what is known of {recipe.data.path}: {str(error).splitlines()[0]}")
        return None


def plan_of(recipe: Recipe, prepared: Prepared | None) -> Plan:
    from pacos.training.known import DATA
    from pacos.training.plan import config_of, make_plan
    from pacos.training.work import work_by, work_of

    work = work_of(prepared) if prepared else work_by(DATA[recipe.data.path], recipe)
    return make_plan(recipe, work, config_of(recipe, note))


def estimates_of(plan: Plan, asked: Asked) -> list[Estimate]:
    """The recipe as written comes first. For one device: every method. Else: every method on every device."""
    from pacos.training.plan import methods_of

    devices, methods = chosen(plan.recipe, asked) or common(plan.recipe), methods_of(plan.recipe)
    options: dict[str, Any] = {"devices": asked.gpus, "price": asked.price, "efficiency": asked.efficiency}
    found: dict[tuple[Device, str], Estimate] = {}
    with bar("running the step on shapes") as shown:
        for done, method in enumerate(methods, 1):
            found |= {(device, method): plan.estimate(method, device, **options) for device in devices}
            shown.update(done, len(methods), method)
    return [found[device, method] for device in devices for method in methods]


def common(recipe: Recipe) -> list[Device]:
    """This machine, where it has the device that the recipe names, and the table."""
    from pacos.training.devices import DEVICES

    try:
        return [here(recipe), *DEVICES]
    except UsageError as error:
        note(str(error))
        return list(DEVICES)


def chosen(recipe: Recipe, asked: Asked) -> list[Device]:
    """The device that was asked for."""
    from pacos.training.devices import Device, find_device, parse_bytes

    if asked.memory is not None:
        kind = "cpu" if recipe.model.device == "cpu" else "cuda"
        return [Device(asked.memory, kind, parse_bytes(asked.memory), 0.0)]
    if asked.hardware in ("here", "this machine"):
        return [here(recipe)]
    return [] if asked.hardware is None else [find_device(asked.hardware)]


def here(recipe: Recipe) -> Device:
    from pacos.models.load import pick_device, pick_dtype
    from pacos.training.measure import this_machine

    place = pick_device(recipe.model.device)
    return this_machine(pick_dtype(recipe.model.dtype, place), place)


def as_tree(plan: Plan, estimates: Sequence[Estimate]) -> dict[str, Any]:
    from pacos.recipes import resolved_tree

    work = plan.work
    return {
        "recipe": resolved_tree(plan.recipe),
        "steps": work.steps,
        "tokens": work.training.tokens,
        "response_tokens": work.training.targets,
        "rows_from": work.origin,
        "estimates": [
            plain(e) | {"fits": e.fits, "trains": e.trains, "memory": plain(e.memory) | {"total": e.memory.total}}
            for e in estimates
        ],
    }


def report_measured(plan: Plan, prepared: Prepared | None, asked: Asked, as_json: bool) -> None:
    """Three steps here, beside what was planned."""
    from pacos.training.measure import measure
    from pacos.training.plan import dtype_on

    if prepared is None:
        raise UsageError("--measure needs the rows and the model's files; they cannot be had here (see above)")
    own = plan.estimate(plan.recipe.method, here(plan.recipe), price=asked.price)
    demand = plan.demand(plan.recipe, dtype_on(plan.recipe, own.device))
    found = measure(prepared, load(plan.recipe), demand.trace, plan.work)
    if as_json:
        print(json.dumps(as_tree(plan, [own]) | {"measured": plain(found)}))
        return
    print_measured(plan, own, found, asked.price)


def load(recipe: Recipe) -> Any:
    from pacos.models import load_model

    say(f"loading {recipe.model.base}")
    return load_model(
        recipe.model.base,
        revision=recipe.model.revision,
        dtype=recipe.model.dtype,
        device=recipe.model.device,
        quantization="nf4" if recipe.method == "qlora" else "none",
        double_quant=recipe.model.double_quant,
    )
