"""The arguments, results and tape of the loops: each is named once in Python and once in C++, in one order.

The lists of C++ are read from the text of csrc/unroll_fields.h, whose macros hold one field per line, and those of
lstm_sequence from its declaration in csrc/lstm_sequence.h. Both sides must agree in names, order and shapes.
"""

import importlib
import re
from pathlib import Path
from typing import Annotated, NamedTuple

import pytest
from torch import Tensor

from aligndraw.ops import DecoderWeights, EncoderWeights, _fields, _unroll_fields

CSRC = Path(__file__).parents[2] / "csrc"
# The package's attributes of these names are the functions.
prior, sequence = (importlib.import_module(f"aligndraw.ops.{name}") for name in ("unroll_prior", "lstm_sequence"))
LISTS = {
    "ALIGNDRAW_ENCODER_WEIGHTS": EncoderWeights,
    "ALIGNDRAW_DECODER_WEIGHTS": DecoderWeights,
    "ALIGNDRAW_UNROLL_INPUTS": _unroll_fields.Inputs,
    "ALIGNDRAW_UNROLL_RESULTS": _unroll_fields.Results,
    "ALIGNDRAW_UNROLL_TAPE": _unroll_fields.Tape,
    "ALIGNDRAW_UNROLL_PRIOR_INPUTS": prior.Inputs,
    "ALIGNDRAW_UNROLL_PRIOR_RESULTS": prior.Results,
}
KINDS = {"FIELD": "Tensor", "OPTIONAL": "Tensor?", "LENGTHS": "Tensor"}


def listed(name):
    """The fields of a list of csrc/unroll_fields.h, those of the lists that it names in place."""
    text = (CSRC / "unroll_fields.h").read_text()
    body = re.search(rf"#define {name}\([^)]*\)((?:.*\\\n)*.*)", text)[1]
    found = []
    for macro, arguments in re.findall(r"(\w+)\(([^)]*)\)", re.sub(r"/\*.*?\*/", "", body)):
        if macro in KINDS:
            field, *sizes = arguments.split(", ")
            found.append(_fields.Field(field, KINDS[macro], f"[{', '.join(sizes)}]".replace(" * ", "")))
        else:
            found += listed(macro)
    return found


def tensors(cls):
    return [field for field in _fields.fields(cls) if field.kind.startswith("Tensor")]


@pytest.mark.parametrize("name", LISTS)
def test_both_sides_list_the_same_fields_in_one_order(name):
    assert listed(name) == tensors(LISTS[name])


def test_every_list_of_cpp_is_compared():
    """But ALIGNDRAW_UNROLL_GRADS, which C++ makes of the inputs."""
    defined = re.findall(r"#define (ALIGNDRAW_\w+)\(FIELD\b.*\)", (CSRC / "unroll_fields.h").read_text())
    assert set(defined) - {"ALIGNDRAW_UNROLL_GRADS"} == set(LISTS)


def test_the_gradients_are_those_of_the_inputs_without_lengths():
    wanted = [field for field in tensors(_unroll_fields.Inputs) if field.name != "lengths"]
    assert tensors(_unroll_fields.Gradients) == wanted


def test_captions_have_their_arguments_in_one_order():
    text = (CSRC / "lstm_sequence.h").read_text()
    declared = re.search(r"lstm_sequence_backward\((.*?)\);", text, re.DOTALL)[1]
    assert re.findall(r"\w+ (\w+)(?:,|$)", declared) == [f.name for f in _fields.fields(sequence.BackwardInputs)]
    checked = dict(re.findall(r'check_shape\(op, "(\w+)", \w+, "(\[.*?\])"', text))
    assert checked == {field.name: field.letters for field in tensors(sequence.BackwardInputs)}


class Inner(NamedTuple):
    a: Annotated[Tensor, "[2, 4n, z + d]"]
    b: Annotated[Tensor | None, "[T + 1]"]


class Outer(NamedTuple):
    grads: Annotated[Inner, "grad_"]
    size: int
    inner: Inner
    rate: float
    flag: bool


def test_a_schema_names_nested_fields_in_place():
    wanted = "Tensor grad_a, Tensor? grad_b, int size, Tensor a, Tensor? b, float rate, bool flag"
    assert _fields.schema(Outer) == wanted
    assert _fields.results_schema(Inner, Inner) == "(Tensor, Tensor, Tensor, Tensor)"


def test_flat_and_nested_are_one_another():
    values = tuple("abcdefg")
    nested = _fields.unflatten(Outer, values)
    assert nested == Outer(Inner("a", "b"), "c", Inner("d", "e"), "f", "g")
    assert _fields.flatten(nested) == values
    with pytest.raises(TypeError, match="Outer has 7 fields, got 8 values"):
        _fields.unflatten(Outer, (*values, "h"))


def test_shapes_by_letter():
    assert _fields.shapes(Inner, {"n": 3, "z": 5, "d": 7, "T": 11}) == [(2, 12, 12), (12,)]
