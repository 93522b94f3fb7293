"""compare_builds.py: two builds timed in turn, and what the table says of them."""

import contextlib
import sys

import compare_builds
import pytest

CASE = "lstm_gates-mnist-B1-forward-eager"


class FakeWorker:
    """Answers as build_worker.py does, at a speed of its own."""

    log: list = []
    checks: list = []

    def __init__(self, name, seconds, wrong=()):
        self.name, self.seconds, self.wrong = name, seconds, wrong

    def ask(self, request, argument=None):
        if request == "facts":
            return {
                "cpu": "A CPU", "isa": "avx2", "cpus": 2, "threads": 2, "aligndraw": "0.1.0", "torch": "2.13.0",
                "commit": None, "compiler": "g++ 12",
            }  # fmt: skip
        if request == "names":
            only = {f"{self.name}-alone": None}
            return {"a-cpp": "a-eager", "b-cpp": None, **only}
        if request == "prepare":
            self.case, check = argument
            self.checks.append(check)
            return f"{self.case}: wrong" if self.case in self.wrong else ""
        assert request == "burst"
        self.log.append(self.name)
        return self.seconds[self.case] if isinstance(self.seconds, dict) else self.seconds


@pytest.fixture
def fake(monkeypatch):
    """Puts workers of these speeds in the place of processes; one dictionary for each round."""

    def install(*rounds, wrong=()):
        speeds = iter(rounds)
        monkeypatch.setattr(FakeWorker, "log", [])
        monkeypatch.setattr(FakeWorker, "checks", [])

        @contextlib.contextmanager
        def workers(builds, threads):
            speed = next(speeds)
            yield {name: FakeWorker(name, speed[name], wrong if name == "new" else ()) for name in builds}

        monkeypatch.setattr(compare_builds, "workers", workers)

    return install


BUILDS = {"old": "-", "new": "-"}


def test_each_build_follows_each_other_one_as_often():
    FakeWorker.log = []
    of = {name: FakeWorker(name, 1.0) for name in "abc"}
    compare_builds.time_in_turn(of, "b", seconds=4.0)
    assert "".join(FakeWorker.log) == "abcacb" * 2
    FakeWorker.log = []
    compare_builds.time_in_turn({name: of[name] for name in "ab"}, "b", seconds=4.0)
    assert "".join(FakeWorker.log) == "ab" * 4


def test_a_rounds_figure_is_the_median_over_neighbours():
    """The machine becomes ten times slower half-way; the ratio does not notice."""
    times = {"old": [2.0, 2.0, 20.0, 20.0, 44.0], "new": [1.0, 1.0, 10.0, 10.0, 11.0]}

    class Slowing(FakeWorker):
        def ask(self, request, argument=None):
            return times[self.name].pop(0)

    of = {name: Slowing(name, 0) for name in times}
    medians, ratios = compare_builds.time_in_turn(of, "new", seconds=0.0, least=5)
    assert medians == {"old": 20.0, "new": 10.0} and ratios == {"old": 2.0}


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((0.90, 0.94, 0.95), "slower"),
        ((0.80, 0.80, 0.96), "same"),
        ((1.20, 1.10, 1.06), "faster"),
        ((1.20, 1.20, 1.04), "same"),
    ],
)
def test_a_verdict_needs_every_round(fake, ratios, verdict):
    fake(*({"old": {"a-cpp": ratio}, "new": {"a-cpp": 1.0}} for ratio in ratios))
    (case,) = compare_builds.compare(BUILDS, ["a-*"]).cases
    assert case.verdict("old") == verdict
    assert case.ratio("old") == sorted(ratios)[1]
    assert FakeWorker.checks == [True, True, False, False, False, False]


def table(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_and_the_exit_code(fake, monkeypatch, tmp_path):
    fake(*[{"old": {"a-cpp": 0.5, "b-cpp": 2e-3}, "new": {"a-cpp": 1.0, "b-cpp": 1e-3}, "eager": {"a-eager": 4.0}}] * 3)
    page = tmp_path / "page.md"
    arguments = ["old=x", "new=y", "--cases", "*", "--eager", "--out", str(page)]
    assert compare_builds.main(arguments) == 1
    text = page.read_text()
    assert table(text)[0] == ["case", "old", "new", "times faster", "in each round", "eager", "new vs eager", "verdict"]
    assert table(text)[2:] == [
        ["a-cpp", "500 ms", "1 s", "0.50×", "0.50 0.50 0.50", "4 s", "4.00×", "slower"],
        ["b-cpp", "2 ms", "1 ms", "2.00×", "2.00 2.00 2.00", "–", "–", "faster"],
    ]
    assert "1 of 2 cases are slower by more than 5% in every round." in text
    assert "Not in both builds: old-alone, new-alone." in text
    assert "A CPU (avx2), 2 CPUs, threads in use 2." in text and "commit unknown, torch 2.13.0, g++ 12" in text
    assert "old=x new=y --cases" in text


def test_a_wrong_result_is_not_timed(fake):
    fake(*[{"old": {"b-cpp": 1.0}, "new": {"b-cpp": 1.0}}] * 3, wrong=("a-cpp",))
    found = compare_builds.compare(BUILDS, ["?-cpp"])
    assert [(case.name, case.verdict("old")) for case in found.cases] == [
        ("a-cpp", "new: a-cpp: wrong"),
        ("b-cpp", "same"),
    ]
    assert table(compare_builds.markdown(found))[2] == ["a-cpp", "–", "–", "–", "–", "new: a-cpp: wrong"]


def test_how_the_processors_time_was_shared(monkeypatch):
    times = iter([(100.0, 10.0, 1.0), (200.0, 12.0, 2.0), (200.0, 20.0, 2.0)])
    monkeypatch.setattr(compare_builds.Load, "_read", lambda self=None: next(times))
    load = compare_builds.Load()
    assert str(load) == ("Other programs took 2% of the processors' time, other machines on the same host 1%.")
    assert str(load).endswith("**That is too much: the times are not to be trusted.**")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["old=/nowhere/python", "new=/nowhere/python"], "old: /nowhere/python cannot be run (No such file"),
        (["old=false", "new=false"], "old: its process ended"),
        (["old=a", "old=b"], "must have two names"),
    ],
)
def test_what_cannot_be_compared(arguments, message, capsys):
    assert compare_builds.main(arguments) == 2
    told = capsys.readouterr()
    assert message in told.err and not told.out


def test_what_is_no_build(capsys):
    with pytest.raises(SystemExit):
        compare_builds.main(["python", "new=python"])
    assert "must be NAME=PYTHON" in capsys.readouterr().err


def test_two_real_builds():
    builds = dict.fromkeys(("old", "new"), sys.executable)
    found = compare_builds.compare(builds, [CASE], rounds=1, seconds=0.0, threads=1)
    assert [case.name for case in found.cases] == [CASE] and not found.left_out
    (case,) = found.cases
    assert set(case.seconds[0]) == set(builds) and all(1e-6 < seconds < 1 for seconds in case.seconds[0].values())
    assert case.ratios[0].keys() == {"old"}
    assert found.facts["new"]["threads"] == 1 and found.facts["new"]["isa"]
    assert CASE in compare_builds.markdown(found)
    with pytest.raises(compare_builds.CannotCompare, match="no case of both builds matches nothing"):
        compare_builds.compare(builds, ["nothing"], rounds=1)
