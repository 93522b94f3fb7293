"""How long a training step takes beside its own matrix products, each at the best rate that a library reaches here.

    python benchmarks/step_products.py
    python benchmarks/step_products.py --presets mnist --batch 100 --rounds 9

The products are those of `products.training`, in float32. A product's rate is the best of the libraries' in
processor_table.py, with weights that were laid out before; the time of a step is the median of steps between
these measurements.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from dataclasses import dataclass

import bench_model
import cases
import machine
import products
import torch
from processor_table import Candidate, candidates, rates
from report import table


@dataclass(frozen=True)
class Shape:
    """A product [m, k] × [k, n] of a step."""

    size: tuple[int, int, int]
    times: int  # in a step
    rates: dict[str, float]  # GFLOP/s by library

    @property
    def best(self) -> str:
        return max(self.rates, key=self.rates.__getitem__)

    def seconds(self, library: str) -> float:
        m, k, n = self.size
        return 2e-9 * self.times * m * k * n / self.rates[library]


def sizes(preset: str, batch: int) -> Counter[tuple[int, int, int]]:
    """Returns how often a step forms a product of each size."""
    found: Counter[tuple[int, int, int]] = Counter()
    for times, size in products.training(cases.config_of(preset), batch):
        found[size] += times
    return found


def measure(preset: str, batch: int, rounds: int, libraries: list[Candidate]) -> tuple[float, list[Shape]]:
    """Returns seconds per step, and the products of a step, the longest first."""
    model, inputs = bench_model._model(preset, "cpu"), bench_model._inputs(preset, batch, "cpu")
    step = bench_model._call("train", model, inputs)
    step()
    steps, shapes = [], []
    for size, times in sizes(preset, batch).items():
        for _ in range(2):
            began = time.perf_counter()
            step()
            steps.append(time.perf_counter() - began)
        shapes.append(Shape(size, times, rates(libraries, size, rounds)))
    return statistics.median(steps), sorted(shapes, key=lambda s: -s.seconds(s.best))


def markdown(preset: str, batch: int, seconds: float, shapes: list[Shape]) -> str:
    least = sum(shape.seconds(shape.best) for shape in shapes)
    libraries = list(shapes[0].rates)
    summary = f"{preset}, batch {batch}: a step takes {1e3 * seconds:.1f} ms, {seconds / least:.2f} times its products "
    summary += f"at the best rates, {1e3 * least:.1f} ms. All products by one library: "
    summary += ", ".join(f"{1e3 * sum(s.seconds(name) for s in shapes):.1f} ms {name}" for name in libraries) + "."
    rows = [
        [
            "×".join(map(str, shape.size)),
            str(shape.times),
            f"{1e3 * shape.seconds(shape.best):.2f}",
            *(f"**{rate:.0f}**" if name == shape.best else f"{rate:.0f}" for name, rate in shape.rates.items()),
        ]
        for shape in shapes
    ]
    return summary + "\n\n" + table(["M×K×N", "times", "ms", *libraries], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["mnist", "coco"], choices=bench_model.PRESETS)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3, help="bursts per product and library (default: 3)")
    options = parser.parse_args()
    where = machine.describe("cpu")
    print(f"{where['cpu']} ({where['isa']}), {torch.get_num_threads()} threads, torch {torch.__version__}.")
    libraries = [c for c in candidates() if not c.rounded and not c.name.endswith(("portable", "avx2"))]
    for preset in options.presets:
        print("\n" + markdown(preset, options.batch, *measure(preset, options.batch, options.rounds, libraries)))


if __name__ == "__main__":
    main()
