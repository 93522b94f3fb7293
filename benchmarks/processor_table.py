"""What each library's matrix product does on this processor: its rate, and what its bits depend on.

    python benchmarks/processor_table.py
    python benchmarks/processor_table.py --threads 8 --json processors.jsonl

Prints Markdown tables, and appends what they were made of to a file, a line of JSON per run. Takes half a minute.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import torch
from torch import Tensor

from aligndraw.backends import ISAS, best_isa, missing_reason
from aligndraw.ops import product

# (M, K, N) of [M, K] times weights [N, K]: the model's products, from one row to a weight's gradient over all steps.
SHAPES = {
    (1, 300, 1200): "MNIST, an LSTM's gates of one caption",
    (4, 300, 1200): "of 4 captions",
    (16, 300, 1200): "of 16 captions",
    (100, 300, 1200): "of 100 captions",
    (100, 512, 1200): "MNIST, gates from the glimpse",
    (100, 550, 2200): "COCO, gates of 100 captions",
    (1200, 3200, 300): "MNIST, a weight's gradient over 32 steps",
}
ROUNDS, BURST = 7, 1e-2
LEGEND = {
    "product": "library, precision and, for this project's, the instruction set. Plain MKL is `torch.mm`.",
    "M×K×N": "GFLOP/s of a product [M, K] × [K, N], the median of bursts in turn with all others'; 2MKN operations. "
    "Weights were laid out before, except by plain MKL.",
    "batch": "the batches of M rows in which a row's bits differ from those in a batch of 101 rows.",
    "threads": "the numbers of threads for which bits differ from one thread's, at M = 1, 3, 5, 38 and 101.",
    "packing": "whether bits differ from those of the same library's product that lays out no weights beforehand.",
    "subnormal factors, results": "kept, or 0.",
}


@dataclass
class Candidate:
    """A library's product: prepare(weights [N, K], M) returns run(x [M, K], times)."""

    name: str
    rounded: bool
    prepare: Callable[[Tensor, int], Callable[[Tensor, int], Tensor]]
    plain: str = ""  # the candidate that does the same without packing


def repeated(call: Callable[[Tensor], Tensor]) -> Callable[[Tensor, int], Tensor]:
    def run(x: Tensor, times: int) -> Tensor:
        for _ in range(times - 1):
            call(x)
        return call(x)

    return run


def of_torch(weights: Tensor, rows: int) -> Callable[[Tensor, int], Tensor]:
    return repeated(lambda x: torch.mm(x, weights.mT))


def of_packed_mkl(weights: Tensor, rows: int) -> Callable[[Tensor, int], Tensor]:
    packed = torch.ops.mkl._mkl_reorder_linear_weight(weights, rows)
    return repeated(lambda x: torch.ops.mkl._mkl_linear(x, packed, weights, None, rows))


def of_onednn(packs: bool, dtype: torch.dtype) -> Callable[[Tensor, int], Callable[[Tensor, int], Tensor]]:
    def prepare(weights: Tensor, rows: int) -> Callable[[Tensor, int], Tensor]:
        weights = weights.to(dtype)
        if packs:
            weights = torch.ops.mkldnn._reorder_linear_weight(weights, rows)
        linear = torch.ops.mkldnn._linear_pointwise
        return repeated(lambda x: linear(x.to(dtype), weights, None, "none", [], ""))

    return prepare


def of_ours(isa: str, rounded: bool) -> Callable[[Tensor, int], Callable[[Tensor, int], Tensor]]:
    def prepare(weights: Tensor, rows: int) -> Callable[[Tensor, int], Tensor]:
        return lambda x, times: product(x, weights, rounded, isa, times)

    return prepare


