"""The scripts of benchmarks/ are no package: their folder goes onto the path, as when they are run."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))


@pytest.fixture
def benchmarks():
    return BENCHMARKS
