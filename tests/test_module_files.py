"""Networks in folders: what is read, and what is refused."""

import json

import pytest
import safetensors.torch
import torch
from torch import nn

from aligndraw.files import save_tensors
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


def saved_linear(folder):
    network = Linear(3)
    network.notes = {"by": "hand"}
    network.save(folder)
    return network, folder / "w.safetensors", folder / "r.json"


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.complex64])
def test_weights_that_are_no_floating_point_numbers_are_refused(tmp_path, dtype):
    """They were rounded before, so that the pictures were grey."""
    network, weights, _ = saved_linear(tmp_path)
    state = {**network.state_dict(), "layer.bias": torch.ones(2, dtype=dtype)}
    safetensors.torch.save_file(state, weights)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(
        ValueError, match=f"w.safetensors is damaged or foreign: layer.bias must be float32, got {name}$"
    ):
        Linear.load(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_floating_point_types_are_loaded(tmp_path, dtype):
    network, weights, _ = saved_linear(tmp_path)
    state = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
    safetensors.torch.save_file(state, weights)
    loaded = Linear.load(tmp_path).layer.weight
    assert loaded.dtype == torch.float32 and torch.equal(loaded, state["layer.weight"].float())


def test_a_record_of_other_weights_is_refused(tmp_path):
    """It fits in its sizes; an entry that has none changed the network in silence."""
    network, weights, record = saved_linear(tmp_path)
    whole = json.loads(record.read_text())
    record.write_text(json.dumps({**whole, "words": ["a"]}))
    with pytest.raises(ValueError, match=r"r.json is not the one that w.safetensors was saved with: restore both"):
        Linear.load(tmp_path)
    # Another layout, and other notes, which change whenever a training saves its model.
    record.write_text(json.dumps({**dict(reversed(whole.items())), "notes": {"by": "machine"}}))
    assert torch.equal(Linear.load(tmp_path).layer.weight, network.layer.weight)


def test_weights_of_earlier_versions_know_no_record(tmp_path):
    network, weights, record = saved_linear(tmp_path)
    save_tensors(weights, network.state_dict())
    record.write_text(json.dumps({**json.loads(record.read_text()), "words": ["a"]}))
    assert torch.equal(Linear.load(tmp_path).layer.weight, network.layer.weight)


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, "float16"])
def test_only_floats_that_are_read_again_are_stored(tmp_path, dtype):
    """Nothing is written in another dtype."""
    rule = "dtype must be one of torch.float16, torch.bfloat16, torch.float32, torch.float64, got"
    with pytest.raises(ValueError, match=f"^{rule} {dtype!r}$"):
        write_module(nn.Linear(3, 2), tmp_path / "new", ("w.safetensors", "r.json"), {}, dtype)
    assert not list(tmp_path.iterdir())
