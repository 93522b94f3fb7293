"""Networks in folders: what is read, and what is refused."""

import json

import pytest
import torch
from torch import nn

from aligndraw.module_files import SavedModule, read_module, write_module


def test_modules_are_made_once_their_weights_are_known_to_fit(tmp_path):
    """A record is a few bytes, whatever the sizes that it tells."""
    devices = []

    def build(record):
        module = nn.Linear(record["inputs"], 2)
        devices.append(module.weight.device.type)
        record["inputs"] = str(record["inputs"])
        return module

    def load():
        return read_module(tmp_path, ("w.safetensors", "r.json"), "module", "test 1", build)

    linear = nn.Linear(3, 2)
    write_module(linear, tmp_path, ("w.safetensors", "r.json"), {"format": "test 1", "inputs": 3})
    module, record = load()
    assert devices == ["meta", "cpu"] and record["inputs"] == "3"
    assert torch.equal(module.weight, linear.weight) and torch.equal(module.bias, linear.bias)
    (tmp_path / "r.json").write_text(json.dumps({"format": "test 1", "inputs": 1000}))
    with pytest.raises(ValueError, match="w.safetensors does not fit r.json beside it: look at weight"):
        load()
    assert devices == ["meta", "cpu", "meta"]


class Linear(SavedModule):
    FILES, FORMAT, TITLE = ("w.safetensors", "r.json"), "test 1", "layer"

    def __init__(self, inputs):
        super().__init__()
        self.layer = nn.Linear(inputs, 2)

    def record(self):
        return {"inputs": self.layer.in_features}

    @classmethod
    def from_record(cls, record):
        return cls(record["inputs"])


def test_a_network_saves_itself(tmp_path):
    network = Linear(3)
    network.notes = {"by": "hand"}
    network.save(tmp_path / "made")
    loaded = Linear.load(tmp_path / "made")
    assert torch.equal(loaded.layer.weight, network.layer.weight) and loaded.notes == {"by": "hand"}
    record = json.loads((tmp_path / "made" / "r.json").read_text())
    assert record == {"format": "test 1", "inputs": 3, "notes": {"by": "hand"}}
    with torch.no_grad():
        network.layer.bias[0] = torch.nan
    network.save(tmp_path / "made")
    with pytest.raises(ValueError, match="the layer in .*made is damaged: some parameters are not finite"):
        Linear.load(tmp_path / "made")
    with pytest.raises(FileNotFoundError, match="there is no layer in .*: it has no r.json"):
        Linear.load(tmp_path)
