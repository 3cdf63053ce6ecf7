"""How a plan looks: memory by part, methods, devices, what was measured; every figure with its unit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pacos.cli.show import duration, out, print_table, tokens
from pacos.cli.show import size as whole_size

if TYPE_CHECKING:
    from pacos.training.devices import Efficiency
    from pacos.training.measure import Measured
    from pacos.training.plan import Estimate, Plan

UNITS = (("days", 86400), ("h", 3600), ("min", 60), ("s", 1))
ASSUMED = (
    "time: {flops} of arithmetic at {low:.0%} to {high:.0%} of the device's peak, which is assumed; --measure takes this machine's\n"
    "memory: the step's own tensors, counted by running it on shapes; beside them {runtime}"
)


def print_plan(plan: Plan, estimates: Sequence[Estimate], efficiency: Efficiency | None) -> None:
    """Memory by part on the first device; then what each method takes there, or on every device."""
    console, own = out(), estimates[0]
    methods = [e for e in estimates if e.device == own.device]
    console.print(headline(plan), markup=False)
    console.print(f"\non {where(own)}, {size(own.device.memory)}, packs of {own.pack_tokens:,} tokens", markup=False)
    header = ["memory at the peak", *own.memory.parts, "total", "reached in"]
    print_table(console, header, [parts_row(e) for e in methods])
    console.print()
    if len(methods) == len(estimates):
        header = ["method", "fits", "largest pack", "rows in it", "time", "cost"]
        print_table(console, header, [method_row(e) for e in methods])
    else:
        header = ["device", "memory", *(label(e) for e in methods)]
        print_table(console, header, list(device_rows(estimates, len(methods))))
    console.print(f"\n{footnote(plan, own, efficiency)}", markup=False)


def headline(plan: Plan) -> str:
    recipe, work = plan.recipe, plan.work
    return (
        f"{recipe.name}: {recipe.method} on {recipe.model.base}; {work.steps:,} steps, "
        f"{tokens(work.training.tokens)} tokens to compute, {tokens(work.training.targets)} of them carry loss\n{work.origin}"
    )


def where(estimate: Estimate) -> str:
    return estimate.device.name if estimate.devices == 1 else f"each of {estimate.devices} x {estimate.device.name}"


def label(estimate: Estimate) -> str:
    return estimate.method if estimate.trains else f"{estimate.method} *"


def parts_row(estimate: Estimate) -> list[str]:
    memory = estimate.memory
    return [label(estimate), *(size(part) for part in memory.parts.values()), size(memory.total), memory.phase]


def method_row(estimate: Estimate) -> list[str]:
    largest, rows = f"{estimate.largest_pack:,}", f"{estimate.rows_in_largest_pack:,.0f}"
    return [label(estimate), "yes" if estimate.fits else "no", largest, rows, time_of(estimate), dollars(estimate)]


def device_rows(estimates: Sequence[Estimate], methods: int) -> Iterator[list[str]]:
    """A row a device: time (and cost) of each method that fits."""
    for at in range(0, len(estimates), methods):
        group = estimates[at : at + methods]
        yield [where(group[0]), size(group[0].device.memory), *(cell(e) for e in group)]


def cell(estimate: Estimate) -> str:
    if not estimate.fits:
        return "-"
    return time_of(estimate) + (f", {dollars(estimate)}" if estimate.dollars else "")


def time_of(estimate: Estimate) -> str:
    return "?" if estimate.seconds is None else roughly(*estimate.seconds)


def roughly(low: float, high: float) -> str:
    """A range of seconds in the unit that suits its end: 40 to 95 s, 6 to 12 min, 1.5 to 3.1 h."""
    if high < 1:
        return "under 1 s"
    unit, each = next((pair for pair in UNITS if high >= 2 * pair[1]), UNITS[-1])
    if low < each / 2:
        return f"under {two_digits(high / each)} {unit}"
    digits = 0 if unit in ("s", "min") else 1
    ends = [f"{seconds / each:.{digits}f}" for seconds in (low, high)]
    return f"{ends[0]} to {ends[1]} {unit}" if ends[0] != ends[1] else f"{ends[1]} {unit}"


def dollars(estimate: Estimate) -> str:
    if estimate.dollars is None:
        return "?"
    low, high = map(money, estimate.dollars)
    return low if low == high else f"{low} to {high}"


def money(amount: float) -> str:
    """At least two significant digits: $1,234.00, $0.40, $0.0042."""
    return f"${amount:,.2f}" if amount >= 0.1 or amount == 0 else f"${two_digits(amount)}"


def two_digits(number: float) -> str:
    """Two significant digits, without an exponent."""
    if number >= 10 or number <= 0:
        return f"{number:,.0f}"
    return f"{number:.{1 - math.floor(math.log10(number))}f}"


def size(num_bytes: float) -> str:
    """As everywhere, but small parts keep two digits: 0.31 MiB."""
    mebibytes = num_bytes / 2**20
    return f"{two_digits(mebibytes)} MiB" if 0.01 <= mebibytes < 10 else whole_size(num_bytes)


def footnote(plan: Plan, own: Estimate, efficiency: Efficiency | None) -> str:
    """What the figures assume."""
    from pacos.training.devices import EFFICIENCY
    from pacos.training.memory import CPU_SHARE, CPU_SLACK, CUDA_CONTEXT, CUDA_SLACK, GIVEN_BACK_SLACK
    from pacos.training.plan import dtype_on

    share = efficiency or EFFICIENCY[own.device.kind]
    demand = plan.demand(plan.recipe, dtype_on(plan.recipe, own.device))
    flops = plan.flops(plan.recipe, demand)
    on_gpu = f"{size(CUDA_CONTEXT)} of CUDA and {CUDA_SLACK:.0%} that its allocator cannot use, on a GPU, are assumed"
    share_held = f"{size(CPU_SLACK)} and {CPU_SHARE:.0%} of the activations"
    held = f"{size(GIVEN_BACK_SLACK) if demand.gives_back else share_held} that the libraries and malloc hold besides"
    on_cpu = f"{size(plan.runtime)} of Python and libraries, measured, and {held}, on a CPU"
    text = ASSUMED.format(flops=f"{flops:.2g} FLOP", low=share.low, high=share.high, runtime=f"{on_cpu};\n{on_gpu}")
    return f"{text}\n* planned only: pacos trains 16- and 32-bit and NF4 bases, not 8-bit ones"


def does_not_fit(plan: Plan, own: Estimate) -> str:
    """What is lacking, and the least changes that would do."""
    need, there = size(own.memory.total), size(own.device.memory)
    lines = [f"  {text}" for text in plan.remedies(own.device, own.devices)]
    advice = (
        "\n".join(["what would make it fit:", *lines[:5]]) if lines else "nothing that is known here would make it fit"
    )
    return f"{plan.recipe.name} does not fit on {where(own)}: it needs {need}, and there are {there}\n  {advice}"


def length_of(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{two_digits(seconds)} s"


def print_measured(plan: Plan, own: Estimate, found: Measured, price: float | None) -> None:
    """Three steps and an evaluation beside what was planned."""
    console = out()
    steps = ", ".join(f"{two_digits(seconds)} s" for seconds in found.steps)
    off = own.memory.total / found.peak_memory_bytes - 1
    lines = [
        headline(plan),
        f"three steps: {steps}; an evaluation of a pack: {two_digits(found.evaluation)} s",
        f"time of the run: {length_of(found.expected)} ({length_of(found.low)} to {length_of(found.high)}, 95 % t interval of 3 steps);"
        f" planned {time_of(own)}",
        f"peak memory: {size(found.peak_memory_bytes)}; planned {size(own.memory.total)} ({off:+.1%})",
        f"rate: {found.flops_per_second / 1e9:,.0f} GFLOP/s, {found.flops_per_second / own.device.flops:.0%} of matrix products here",
    ]
    if price is not None:
        low, high = (seconds / 3600 * price for seconds in (found.low, found.high))
        lines.append(f"cost: {money(low)} to {money(high)}")
    console.print("\n".join(lines), markup=False)
