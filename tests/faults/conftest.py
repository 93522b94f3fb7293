import pytest
from fault_ledger import Ledger

LEDGER = pytest.StashKey()


@pytest.fixture(scope="session")
def ledger(pytestconfig):
    """Counts faults; the table is printed at the end."""
    return pytestconfig.stash.setdefault(LEDGER, Ledger())


def pytest_terminal_summary(terminalreporter, config):
    """Prints the counts."""
    ledger = config.stash.get(LEDGER, None)
    if ledger is not None and ledger.counts:
        terminalreporter.section("faults")
        for line in ledger.lines():
            terminalreporter.write_line(line)
