"""docs/check_links.py finds each kind of broken link, and no other."""

import importlib.util

import pytest
from pages import ROOT


@pytest.fixture
def broken_links():
    spec = importlib.util.spec_from_file_location("check_links", ROOT / "docs" / "check_links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.broken_links


def test_broken_links(tmp_path, broken_links):
    (tmp_path / "below").mkdir()
    (tmp_path / "picture.png").touch()
    (tmp_path / "below" / "other.html").write_text('<p id="a b">', encoding="utf-8")
    good = ["below/other.html", "below/other.html#a%20b", "#top", "picture.png", "https://example.org/none"]
    bad = ["below/other.html#c", "missing.html", "#none", "../outside.html", "below"]
    links = "".join(f'<a href="{link}">' for link in good + bad)
    (tmp_path / "index.html").write_text(f'<h1 id="top">{links}<img src="lost.png">', encoding="utf-8")
    assert broken_links(tmp_path) == [f"index.html: {link}" for link in sorted([*bad, "lost.png"])]


def test_a_folder_without_pages(tmp_path, broken_links):
    with pytest.raises(FileNotFoundError, match="has no pages: build the site first"):
        broken_links(tmp_path)
