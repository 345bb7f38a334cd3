"""Sweeps in less time."""

from functools import partial

import pytest

from p2p.experiments.fidelity import fidelity


@pytest.fixture
def two_draws(monkeypatch):
    """A sweep measures fidelity by two draws of noise, not sixteen, which are most of its time on the random model.

    For tests of all else: `test_fidelity.py` has the measure, `test_sweeps.py` sweeps with every draw.
    """
    monkeypatch.setattr("p2p.experiments.sweeps.fidelity", partial(fidelity, draws=2))
