"""Times two builds of aligndraw in turn: which cases became faster, and which became slower.

    python benchmarks/compare_builds.py old=OLD_ENVIRONMENT/bin/python new=NEW_ENVIRONMENT/bin/python
    python benchmarks/compare_builds.py ... --cases "train-*-B100-*" "read-*-B100-*-cpp" --eager --out compared.md

Each round starts a new process for each build: no figure rests on where one process put its arrays. All
processes prepare a case, then run it in turn, a burst of ten milliseconds each. A round's figure is the median
over neighbours in time: a shared machine changes its speed from one second to the next.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import report

SLACK = 0.05
CASES = (
    "*-B100-*-cpp", "train-*-B100-*-fastest", "train-*-B100-*-bf16", "sample-*-B100-*-fastest", "sample-*-B1-*-fastest"
)  # fmt: skip
BURST = 1e-2


class CannotCompare(Exception):
    """Says what is wrong and what to do."""


class Worker:
    """A process of build_worker.py."""

    def __init__(self, name: str, python: str, threads: int | None) -> None:
        self.name = name
        environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
        environment.pop("PYTHONPATH", None)  # it would put one package into both environments
        command = [python, str(Path(__file__).with_name("build_worker.py"))]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        except OSError as problem:
            raise CannotCompare(f"{name}: {python} cannot be run ({problem.strerror})") from None

    def ask(self, request: str, argument: Any = None) -> Any:
        """The answer of the method `request` of BuildWorker. Raises CannotCompare where the process has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # the answer will be missing
            self._process.stdin.write(json.dumps([request, argument]) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise CannotCompare(f"{self.name}: its process ended; what it printed stands above")
        return json.loads(line)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def workers(builds: dict[str, str], threads: int | None) -> Iterator[dict[str, Worker]]:
    """A worker for each name -> Python."""
    found: dict[str, Worker] = {}
    try:
        for name, python in builds.items():
            found[name] = Worker(name, python, threads)
        yield found
    finally:
        for worker in found.values():
            worker.close()


@dataclass
class Compared:
    """A case: for each round, seconds per call by name, and how many times as long as the new build the others took."""

    name: str
    seconds: list[dict[str, float]] = field(default_factory=list)
    ratios: list[dict[str, float]] = field(default_factory=list)
    problem: str = ""

    def median(self, build: str) -> float:
        return statistics.median(seconds[build] for seconds in self.seconds)

    def ratio(self, build: str) -> float:
        return statistics.median(ratios[build] for ratios in self.ratios)

    def verdict(self, old: str, slack: float = SLACK) -> str:
        """ "slower" or "faster" where every round says so by more than `slack`, else "same"; or the problem."""
        if self.problem:
            return self.problem
        found = [ratios[old] for ratios in self.ratios]
        if all(ratio < 1 / (1 + slack) for ratio in found):
            return "slower"
        return "faster" if all(ratio > 1 + slack for ratio in found) else "same"


def time_in_turn(of: dict[str, Worker], new: str, seconds: float, least: int = 3) -> tuple[dict[str, float], ...]:
    """Medians of seconds per call, and of the others' times over the new build's, by name.

    A B C and A C B take turns: each has run after each of the others as often.
    """
    samples: dict[str, list[float]] = {name: [] for name in of}
    order, spent = list(of), 0.0
    while spent < seconds * len(of) or len(samples[new]) < least:
        for name in order:
            took = of[name].ask("burst", BURST)
            samples[name].append(took)
            spent += max(took, BURST)
        order[1:] = order[:0:-1]
    ratios = {
        name: statistics.median(theirs / ours for theirs, ours in zip(samples[name], samples[new], strict=True))
        for name in of
        if name != new
    }
    return {name: statistics.median(found) for name, found in samples.items()}, ratios


@dataclass
class Load:
    """How the processors' time was shared since `began`, as far as Linux tells."""

    began: tuple[float, float, float] = field(default_factory=lambda: Load._read())

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """Seconds, over all processors: in all, in programs that are not ours, and taken by the hypervisor."""
        stat = Path("/proc/stat")
        if not stat.is_file():
            return 0.0, 0.0, 0.0
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
        tick, ours = 1 / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4])
        busy = user + nice + system + irq + softirq
        return tick * (busy + idle + iowait + steal), tick * busy - ours, tick * steal

    def __str__(self) -> str:
        total, others, stolen = (now - before for now, before in zip(self._read(), self.began, strict=True))
        if not total:
            return "The load is not known."
        line = f"Other programs took {max(others, 0) / total:.0%} of the processors' time, "
        line += f"other machines on the same host {stolen / total:.0%}."
        return line + (BUSY if others + stolen > 0.1 * total else "")


EAGER = "eager"
BUSY = "\n**That is too much: the times are not to be trusted.**"


@dataclass
class Comparison:
    """All of a run."""

    old: str
    new: str
    command: str
    facts: dict[str, dict[str, Any]]
    cases: list[Compared]
    load: str
    left_out: list[str]  # cases that one build alone has

    @property
    def slower(self) -> list[Compared]:
        return [case for case in self.cases if case.verdict(self.old) == "slower"]


