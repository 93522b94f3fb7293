"""Options, cases and clock of `pytest benchmarks/`."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile

import cases
import cuda_clock
import machine
import pytest
import torch

from aligndraw.ops import OPS

NOT_BUILT = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("aligndraw")
    group.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="where the tensors are")
    group.addoption(
        "--backend", action="append", default=[], help="this one alone beside the reference; stop if it is not built"
    )
    group.addoption("--full", action="store_true", help="all three windows at every batch, not at batch 100 alone")
    group.addoption(
        "--compile-model", action="store_true", help="also the whole model under torch.compile: minutes a case"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NOT_BUILT] = []
    if config.getoption("--device") == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError(f"--device cuda: torch {torch.__version__} sees no CUDA device")
    # A compiler's cache from an earlier run would make compiling look quick.
    folder = tempfile.mkdtemp(prefix="aligndraw-benchmarks-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", folder)


def pytest_report_header(config: pytest.Config) -> list[str]:
    device = config.getoption("--device")
    served = {op: ", ".join(cases.built(op, device)) or "none" for op in OPS}
    backends = "; ".join(f"{op}: {names}" for op, names in served.items())
    return [f"aligndraw on {device}, {torch.get_num_threads()} threads, backends {backends}"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    option, benchmark = metafunc.config.getoption, metafunc.module.BENCHMARK
    try:
        found = benchmark.cases(option("--device"), option("--backend"), option("--full"))
    except cases.NotBuilt as problem:
        metafunc.config.stash[NOT_BUILT].append(str(problem))
        found = []
    if not option("--compile-model"):
        found = [case for case in found if case.op in OPS or case.form != "compiled"]
    smoke = pytest.mark.smoke
    metafunc.parametrize(
        "case", [pytest.param(case, id=str(case), marks=[smoke] if benchmark.smoke(case) else []) for case in found]
    )


def pytest_collection_modifyitems(config: pytest.Config) -> None:
    problems = config.stash[NOT_BUILT]
    if problems:
        raise pytest.UsageError("\n".join(problems))


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, object]) -> None:
    machine_info["measured_on"] = machine.describe(config.getoption("--device"))
    machine_info["command"] = shlex.join(["pytest", *map(str, config.invocation_params.args)])


@pytest.fixture(scope="session")
def ceilings(request: pytest.FixtureRequest) -> dict[str, float]:
    return machine.ceilings(request.config.getoption("--device"))


@pytest.fixture
def timed(request, benchmark):
    """Checks a case and times it; all that a report needs goes into `extra_info`."""

    def run(case: cases.Case) -> None:
        on_gpu = case.device == "cuda"
        benchmark.group = "-".join(str(part) for part in case.question[:-1] if part)
        with request.module.BENCHMARK.prepared(case) as ready:
            facts = benchmark.extra_info
            facts |= case.to_dict() | ready.work
            facts |= {"error": ready.error, "compile_seconds": ready.compile_seconds, "backends": ready.backends}
            if benchmark.disabled:
                benchmark(ready.call)
                return
            facts |= {"ceilings": request.getfixturevalue("ceilings"), "threads": torch.get_num_threads()}
            facts["load"] = os.getloadavg()[0]
            if on_gpu:
                facts["cuda"] = cuda_clock.measure(ready.call)

            def call() -> None:
                ready.call()
                torch.cuda.synchronize()

            benchmark(call if on_gpu else ready.call)
            facts["in_turn"] = ready.in_turn()
        samples = machine.spread(benchmark.stats.stats.data)
        facts |= {"p20": samples["p20"], "p80": samples["p80"]}
        facts |= rates(ready.work, samples["median"])

    return run


def rates(work: dict[str, int], seconds: float) -> dict[str, float]:
    """GB/s and GFLOP/s; nothing where no formula is stated."""
    of = {"gb_s": "bytes", "gflop_s": "flops"}
    return {rate: 1e-9 * work[what] / seconds for rate, what in of.items() if work.get(what)}