def candidates() -> list[Candidate]:
    """Those that this machine and this build of PyTorch have."""
    found = []
    if torch.backends.mkl.is_available():
        found.append(Candidate("MKL, float32", False, of_torch))
        found.append(Candidate("MKL, float32, packed", False, of_packed_mkl, "MKL, float32"))
    else:
        found.append(Candidate("torch.mm, float32", False, of_torch))
    if torch.backends.mkldnn.is_available():
        for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
            rounded = dtype == torch.bfloat16
            found.append(Candidate(f"oneDNN, {name}", rounded, of_onednn(False, dtype)))
            found.append(Candidate(f"oneDNN, {name}, packed", rounded, of_onednn(True, dtype), f"oneDNN, {name}"))
    if not missing_reason("product", "cpp", "cpu"):
        for isa in ISAS[: ISAS.index(best_isa()) + 1]:
            rounded = isa in ("avx512_bf16", "amx")
            found.append(
                Candidate(f"aligndraw, {'bf16' if rounded else 'float32'}, {isa}", rounded, of_ours(isa, rounded))
            )
    return found


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def factors(m: int, k: int, n: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(m, k), torch.randn(n, k)


def check(candidate: Candidate, m: int, k: int, n: int) -> None:
    """Raises ValueError if a product is wrong: then its rate says nothing."""
    x, weights = factors(m, k, n)
    result = candidate.prepare(weights, m)(x, 1).double()
    if candidate.rounded:
        x, weights = x.bfloat16(), weights.bfloat16()
    truth = x.double() @ weights.double().mT
    # A result of oneDNN's bf16 product is rounded to bfloat16 too.
    allowed = 2**-8 if candidate.rounded else 1e-5
    error = ((result - truth).abs().max() / truth.abs().max()).item()
    if not error <= allowed:
        raise ValueError(f"{candidate.name} errs by {error:.1e} at {m}×{k}×{n}")


def rates(chosen: list[Candidate], shape: tuple[int, int, int], rounds: int) -> dict[str, float]:
    """GFLOP/s by candidate: the median over bursts that the candidates take in turn."""
    m, k, n = shape
    x, weights = factors(m, k, n)
    work: dict[str, tuple[Callable[[Tensor, int], Tensor], int]] = {}
    for candidate in chosen:
        run, times = candidate.prepare(weights, m), 1
        run(x, 1)
        while (seconds := timed(run, x, times)) < BURST / 2:
            times *= 2
        work[candidate.name] = run, max(1, round(times * BURST / seconds))
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, (run, times) in work.items():
            found[name].append(2e-9 * m * k * n * times / timed(run, x, times))
    return {name: statistics.median(values) for name, values in found.items()}


def timed(run: Callable[[Tensor, int], Tensor], x: Tensor, times: int) -> float:
    begin = time.perf_counter()
    run(x, times)
    return time.perf_counter() - begin


def bits(candidate: Candidate, plain: Candidate | None, most_threads: int) -> dict[str, Any]:
    """What the bits of a product depend on, and what becomes of subnormal numbers."""
    x, weights = factors(101, 300, 1200)
    with threads(1):
        whole = candidate.prepare(weights, 101)(x, 1)
        rows = [m for m in (1, 2, 3, 4, 5, 8, 16, 17, 37, 64, 100) if not same_rows(candidate, x[:m], weights, whole)]
        packing = None
        if plain:
            packing = not torch.equal(plain.prepare(weights, 101)(x, 1), whole)
    by_threads: dict[int, list[Tensor]] = {}
    for count in range(1, max(most_threads, 3) + 1):
        with threads(count):
            by_threads[count] = [candidate.prepare(weights, m)(x[:m], 1) for m in (1, 3, 5, 38, 101)]
    differing = [count for count, results in by_threads.items() if not all(map(torch.equal, results, by_threads[1]))]
    with threads(1):
        kept = [
            bool(candidate.prepare(torch.full((16, 32), b), 16)(torch.full((16, 32), a), 1).float().abs().max() > 0)
            for a, b in ((2.0**-130, 2.0**20), (2.0**-66, 2.0**-68))  # the product of the second pair is subnormal
        ]
    return {"batch": rows, "threads": differing, "packing": packing, "factors": kept[0], "results": kept[1]}


def same_rows(candidate: Candidate, x: Tensor, weights: Tensor, whole: Tensor) -> bool:
    return torch.equal(candidate.prepare(weights, len(x))(x, 1), whole[: len(x)])


def versions() -> dict[str, str]:
    """Of the libraries inside PyTorch."""
    text = torch.__config__.show()
    patterns = {"MKL": r"Math Kernel Library Version (\S+)", "oneDNN": r"MKL-DNN v(\S+)"}
    found = {name: re.search(pattern, text) for name, pattern in patterns.items()}
    return {name: match[1] for name, match in found.items() if match}


def measure(most_threads: int, rounds: int) -> dict[str, Any]:
    chosen = candidates()
    for shape in SHAPES:
        for candidate in chosen:
            check(candidate, *shape)
    by_name = {candidate.name: candidate for candidate in chosen}
    by_threads: dict[str, dict[str, dict[str, float]]] = {}
    for count in sorted({1, most_threads}):
        with threads(count):
            by_threads[str(count)] = {"×".join(map(str, shape)): rates(chosen, shape, rounds) for shape in SHAPES}
    return {
        **machine.describe("cpu"),
        "versions": versions(),
        "rates": by_threads,
        "bits": {name: bits(c, by_name.get(c.plain), most_threads) for name, c in by_name.items()},
    }


def markdown(found: dict[str, Any]) -> str:
    libraries = [f"torch {found['torch']}", *(f"{name} {version}" for name, version in found["versions"].items())]
    lines = [f"{found['cpu']}, {found['isa']}, {found['cpus']} processors; {', '.join(libraries)}."]
    for count, by_shape in found["rates"].items():
        lines += ["", f"GFLOP/s with {count} thread{'s' * (count != '1')}:", ""]
        lines += [f"| product | {' | '.join(by_shape)} |", "|---|" + "---:|" * len(by_shape)]
        for name in found["bits"]:
            lines.append(f"| {name} | {' | '.join(f'{rates[name]:.0f}' for rates in by_shape.values())} |")
    lines += [
        "",
        "What the bits depend on:",
        "",
        "| product | batch | threads | packing | subnormal factors, results |",
    ]
    lines.append("|---|---|---|---|---|")
    for name, b in found["bits"].items():
        batch = f"M = {', '.join(map(str, b['batch']))}" if b["batch"] else "no"
        on_threads = ", ".join(map(str, b["threads"])) or "no"
        packing = "–" if b["packing"] is None else "yes" if b["packing"] else "no"
        kept = ", ".join("kept" if b[key] else "0" for key in ("factors", "results"))
        lines.append(f"| {name} | {batch} | {on_threads} | {packing} | {kept} |")
    shapes = [f"- {'×'.join(map(str, shape))}: {what}." for shape, what in SHAPES.items()]
    return "\n".join([*lines, "", *(f"- **{name}**: {what}" for name, what in LEGEND.items()), *shapes])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="the most threads (default: all)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"bursts per product (default: {ROUNDS})")
    parser.add_argument("--json", type=Path, default=Path("processors.jsonl"), help="the file that a line is added to")
    options = parser.parse_args()
    found = measure(options.threads, options.rounds)
    with options.json.open("a") as file:
        file.write(json.dumps(found) + "\n")
    print(markdown(found))


if __name__ == "__main__":
    main()