def compare(
    builds: dict[str, str], patterns: Sequence[str], command: str = "", rounds: int = 3, seconds: float = 0.2,
    threads: int | None = None, eager: bool = False,
) -> Comparison:  # fmt: skip
    """Times the cases that match one of the patterns, in both builds.

    Args:
        builds: name -> Python, the old one first.
        seconds: of bursts, for each build, case and round; three bursts at least.
        eager: also the new build's reference.

    Raises:
        CannotCompare: a build does not run, or no case matches.
    """
    old, new = builds
    load, began = Load(), time.monotonic()
    compared: dict[str, Compared] = {}
    for number in range(rounds):
        with workers({**builds, **({EAGER: builds[new]} if eager else {})}, threads) as running:
            if not number:
                facts = {build: worker.ask("facts") for build, worker in running.items()}
                names = {build: worker.ask("names") for build, worker in running.items()}
                asked = [n for n in {**names[old], **names[new]} if any(fnmatch(n, p) for p in patterns)]
                left_out = [name for name in asked if not (name in names[old] and name in names[new])]
                compared = {name: Compared(name) for name in asked if name not in left_out}
                if not compared:
                    raise CannotCompare(f"no case of both builds matches {' '.join(patterns)}")
            for name, case in compared.items():
                print(f"[{time.monotonic() - began:.0f} s] round {number + 1}: {name}", file=sys.stderr)
                if case.problem:
                    continue
                turn = dict.fromkeys(builds, (name, not number))  # checked in the first round
                if eager and names[new][name]:
                    turn[EAGER] = names[new][name], False
                of = {build: running[build] for build in turn}
                problems = {build: worker.ask("prepare", turn[build]) for build, worker in of.items()}
                case.problem = "; ".join(f"{build}: {text}" for build, text in problems.items() if text)
                if not case.problem:
                    medians, ratios = time_in_turn(of, new, seconds)
                    case.seconds.append(medians)
                    case.ratios.append(ratios)
    return Comparison(old, new, command, facts, list(compared.values()), str(load), left_out)


def markdown(found: Comparison) -> str:
    """The table, slowest first, and where it was measured."""
    old, new = found.old, found.new
    where = found.facts[new]
    builds = [
        f"{name}: aligndraw {facts['aligndraw']}, commit {facts['commit'] or 'unknown'}, torch {facts['torch']}, "
        f"{facts['compiler'] or 'no compiled ops'}"
        for name, facts in ((old, found.facts[old]), (new, where))
    ]
    with_eager = any(EAGER in ratios for case in found.cases for ratios in case.ratios)
    rows = []
    for case in sorted(found.cases, key=lambda case: case.ratio(old) if case.ratios else 0):
        row = [case.name, *["–"] * (6 if with_eager else 4), case.verdict(old)]
        if not case.problem:
            row[1:5] = [
                report.duration(case.median(old)),
                report.duration(case.median(new)),
                report.ratio(case.ratio(old)),
                " ".join(f"{ratios[old]:.2f}" for ratios in case.ratios),
            ]
            if EAGER in case.ratios[0]:
                row[5:7] = [report.duration(case.median(EAGER)), report.ratio(case.ratio(EAGER))]
        rows.append(row)
    header = ["case", old, new, "times faster", "in each round"]
    header += [EAGER, f"{new} vs {EAGER}"] if with_eager else []
    return (
        "\n\n".join(
            [
                f"# {new} against {old}",
                f"{where['cpu']} ({where['isa']}), {where['cpus']} CPUs, threads in use {where['threads']}.\n"
                + "\n".join(f"{build}." for build in builds)
                + f"\nCommand: `{found.command}`.\n"
                + found.load,
                f"{len(found.slower)} of {len(found.cases)} cases are slower by more than {SLACK:.0%} in every round."
                + (f" Not in both builds: {', '.join(found.left_out)}." if found.left_out else ""),
                report.table([*header, "verdict"], rows),
            ]
        )
        + "\n"
    )


def named(argument: str) -> tuple[str, str]:
    name, separator, python = argument.partition("=")
    if not (name and separator and python):
        raise argparse.ArgumentTypeError(f"must be NAME=PYTHON, such as old=environment/bin/python, got {argument!r}")
    return name, python


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 when a case became slower in every round; 2 when nothing could be compared."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old", type=named, metavar="NAME=PYTHON", help="the Python that has the old build")
    parser.add_argument("new", type=named, metavar="NAME=PYTHON", help="the Python that has the new build")
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="GLOB", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="each in processes of its own (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="for each case, build and round (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, help="of each process (default: torch's own choice)")
    parser.add_argument("--eager", action="store_true", help="also plain PyTorch, in the new build's environment")
    parser.add_argument("--out", type=Path, metavar="FILE", help="Markdown file (default: the screen)")
    options = parser.parse_args(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["python", "benchmarks/compare_builds.py", *given])
    try:
        if options.old[0] == options.new[0] or EAGER in (options.old[0], options.new[0]):
            raise CannotCompare(f"the builds must have two names other than {EAGER!r}, got {options.old[0]!r} twice")
        found = compare(
            dict([options.old, options.new]), options.cases, command, options.rounds, options.seconds,
            options.threads, options.eager,
        )  # fmt: skip
    except CannotCompare as problem:
        print(f"compare_builds: {problem}", file=sys.stderr)
        return 2
    if options.out:
        report.write_text(options.out, markdown(found))
    else:
        print(markdown(found), end="")
    return 1 if found.slower else 0


if __name__ == "__main__":
    sys.exit(main())
