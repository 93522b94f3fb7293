"""Names of image files."""

import pytest

from aligndraw.data.image_names import safe_name


@pytest.mark.parametrize("name", ["a.jpg", "a/b/c.jpg", "./a.jpg", "a..b.jpg", "ü ?.jpg"])
def test_safe_names(name):
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", None, 3, "/etc/passwd", "../a.jpg", "a/../../b", "..\\a.jpg", "C:\\a.jpg", "a\0b", "x" * 300, "a/" * 600],
)
def test_unsafe_names(name):
    with pytest.raises(ValueError, match="it leads out of|it is no file name"):
        safe_name(name)
