"""How a training step's time and memory grow with batch, steps, canvas and hidden size.

    python benchmarks/scaling.py --out scaling.json --plot scaling.png

One size at a time departs from the preset; each point is a process of its own, so that its peak memory is its own.
Forms as in bench_model.py: `eager`, `fastest`, `bf16`, `products`. Memory is the highest resident size while stepping
less that before the first step, as Linux counts it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import report

PRESET = "paper"
BATCH = 100
SWEEPS = {
    "batch": (1, 4, 16, 64, 256),
    "steps": (4, 8, 16, 32, 64),
    "canvas side": (28, 44, 60, 92, 124),
    "hidden units": (100, 200, 300, 450, 600),
}
FORMS = ("eager", "fastest", "bf16", "products")
COLOURS = {"eager": "tab:gray", "fastest": "tab:blue", "bf16": "tab:orange", "products": "black"}


def sizes(sweep: str, value: int) -> tuple[dict[str, Any], int]:
    """What of the preset changes, and the batch."""
    changes: dict[str, Any] = {
        "batch": {},
        "steps": {"steps": value},
        "canvas side": {"image_size": (value, value)},
        "hidden units": {"encoder_units": value, "decoder_units": value, "latent_units": value // 2},
    }[sweep]
    return changes, value if sweep == "batch" else BATCH


def step_of(form: str, changes: dict[str, Any], batch: int) -> Callable[[], None]:
    """A training step without the optimiser, or the products that it needs."""
    import products
    import torch

    import aligndraw

    config = aligndraw.AlignDRAWConfig.preset(PRESET).replace(**changes)
    if form == "products":
        return products.call(products.training(config, batch), "cpu")
    torch.manual_seed(0)
    model = aligndraw.AlignDRAW(config)
    images = torch.rand(batch, config.channels, *config.image_size)
    captions = torch.randint(config.vocabulary_size, (batch, products.WORDS))
    noise = torch.randn(batch, config.steps, config.latent_units)
    parameters = list(model.parameters())

    def step() -> None:
        with (
            aligndraw.use_backend("reference") if form == "eager" else contextlib.nullcontext(),
            torch.autocast("cpu", torch.bfloat16, enabled=form == "bf16"),
        ):
            loss = model(images, captions, noise=noise).loss
        torch.autograd.grad(loss, parameters)

    return step


def measure(form: str, changes: dict[str, Any], batch: int) -> dict[str, float]:
    """Median seconds of at least three steps in about a second, and MiB."""
    step = step_of(form, changes, batch)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest size counts from here
    step()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 1 and len(times) < 100):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return {"seconds": statistics.median(times), "mib": max(0.0, _status("VmHWM") - before) / 1024}


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(key + ":"))


def run() -> list[dict[str, Any]]:
    """All points, each from a process of its own."""
    rows = []
    for sweep, values in SWEEPS.items():
        for value in values:
            for form in FORMS:
                changes, batch = sizes(sweep, value)
                asked = json.dumps([form, changes, batch])
                done = subprocess.run([sys.executable, __file__, "--point", asked], stdout=subprocess.PIPE, check=True)
                rows.append({"sweep": sweep, "value": value, "form": form, **report.json_files.parse_json(done.stdout)})
                print(*rows[-1].values(), file=sys.stderr)
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table a sweep: milliseconds, and MiB in brackets."""
    parts = []
    for sweep, values in SWEEPS.items():
        lines = []
        for value in values:
            found = {r["form"]: r for r in rows if (r["sweep"], r["value"]) == (sweep, value)}
            cells = [f"{report.duration(found[f]['seconds'])} ({found[f]['mib']:.0f})" for f in FORMS]
            lines.append([str(value), *cells, report.ratio(found["eager"]["seconds"] / found["fastest"]["seconds"])])
        parts.append(report.table([sweep, *(f"{form} (MiB)" for form in FORMS), "fastest vs eager"], lines))
    return "\n\n".join(parts)


def plot(rows: list[dict[str, Any]], path: Path, words: str) -> None:
    """Time above, memory below, a column a sweep."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.5), layout="constrained")
    axes = figure.subplots(2, len(SWEEPS), sharey="row")
    for column, (sweep, values) in enumerate(SWEEPS.items()):
        for row, (key, factor) in enumerate((("seconds", 1e3), ("mib", 1.0))):
            ax = axes[row][column]
            for form in FORMS:
                points = [factor * r[key] for r in rows if (r["sweep"], r["form"]) == (sweep, form)]
                if form != "products" or key == "seconds":
                    style = ":" if form == "products" else "-"
                    ax.plot(values, points, style, marker="o", ms=4, label=form, color=COLOURS[form])
            ax.set(xscale="log", yscale="log")
            ax.set_xticks(values, map(str, values))
            ax.minorticks_off()
            ax.grid(linewidth=0.3)
            if row:
                ax.set_xlabel(sweep)
    axes[0][0].set_ylabel("milliseconds a training step")
    axes[1][0].set_ylabel("MiB at most while stepping")
    axes[0][0].legend()
    figure.suptitle(words, fontsize=8)
    report.written(path, lambda file: FigureCanvasAgg(figure).print_png(file))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--point", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, metavar="JSON", help="the points and where they were measured")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    options = parser.parse_args()
    if options.point:
        form, changes, batch = report.json_files.parse_json(options.point)
        print(json.dumps(measure(form, changes, batch)))
        return 0
    where = machine.describe("cpu")
    what = f"A training step of preset {PRESET}, batch {BATCH} where nothing else is said."
    words = f"{what} {report.machine_line(where)}"
    rows = run()
    print(f"{words}\n\n{markdown(rows)}")
    if options.out:
        report.write_text(options.out, json.dumps({"measured_on": where, "rows": rows}, indent=1) + "\n")
    if options.plot:
        plot(rows, options.plot, words)
    return 0


if __name__ == "__main__":
    sys.exit(main())
