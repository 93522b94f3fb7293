"""The page of a GPU report: `gpu_report.py`'s JSON in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gpu_command import NOT_MEASURED
from report import (
    REFERENCES,
    duration,
    identity,
    machine_line,
    name,
    precision_of,
    rate,
    ratio,
    table,
    with_ratios,
    worst_first,
)

DRY = "**A dry run on the CPU at small sizes: no figure on this page is of a GPU.**"


def markdown(results: Mapping[str, Any]) -> str:
    """The report as a page; what was not measured says so."""
    stages, machine = results["stages"], results["machine"]
    rows = [[s, found["status"], _seconds(found), _reason(found.get("log", ""))] for s, found in stages.items()]
    clocks = [found["after"] for found in stages.values() if found.get("after")]
    parts = [
        f"# {machine['gpu']}",
        *([DRY] if results.get("dry") else []),
        f"{machine_line(machine)}.\nCommand: `{results['command']}`, {results['started']}.",
        _clocks("At the start", machine) + "".join("\n" + _clocks("After measuring", c) for c in clocks[-1:]),
        table(("stage", "result", "time", "remark"), rows),
    ]
    for stage, (title, render) in SECTIONS.items():
        if stage in stages:
            parts += [f"## {title}", render(stages[stage])]
    info = stages.get("install", {}).get("info")
    if info:
        parts += ["## Installation", f"Installed: {stages['install']['installed']}.", f"```\n{info.rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _seconds(found: Mapping[str, Any]) -> str:
    return f"{found['seconds']:.0f} s" if "seconds" in found else "–"


def _reason(text: str) -> str:
    """The last line of a log, where the reason is."""
    return text.strip().splitlines()[-1] if text.strip() else ""


def _clocks(when: str, state: Mapping[str, Any]) -> str:
    fields = ("clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu")
    return f"{when}: " + (", ".join(f"{f} {state[f]}" for f in fields if f in state) or "clocks not read") + "."


def _tests(found: Mapping[str, Any]) -> str:
    if "counts" not in found:
        return f"{NOT_MEASURED.capitalize()}."
    counts = ", ".join(f"{count} {kind.lower()}" for kind, count in found["counts"].items()) or "none ran"
    lines = [counts + (", then the time was up." if found["status"] == "cut short" else ".")]
    lines += [f"- failed: `{test}`" for test in found["failures"]]
    lines += [f"- running when the time was up: `{found['unended']}`"] if found["unended"] else []
    lines += [f"- skipped, {count}: {reason}" for reason, count in found["skips"].items()]
    return "\n".join(lines)


def _sanitizer(found: Mapping[str, Any]) -> str:
    if "tools" not in found:
        return f"{NOT_MEASURED.capitalize()}."
    return "\n".join(
        f"- {tool}: {f['status']}, {f['summary']}; kernels of " + (", ".join(f["kernels"]) or "no op")
        for tool, f in found["tools"].items()
    )


def _paper(found: Mapping[str, Any]) -> str:
    run = found.get("run")
    if not run:
        return f"{NOT_MEASURED.capitalize()}."
    how = f"without CUDA graphs ({run['ungraphed']})" if run["ungraphed"] else "by CUDA graphs"
    whole = run["updates"] == run["total"]
    done = f"All {run['total']:,} updates" if whole else f"{run['updates']:,} of {run['total']:,} updates"
    bound = "" if run["bound"] is None else f" The last update's bound: {run['bound']:.1f} nats."
    ended = "." if whole else ", then the time was up: the whole run was not measured."
    return f"{done} of batch 100, {how}, in {run['seconds']:.1f} s with the making of the data{ended}{bound}"


def _profile(found: Mapping[str, Any]) -> str:
    """The largest kernels of an update."""
    if not found.get("kernels"):
        return f"{NOT_MEASURED.capitalize()}."
    whole = found["kernel_seconds"]
    rows = [
        [f"`{k['name'][:120]}`", str(k["launches"]), duration(k["seconds"]), f"{k['seconds'] / whole:.0%}"]
        for k in found["kernels"]
    ]
    how = f" Not replayed: {found['ungraphed']}." if found["ungraphed"] else ""
    head = f"{found['launches']} launches, {duration(whole)} in kernels together.{how}"
    return head + "\n\n" + table(("kernel", "launches", "time", "share"), rows)


def _counters(found: Mapping[str, Any]) -> str:
    if not found.get("counters"):
        return f"{NOT_MEASURED.capitalize()}."
    rows = [[f"`{k}`", metric, value] for k, metrics in found["counters"].items() for metric, value in metrics.items()]
    return table(("kernel", "counter", "value"), rows)


TIMES = ("called", "replayed")
HEADER = (
    "case", "form", "called", "vs eager", "vs compiled", "replayed", "vs eager", "vs compiled", "cold L2",
    "GB/s (of copy)", "GFLOP/s (of product)", "peak MiB", "launches", "compiling",
)  # fmt: skip


def _measured(found: Mapping[str, Any]) -> str:
    """Worst case first, then the references, then what has no figures."""
    if not found.get("rows"):
        return f"{NOT_MEASURED.capitalize()}."
    ceilings = found.get("ceilings", {})
    timed = [row for row in found["rows"] if "called" in row]
    by_time = [_ratios(timed, time) for time in TIMES]
    lines = {identity(called): _cells(called, replayed, ceilings) for called, replayed in zip(*by_time, strict=True)}
    order = worst_first(row for row in by_time[0] if row["form"] not in REFERENCES)
    order += [row for row in by_time[0] if row["form"] in REFERENCES]
    cells = [lines[identity(row)] for row in order]
    for row in found["rows"]:
        if "called" not in row:
            reason = row.get("wrong") or row.get("failed") or row["reason"]
            cells.append([name(row), row["form"], reason, *["–"] * (len(HEADER) - 3)])
    text = ""
    if ceilings:
        rounded = [
            f", one of {title} {ceilings[key]:.4g}"
            for key, title in (("bf16_product_gflop_s", "bfloat16"), ("tf32_product_gflop_s", "TF32"))
            if key in ceilings
        ]
        text = (
            f"A copy reaches {ceilings['copy_gb_s']:.4g} GB/s and a float32 matrix product "
            f"{ceilings['product_gflop_s']:.4g} GFLOP/s{''.join(rounded)} in the same run.\n\n"
        )
    if found.get("stage_seconds"):
        text += f"One stage of a persistent loop takes {duration(found['stage_seconds'])} with next to no work.\n\n"
    if "stage_failed" in found:
        text += f"What one stage of a persistent loop takes was not measured: {found['stage_failed']}.\n\n"
    return text + table(HEADER, cells)


def _ratios(rows: Iterable[Mapping[str, Any]], time: str) -> list[dict[str, Any]]:
    return with_ratios([{**row, "median": row[time]["median"] if row[time] else None} for row in rows])


def _cells(called: Mapping[str, Any], replayed: Mapping[str, Any], ceilings: Mapping[str, float]) -> list[str]:
    cold = called["cold"]["median"] if called["cold"] else None
    seconds = cold if called["cold"] else replayed["median"]  # whole models are timed as replayed alone
    rates: list[float | None] = [None, None]
    if seconds and seconds > 0 and "flops" in called:
        rates = [1e-9 * called["bytes"] / seconds or None, 1e-9 * called["flops"] / seconds]
    precision = precision_of(called["form"])
    product = "product_gflop_s" if precision == "float32" else f"{precision}_product_gflop_s"
    return [
        name(called),
        called["form"],
        *_time(called),
        *_time(replayed),
        "too short to tell" if cold is not None and cold <= 0 else duration(cold),
        rate(rates[0], ceilings.get("copy_gb_s")),
        rate(rates[1], ceilings.get(product)),
        f"{called['peak_mib']:.1f}",
        _launches(called),
        f"{called['compile_seconds']:.1f} s" if called["compile_seconds"] else "–",
    ]


def _launches(row: Mapping[str, Any]) -> str:
    if row["launches"] is None:
        return "not counted"
    return str(row["launches"]) + (f", {row['launches'] / row['steps']:.1f} a step" if "steps" in row else "")


def _time(row: Mapping[str, Any]) -> list[str]:
    return [duration(row["median"]), ratio(row["vs_eager"]), ratio(row["vs_compiled"])]


SECTIONS = {
    "tests": ("Tests", _tests),
    "all tests": ("Tests", _tests),
    "persistent": ("Tests of the persistent loops", _tests),
    "cluster": ("Tests of the loops in clusters", _tests),
    "ops": ("Ops", _measured),
    "more ops": ("Ops", _measured),
    "model": ("Model", _measured),
    "more model": ("Model", _measured),
    "compiled": ("Model under torch.compile", _measured),
    "profile": ("Kernels of one update", _profile),
    "paper": ("The paper's training on MNIST with captions", _paper),
    "counters": ("Hardware counters", _counters),
    "sanitizer": ("compute-sanitizer", _sanitizer),
    "races": ("compute-sanitizer", _sanitizer),
}
