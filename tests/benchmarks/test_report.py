"""report.py: ratios, order, words, the comparison of two runs."""

import json

import pytest
import report
from json_faults import faults

MACHINE = {
    "device": "cpu", "cpu": "A CPU", "cpus": 2, "threads": 2, "gpu": None, "torch": "2.13.0", "triton": None,
    "python": "3.11.7", "commit": "abc",
}  # fmt: skip


def write_run(path, times, machine=MACHINE, load=0.5):
    """A file as pytest-benchmark writes it; times: (op, form) -> seconds."""
    rows = [
        {
            "stats": {"median": seconds},
            "extra_info": {
                "op": op, "preset": "mnist", "batch": 100, "window": "", "direction": "forward", "form": form,
                "device": "cpu", "flops": 2_000_000, "bytes": 1_000_000, "p20": 0.9 * seconds, "p80": 1.1 * seconds,
                "gb_s": 1e-9 * 1e6 / seconds, "gflop_s": 1e-9 * 2e6 / seconds, "load": load,
                "ceilings": {"copy_gb_s": 10.0, "product_gflop_s": 100.0},
                "compile_seconds": 3.0 if form == "compiled" else None,
            },
        }
        for (op, form), seconds in times.items()
    ]  # fmt: skip
    path.write_text(json.dumps({"machine_info": {"measured_on": machine, "command": "pytest x"}, "benchmarks": rows}))
    return path


TIMES = {
    ("read", "eager"): 4e-2,
    ("read", "compiled"): 1e-3,
    ("read", "cpp"): 2e-3,
    ("write", "eager"): 4e-3,
    ("write", "compiled"): 8e-3,
    ("write", "cpp"): 1e-3,
    ("latent", "cpp"): 1e-4,
}


def lines(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_what_was_measured_in_turn_counts(tmp_path):
    path = write_run(tmp_path / "a.json", TIMES)
    data = json.loads(path.read_text())
    data["benchmarks"][2]["extra_info"]["in_turn"] = {"eager": 19.0}
    path.write_text(json.dumps(data))
    assert [(row["vs_eager"], row["vs_compiled"]) for row in report.load(path).rows[2:3]] == [(19.0, 0.5)]


def test_ratios_worst_case_first_and_losses_counted(tmp_path):
    run = report.load(write_run(tmp_path / "a.json", TIMES))
    text = report.markdown(run)
    table = lines(text)
    assert [line[:2] for line in table[2:5]] == [
        ["read mnist B=100 forward", "cpp"],
        ["write mnist B=100 forward", "cpp"],
        ["latent mnist B=100 forward", "cpp"],
    ]
    assert table[2][2:] == ["2 ms", "1.8 ms – 2.2 ms", "20.00×", "0.50×", "0.5 (5%)", "1 (1%)", "–"]
    assert table[3][4:6] == ["4.00×", "8.00×"]
    assert table[4][4:6] == ["–", "–"]
    assert "slower than one of the references in 1 of 3 cases" in text
    assert [line[1] for line in table[7:]] == ["eager", "compiled"] * 2
    assert table[8][8] == "3.0 s"


def test_forms_that_are_not_the_packages_are_no_losses(tmp_path):
    times = {**TIMES, ("read", "eager_bf16"): 1.0, ("read", "products"): 1.0}
    text = report.markdown(report.load(write_run(tmp_path / "a.json", times)))
    assert "slower than one of the references in 1 of 3 cases" in text
    assert {line[1] for line in lines(text)[7:]} == {"eager", "compiled", "eager_bf16", "products"}


def test_some_cases_alone(tmp_path, capsys):
    path = write_run(tmp_path / "a.json", TIMES)
    assert report.main([str(path), "--only", "write mnist"]) == 0
    assert {line[0].split()[0] for line in lines(capsys.readouterr().out)[2:]} - {"case", "---"} == {"write"}
    assert report.main([str(path), "--only", "B=1 "]) == 2
    assert "no case has 'B=1 ' in its name" in capsys.readouterr().err


def test_without_backends_it_says_so(tmp_path):
    times = {key: value for key, value in TIMES.items() if key[1] != "cpp"}
    text = report.markdown(report.load(write_run(tmp_path / "a.json", times)))
    assert "No backend was built" in text and "slower than" not in text


@pytest.mark.parametrize(("load", "busy"), [(2.4, False), (2.6, True)])
def test_a_busy_machine_is_told(tmp_path, load, busy):
    text = report.markdown(report.load(write_run(tmp_path / "a.json", TIMES, load=load)))
    assert ("not to be trusted" in text) == busy
    assert "A CPU, 2 CPUs, threads in use 2; torch 2.13.0, python 3.11.7; commit abc." in text
    assert "Command: `pytest x`." in text
    assert "copy 10 GB/s, a float32 matrix product 100 GFLOP/s" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "not measured"), (2.5, "2.5 s"), (0.0125, "12.5 ms"), (3.2e-5, "32 µs"), (4e-8, "40 ns")],
)
def test_durations(seconds, text):
    assert report.duration(seconds) == text


