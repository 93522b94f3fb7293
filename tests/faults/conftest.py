import pytest
from fault_ledger import Ledger
from writers import make_inputs

LEDGER = pytest.StashKey()


@pytest.fixture(scope="session")
def ledger(pytestconfig):
    """Counts faults; the table is printed at the end."""
    return pytestconfig.stash.setdefault(LEDGER, Ledger())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with what the writers read."""
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(autouse=True)
def few_captions(monkeypatch):
    """A mean caption of few scenes, which takes no time."""
    monkeypatch.setattr("aligndraw.evaluation.tables.MEAN_CAPTION_SCENES", 10)


def pytest_terminal_summary(terminalreporter, config):
    """Prints the counts."""
    ledger = config.stash.get(LEDGER, None)
    if ledger is not None and ledger.counts:
        terminalreporter.section("faults")
        for line in ledger.lines():
            terminalreporter.write_line(line)
