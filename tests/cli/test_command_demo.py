"""aligndraw demo: its complaints. The page itself is tested in tests/demo."""

import socket
import sys

import pytest

from aligndraw import Pipeline


@pytest.fixture
def demo(command):
    return lambda *arguments: command("demo", "--no-browser", *arguments)


def test_without_gradio_one_line_says_what_to_install(demo, monkeypatch):
    monkeypatch.delitem(sys.modules, "aligndraw.demo.page", raising=False)
    monkeypatch.setattr("aligndraw.demo.page", None, raising=False)
    monkeypatch.delattr("aligndraw.demo.page")
    monkeypatch.setitem(sys.modules, "gradio", None)
    status, out, err = demo()
    assert (status, out) == (1, "")
    assert err.startswith('aligndraw: error: the page needs Gradio: pip install "aligndraw[demo]" (')
    assert err.count("\n") == 1


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_a_port_is_a_number_that_there_is(demo, port):
    status, out, err = demo("--port", port)
    assert (status, out) == (2, "")
    assert err.startswith("aligndraw: error: argument --port: must be ") and f"got '{port}'" in err


def test_a_model_that_is_not_there(demo):
    pytest.importorskip("gradio")
    status, out, err = demo("--model", "missing")
    assert (status, out) == (1, "")
    assert err.startswith("aligndraw: error: there is no model in missing") and err.count("\n") == 1


def test_no_model_ships(demo, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.setattr("aligndraw.pipelines.shipped.SHIPPED", tmp_path)
    status, _, err = demo()
    assert (status, err.count("\n")) == (1, 1) and "no trained model ships with this installation" in err


def test_pictures_that_cannot_be_shown(demo, scenes_model, tmp_path):
    pytest.importorskip("gradio")
    folder = scenes_model(tmp_path / "two", channels=2)
    assert Pipeline.from_pretrained(folder).model.config.channels == 2
    status, _, err = demo("--model", folder)
    rule = f"the pictures of {folder} must have 1 or 3 channels to be shown, got 2"
    assert (status, err) == (1, f"aligndraw: error: {rule}\n")


def test_a_port_that_is_taken(demo, model):
    pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, out, err = demo("--model", model, "--port", port)
    assert (status, out) == (1, "")
    rule = f"cannot serve on 127.0.0.1:{port}, it is taken or not of this machine: choose another --port"
    assert err == f"aligndraw: error: {rule}\n"
