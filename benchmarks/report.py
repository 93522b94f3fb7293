"""Tables and plots of what `pytest benchmarks/` measured.

pytest benchmarks/ --benchmark-json=new.json
python benchmarks/report.py new.json --out report.md --plot report.png
python benchmarks/report.py new.json --only B=100
python benchmarks/report.py new.json --against old.json
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

REFERENCES = ("eager", "compiled")  # what every form is held against
NOT_OURS = (*REFERENCES, "eager_bf16", "eager_tf32", "products")
SLACK = 0.2
Row = dict[str, Any]


def precision_of(form: str) -> str:
    """In what the large products of a form are made, as its name says."""
    return next((precision for precision in ("bf16", "tf32") if form.endswith(precision)), "float32")


# The package's reader of JSON, by its path: reports are made where the package, or PyTorch, is not installed, too.
_spec = importlib.util.spec_from_file_location("json_files", Path(__file__).parents[1] / "aligndraw" / "json_files.py")
assert _spec and _spec.loader
json_files = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(json_files)

NOTHING = type(None)
# The types of the entries of a row that a report reads, and of the machine; those with NOTHING may be missing.
OF_ROW = {
    **dict.fromkeys(("op", "preset", "window", "direction", "form", "device"), (str,)),
    "batch": (int,),
    **dict.fromkeys(("load", "p20", "p80", "gb_s", "gflop_s", "compile_seconds"), (float, NOTHING)),
    **dict.fromkeys(("ceilings", "in_turn"), (dict, NOTHING)),
}
OF_MACHINE = {
    **dict.fromkeys(("cpu", "torch", "python", "commit"), (str,)),
    **dict.fromkeys(("cpus", "threads"), (int,)),
    **dict.fromkeys(("gpu", "driver_version", "cuda", "triton"), (str, NOTHING)),
}


class CannotReport(ValueError):
    """Says what is wrong with a file and what to do."""


@dataclass(frozen=True)
class Run:
    """One JSON file of pytest-benchmark: a row for each case, with what its form took beside the reference."""

    machine: dict[str, Any]
    command: str
    rows: list[Row]


def load(path: Path) -> Run:
    """Raises CannotReport for a file that `pytest benchmarks/` did not write."""
    entry = json_files.entry
    try:
        with json_files.naming(path, "no file of `pytest benchmarks/ --benchmark-json=FILE`", CannotReport):
            data = json_files.read_json(path)
            about = entry(data, "machine_info", dict)
            machine, command = entry(about, "measured_on", dict), entry(about, "command", str)
            _check(machine, OF_MACHINE)
            rows = []
            for measured in entry(data, "benchmarks", list):
                rows.append(entry(measured, "extra_info", dict))
                rows[-1]["median"] = entry(entry(measured, "stats", dict), "median", float)
                _check(rows[-1], OF_ROW)
                in_turn, ceilings = (rows[-1].get(name) or {} for name in ("in_turn", "ceilings"))
                _check(in_turn, dict.fromkeys(in_turn, (float,)))
                _check(ceilings, dict.fromkeys(("copy_gb_s", "product_gflop_s") if ceilings else (), (float,)))
                if not rows[-1]["median"] > 0:
                    raise ValueError(f"a median must be above 0, got {rows[-1]['median']}")
            return Run(machine, command, with_ratios(rows))
    except OSError as problem:
        raise CannotReport(f"{path} cannot be read: {problem.strerror}") from problem


def _check(record: Row, kinds: Mapping[str, tuple[type, ...]]) -> None:
    for name, of in kinds.items():
        json_files.entry(record, name, *of, **({"default": None} if NOTHING in of else {}))


def chosen(run: Run, text: str | None) -> Run:
    """The run with the rows alone that have a text in their case's name; all when None.

    Raises:
        CannotReport: there are none.
    """
    if text is None:
        return run
    rows = [row for row in run.rows if text in f"{name(row)} "]
    if not rows:
        raise CannotReport(f"no case has {text!r} in its name")
    return replace(run, rows=rows)


def question(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the forms of a case have in common."""
    return tuple(row[key] for key in ("op", "preset", "batch", "window", "direction", "device"))


def identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells the rows of a run apart."""
    return (*question(row), row["form"])


def name(row: Mapping[str, Any]) -> str:
    """What is asked of a form, in words."""
    words = (row["op"], row["preset"], f"B={row['batch']}", row["window"], row["direction"])
    return " ".join(word for word in words if word)


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with `vs_eager` and `vs_compiled`: how many times faster its form is, None where not measured.

    What was measured in turn counts, else the medians.
    """
    times = {identity(row): row["median"] for row in rows}
    done = []
    for row in rows:
        mine = row["median"]
        ratios = {}
        for form in REFERENCES:
            theirs = times.get((*question(row), form))
            by_medians = theirs / mine if mine and theirs and row["form"] != form else None
            ratios[f"vs_{form}"] = row.get("in_turn", {}).get(form, by_medians)
        done.append({**row, **ratios})
    return done


