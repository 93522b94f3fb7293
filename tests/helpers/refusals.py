"""What every refused command has in common."""


def refused(result, status, *words):
    """Asserts the status, an empty stdout, and one line on stderr with all the words."""
    got, out, err = result
    (line,) = err.splitlines()
    assert line.startswith("aligndraw: error: ")
    for word in words:
        assert word in line
    assert (got, out) == (status, "")
