"""`pytest benchmarks/` itself, as it is run."""

import json
import os
import subprocess
import sys

import report

from aligndraw.backends import missing_reason


def run(benchmarks, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", str(benchmarks), "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)


def test_a_run_and_its_report(benchmarks, tmp_path):
    path = tmp_path / "run.json"
    only = ("-k", "lstm_gates-mnist-B1-forward and not compiled and not bf16", "--benchmark-max-time=0.01")
    done = run(benchmarks, *only, f"--benchmark-json={path}")
    assert done.returncode == 0, done.stdout
    rows = {row["form"]: row for row in report.load(path).rows}
    assert set(rows) == ({"eager"} if missing_reason("lstm_gates", "cpp", "cpu") else {"eager", "cpp"})
    assert all(set(row["in_turn"]) == ({"eager"} if form == "cpp" else set()) for form, row in rows.items())
    eager = rows["eager"]
    assert (eager["flops"], eager["bytes"]) == (9 * 300, 4 * 7 * 300)
    assert 0 < eager["p20"] <= eager["median"] <= eager["p80"] < 0.1
    assert eager["gb_s"] == 1e-9 * eager["bytes"] / eager["median"]
    assert eager["threads"] == 1 and eager["load"] >= 0
    assert min(eager["ceilings"].values()) > 0.1
    facts = json.loads(path.read_text())["machine_info"]
    assert "lstm_gates-mnist-B1-forward" in facts["command"] and facts["measured_on"]["torch"]


def test_smoke_selects_a_few_cases_of_every_file(benchmarks):
    done = run(benchmarks, "-m", "smoke", "--collect-only", "-q")
    chosen = [line for line in done.stdout.splitlines() if "::" in line]
    files = {line.partition("::")[0].rpartition("/")[2] for line in chosen}
    assert files == {path.name for path in benchmarks.glob("bench_*.py")}
    assert len(chosen) <= 40 and not any("compiled" in line for line in chosen)


def test_a_backend_that_is_not_built_stops_the_run(benchmarks):
    done = run(benchmarks, "--backend", "cuda")
    assert done.returncode == 4
    assert "backend 'cuda' was asked for and cannot be timed on cpu: cuda runs on CUDA tensors only" in done.stderr