def worst_first(rows: Iterable[Row]) -> list[Row]:
    """By the smaller of the two ratios; rows without either come last."""

    def worst(row: Row) -> float:
        ratios = [row[f"vs_{form}"] for form in REFERENCES if row[f"vs_{form}"] is not None]
        return min(ratios, default=float("inf"))

    return sorted(rows, key=worst)


# ---- words ----


def duration(seconds: float | None) -> str:
    """Three digits and a unit, or "not measured"."""
    if seconds is None:
        return "not measured"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}×"


def rate(value: float | None, ceiling: float | None) -> str:
    """A rate, and the part of the machine's own that it is."""
    if value is None:
        return "–"
    return f"{value:.3g}" + (f" ({value / ceiling:.0%})" if ceiling else "")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def machine_line(machine: dict[str, Any]) -> str:
    """Hardware and versions in one line."""
    isa = f" ({machine['isa']})" if machine.get("isa") else ""  # older runs do not tell
    where = f"{machine['cpu']}{isa}, {machine['cpus']} CPUs, threads in use {machine['threads']}"
    if machine.get("gpu"):
        driver = machine.get("driver_version", "unknown")
        where = f"{machine['gpu']}, driver {driver}, CUDA {machine.get('cuda')}; host {where}"
    versions = ", ".join(f"{key} {machine[key]}" for key in ("torch", "triton", "python") if machine.get(key))
    return f"{where}; {versions}; commit {machine['commit']}"


def caption(run: Run) -> str:
    """Where, how and with what beside it the figures were measured."""
    lines = [f"{machine_line(run.machine)}.", f"Command: `{run.command}`."]
    loads = [row["load"] for row in run.rows if row.get("load") is not None]
    if loads:
        lines.append(f"Load average while measuring: {min(loads):.1f} to {max(loads):.1f}.")
        if max(loads) > run.machine["cpus"] + 0.5:
            lines.append("**Other programs were running: the times are not to be trusted.**")
    ceilings = next((row["ceilings"] for row in run.rows if row.get("ceilings")), None)
    if ceilings:
        lines.append(
            f"Ceilings of the same run: a copy {ceilings['copy_gb_s']:.3g} GB/s, "
            f"a float32 matrix product {ceilings['product_gflop_s']:.3g} GFLOP/s."
        )
    return "\n".join(lines)


# ---- one run ----


def markdown(run: Run) -> str:
    """The report of a run: the package's forms, worst case first, then the references they are held against."""
    forms = worst_first(row for row in run.rows if row["form"] not in NOT_OURS)
    parts = ["# Benchmarks", caption(run)]
    losses = sum(1 for row in forms if any((row[f"vs_{form}"] or 1) < 1 for form in REFERENCES))
    if forms:
        parts.append(f"Worst case first; slower than one of the references in {losses} of {len(forms)} cases.")
    else:
        parts.append("No backend was built for these ops: the reference alone was timed.")
    for rows in (forms, [row for row in run.rows if row["form"] in NOT_OURS]):
        if rows:
            parts.append(table(HEADER, [_cells(row) for row in rows]))
    return "\n\n".join(parts) + "\n"


HEADER = (
    "case", "form", "median", "p20 – p80", "vs eager", "vs compiled", "GB/s (of copy)", "GFLOP/s (of product)",
    "compiling",
)  # fmt: skip


def _cells(row: Row) -> list[str]:
    ceilings = row.get("ceilings") or {}
    return [
        name(row),
        row["form"],
        duration(row["median"]),
        f"{duration(row.get('p20'))} – {duration(row.get('p80'))}",
        ratio(row["vs_eager"]),
        ratio(row["vs_compiled"]),
        rate(row.get("gb_s"), ceilings.get("copy_gb_s")),
        rate(row.get("gflop_s"), ceilings.get("product_gflop_s")),
        f"{row['compile_seconds']:.1f} s" if row.get("compile_seconds") else "–",
    ]