def test_comparison_gives_a_fifth_of_slack(tmp_path, capsys):
    before, after = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}, {"a": 1.19, "b": 1.21, "c": 0.8, "e": 1.0}
    old = write_run(tmp_path / "old.json", {(op, "cpp"): seconds for op, seconds in before.items()})
    new = write_run(tmp_path / "new.json", {(op, "cpp"): seconds for op, seconds in after.items()})
    assert report.main([str(new), "--against", str(old)]) == 1
    text = capsys.readouterr().out
    verdicts = {line[0][0]: line[1] for line in lines(text)[2:]}
    assert verdicts == {"a": "same", "b": "slower", "c": "faster", "d": "gone", "e": "new"}
    assert lines(text)[2] == ["b mnist B=100 forward cpp", "slower", "1 s", "1.21 s", "1.21×"]
    assert "1 slower, 1 faster, 1 same, 1 new, 1 gone" in text
    assert report.main([str(new), "--against", str(old), "--slack", "0.3"]) == 0


@pytest.mark.parametrize("change", [{"cpu": "Another"}, {"threads": 1}, {"gpu": "A GPU"}])
def test_different_machines_are_not_compared(tmp_path, capsys, change):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    write_run(old, TIMES)
    write_run(new, TIMES, {**MACHINE, **change})
    assert report.main([str(new), "--against", str(old)]) == 2
    told = capsys.readouterr()
    assert f"cannot be compared, {next(iter(change))} differs" in told.err and not told.out


@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_a_file_that_is_no_run(tmp_path, capsys, content):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    assert report.main([str(path), "--out", str(tmp_path / "x.md")]) == 2
    err = capsys.readouterr().err
    words = "cannot be read: No such file" if content is None else "is no file of `pytest benchmarks/ --benchmark-json"
    assert f"report: {path} {words}" in err and err.count("\n") == 1
    assert not (tmp_path / "x.md").exists()


def test_every_fault_of_a_file(tmp_path, capsys):
    """A report, or one line that names the file."""
    path = write_run(tmp_path / "a.json", {("read", "eager"): 4e-2, ("read", "cpp"): 2e-3})
    data = json.loads(path.read_text())
    data["benchmarks"][0]["extra_info"]["in_turn"] = {"compiled": 2.0}
    path.write_text(json.dumps(data))
    codes = []
    for fault in faults(path):
        codes.append(report.main([str(path)]))
        told = capsys.readouterr()
        assert codes[-1] == 0 and told.out or str(path) in told.err and told.err.count("\n") == 1, (fault, told)
    assert codes.count(2) > 50 and codes.count(0) > 5


def test_plot_and_file(tmp_path):
    pytest.importorskip("matplotlib")
    run = write_run(tmp_path / "a.json", TIMES)
    page, picture = tmp_path / "new" / "a.md", tmp_path / "a.png"
    assert report.main([str(run), "--out", str(page), "--plot", str(picture)]) == 0
    assert page.read_text() == report.markdown(report.load(run))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.json", "a.md", "a.png"]


def test_nothing_to_plot(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    run = write_run(tmp_path / "a.json", {("latent", "cpp"): 1.0})
    assert report.main([str(run), "--plot", str(tmp_path / "a.png")]) == 2
    assert "nothing to plot" in capsys.readouterr().err


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    def breaks_off(file):
        file.write(b"half")
        raise OSError("disk full")

    (tmp_path / "a").write_text("before")
    with pytest.raises(OSError, match="disk full"):
        report.written(tmp_path / "a", breaks_off)
    assert (tmp_path / "a").read_text() == "before"
