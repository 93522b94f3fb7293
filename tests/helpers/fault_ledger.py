"""Counts of injected faults: of each writer or file, and of each kind of fault."""

import itertools
import time
from collections import Counter, defaultdict


class Ledger:
    """What came of injected faults.

    Attributes:
        counts: by place and kind of fault, the numbers "possible", "injected", "survived" and "lost" (updates).
    """

    def __init__(self):
        self.counts = defaultdict(Counter)

    def each(self, place, kind, count, most=None, seconds=None):
        """Yields faults 0 … count − 1, spread evenly: at most so many, until the seconds are over; counts them.

        A fault is survived where the block of the loop comes to its end.
        """
        kept, begin = self.counts[place, kind], time.monotonic()
        kept["possible"] += count
        for i in itertools.islice(spread(count), most):
            if kept["injected"] and seconds is not None and time.monotonic() - begin > seconds:
                break
            kept["injected"] += 1
            yield i
            kept["survived"] += 1

    def lines(self):
        """Yields a table with a line per place and kind, and the totals."""
        row = "{:24}{:24}{:>9}{:>10}{:>10}{:>14}"
        names = ("possible", "injected", "survived", "lost")
        yield row.format("what", "fault", "possible", "injected", "survived", "updates lost")
        total = Counter()
        for (place, kind), counts in sorted(self.counts.items()):
            total += counts
            yield row.format(place, kind, *(counts[name] for name in names))
        yield row.format("all", "", *(total[name] for name in names))


def spread(count):
    """Yields 0 … count − 1 in an order whose beginning is spread over the whole: by their bits, reversed."""
    bits = max(count - 1, 1).bit_length()
    order = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits))
    yield from (i for i in order if i < count)