def plot(run: Run, path: Path) -> None:
    """A PNG with a line for each case, worst first: how many times faster than the eager and the compiled reference.

    Raises:
        CannotReport: matplotlib is missing, or no case has a reference beside it.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator
    except ImportError:
        raise CannotReport('a plot needs matplotlib: run `pip install "aligndraw[bench]"`') from None
    rows = [row for row in run.rows if row["form"] != "eager" and (row["vs_eager"] or row["vs_compiled"])]
    if not rows:
        raise CannotReport("there is nothing to plot: no case was timed beside the eager or the compiled reference")
    rows = worst_first(row for row in rows if row["form"] not in NOT_OURS) or worst_first(rows)
    figure = Figure(figsize=(9, 2.2 + 0.19 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    heights = range(len(rows), 0, -1)
    for key, marker, colour in (("vs_eager", "o", "tab:blue"), ("vs_compiled", "D", "tab:orange")):
        points = [(row[key], height) for row, height in zip(rows, heights, strict=True) if row[key]]
        label = key.replace("vs_", "against ")
        axes.scatter([x for x, _ in points], [y for _, y in points], marker=marker, color=colour, label=label, zorder=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.xaxis.set_minor_formatter("")
    axes.set_yticks(list(heights), [f"{name(row)}, {row['form']}" for row in rows], fontsize=7)
    axes.set_ylim(0.3, len(rows) + 0.7)
    axes.grid(axis="x", which="both", linewidth=0.3)
    axes.set_xlabel("times faster than the reference; left of the line: slower")
    axes.legend(loc="upper right", fontsize=8)  # where the worst cases leave room
    figure.suptitle(caption(run).replace("**", "").replace("`", ""), fontsize=7, wrap=True)
    written(path, lambda file: FigureCanvasAgg(figure).print_png(file))


# ---- two runs ----


def changes(new: Run, old: Run, slack: float = SLACK) -> list[tuple[str, str, Row | None, Row | None]]:
    """(case, verdict, new row, old row), those that became slower first.

    A verdict is "slower" or "faster" for medians more than `slack` apart, "same" within it, "new" or "gone".

    Raises:
        CannotReport: the runs come from different machines, or have a different number of threads.
    """
    for key in ("device", "cpu", "gpu", "threads"):
        if new.machine.get(key) != old.machine.get(key):
            raise CannotReport(
                f"the runs cannot be compared, {key} differs: {new.machine.get(key)!r} and {old.machine.get(key)!r}: "
                "measure both commits on one machine"
            )
    latest, earlier = ({identity(row): row for row in run.rows} for run in (new, old))
    found: list[tuple[float, str, Row | None, Row | None]] = []
    for case in {**latest, **earlier}:
        now, before = latest.get(case), earlier.get(case)
        if now is None or before is None:
            found.append((0.0, "gone" if now is None else "new", now, before))
            continue
        factor = now["median"] / before["median"]
        verdict = "slower" if factor > 1 + slack else "faster" if factor < 1 / (1 + slack) else "same"
        found.append((factor, verdict, now, before))
    found.sort(key=lambda item: -item[0])
    return [
        (f"{name(row)} {row['form']}", verdict, now, before)
        for _, verdict, now, before in found
        for row in [now or before or {}]
    ]


def comparison(new: Run, old: Run, slack: float = SLACK) -> tuple[str, bool]:
    """The table of two runs in Markdown, and whether anything became slower."""
    found = changes(new, old, slack)
    verdicts = [item[1] for item in found]
    counts = {verdict: verdicts.count(verdict) for verdict in ("slower", "faster", "same", "new", "gone")}
    rows = []
    for case, verdict, now, before in found:
        medians = [row["median"] if row else None for row in (before, now)]
        factor = ratio(medians[1] / medians[0]) if medians[0] and medians[1] else "–"
        rows.append([case, verdict, *map(duration, medians), factor])
    text = [
        f"# {new.machine['commit']} against {old.machine['commit']}",
        f"New. {caption(new)}",
        f"Old. {caption(old)}",
        f"Slack {slack:.0%}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + ".",
        table(("case", "verdict", "old median", "new median", "new / old"), rows),
    ]
    return "\n\n".join(text) + "\n", counts["slower"] > 0


# ---- files ----


def written(path: Path, write: Any) -> None:
    """Calls `write(binary file)` for a file that takes its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        write(file)
    os.replace(unfinished, path)


def write_text(path: Path, text: str) -> None:
    written(path, lambda file: file.write(text.encode()))


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 when something became slower; 2 when no report could be made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="JSON file of `pytest benchmarks/ --benchmark-json=FILE`")
    parser.add_argument("--against", type=Path, metavar="JSON", help="an earlier run on the same machine")
    parser.add_argument("--only", metavar="TEXT", help="cases with this in their name alone, such as B=100")
    parser.add_argument("--slack", type=float, default=SLACK, help="differences by chance (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="Markdown file (default: the screen)")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="plot of the run")
    options = parser.parse_args(arguments)
    try:
        run, slower = chosen(load(options.run), options.only), False
        if options.against:
            text, slower = comparison(run, chosen(load(options.against), options.only), options.slack)
        else:
            text = markdown(run)
        if options.plot:
            plot(run, options.plot)
    except CannotReport as problem:
        print(f"report: {problem}", file=sys.stderr)
        return 2
    if options.out:
        write_text(options.out, text)
    else:
        print(text, end="")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
