"""The time of an update in one process or in several, of the recipe `quick` and of the paper's.

OMP_NUM_THREADS=2 python benchmarks/processes.py
OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 benchmarks/processes.py
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from aligndraw import AlignDRAW, AlignDRAWConfig, TrainingConfig
from aligndraw.data import MNISTCaptions, load_digits
from aligndraw.training import Trainer, exchange
from aligndraw.training.ranks import Ranks, started

WARM = 3  # updates that are not measured


def measure(preset: str, updates: int, ranks: Ranks) -> str:
    """Returns one line: milliseconds per update, of which for the sum of the gradients and for the optimizer."""
    model = AlignDRAW(AlignDRAWConfig.preset(preset))
    model.reset_parameters("fan_in")
    trainer = Trainer(model, MNISTCaptions(load_digits()), TrainingConfig.preset(preset))
    waits, steps, times = [], [], []

    def timed(function: Callable[..., Any], into: list[float]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **options)
            into.append(1000 * (time.perf_counter() - start))
            return result

        return call

    trainer._exchange.finish = timed(trainer._exchange.finish, waits)
    trainer._step = timed(trainer._step, steps)
    for _ in range(WARM + updates):
        start = time.perf_counter()
        trainer.update()
        times.append(1000 * (time.perf_counter() - start))
    low, median, high = np.percentile(times[WARM:], [20, 50, 80])
    megabytes = sum(p.nbytes for p in model.parameters()) / 2**20
    return (
        f"{preset}: {ranks.count} x {torch.get_num_threads()} threads, {trainer.precision}: {median:.1f} ms per update "
        f"({low:.1f} to {high:.1f}); of these it waits {np.median(waits[WARM:]):.1f} for a sum of {megabytes:.1f} MiB, "
        f"and the optimizer takes {np.median(steps[WARM:]):.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, nargs=2, default=[60, 8], metavar=("QUICK", "PAPER"), help="[60 8]")
    one = "sum all gradients at once, after the backward, in place of part by part during it"
    parser.add_argument("--one-bucket", action="store_true", help=one)
    arguments = parser.parse_args()
    counts = arguments.updates
    if arguments.one_bucket:
        exchange.BUCKET_BYTES = 2**62
    with started("cpu") as ranks:
        for preset, updates in zip(("quick", "paper"), counts):
            line = measure(preset, updates, ranks)
            if ranks.first:
                print(line, flush=True)


if __name__ == "__main__":
    main()
