"""The table of processors, at sizes that take no time."""

import json

import processor_table
import pytest
import torch


def test_a_table_and_a_line_of_json(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(processor_table, "SHAPES", {(2, 3, 4): "a product"})
    monkeypatch.setattr(processor_table, "BURST", 1e-5)
    path = tmp_path / "processors.jsonl"
    for runs in (1, 2):
        monkeypatch.setattr("sys.argv", ["", "--threads=2", "--rounds=1", f"--json={path}"])
        processor_table.main()
        assert len(path.read_text().splitlines()) == runs
    found = json.loads(path.read_text().splitlines()[-1])
    assert set(found["rates"]) == {"1", "2"} and all(rate > 0 for rate in found["rates"]["1"]["2×3×4"].values())
    printed = capsys.readouterr().out
    for name in found["bits"]:
        assert printed.count(f"| {name} |") == 6  # two of rates, one of bits, in each run
    ours = [b for name, b in found["bits"].items() if name.startswith("aligndraw")]
    assert all(b["batch"] == b["threads"] == [] for b in ours)


def test_no_rate_of_a_wrong_product():
    wrong = processor_table.Candidate("wrong", False, lambda w, m: lambda x, times: torch.mm(x, w.mT) * 1.001)
    with pytest.raises(ValueError, match="wrong errs by .* at 5×6×7"):
        processor_table.check(wrong, 5, 6, 7)


def test_what_bits_depend_on_shows():
    def by_batch(weights, rows):
        return lambda x, times: torch.mm(x, weights.mT) + (rows == 4) * 1e-4

    def by_threads(weights, rows):
        return lambda x, times: (torch.zeros(len(x), len(weights)) + torch.get_num_threads()).clamp(max=2)

    found = processor_table.bits(processor_table.Candidate("", False, by_threads), None, 3)
    assert found["threads"] == [2, 3] and found["packing"] is None
    plain = processor_table.Candidate("", False, lambda w, m: lambda x, times: torch.mm(x, w.mT))
    found = processor_table.bits(processor_table.Candidate("", False, by_batch), plain, 1)
    assert 4 in found["batch"] and not found["packing"]
