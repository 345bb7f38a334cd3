"""What the command line says without a model: its formulas and its help."""

import sys

import pytest

from p2p.__main__ import main


def test_equations_lists_the_formulas_with_the_slides_slips(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["p2p", "equations"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 19 + 3 + 9 + 13
    assert any(line.startswith("D7  *") for line in lines) and any(line.startswith("D8   ") for line in lines)


def test_help_explains_tau(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["p2p", "edit", "--help"])
    with pytest.raises(SystemExit):
        main()
    text = " ".join(capsys.readouterr().out.split())
    assert "with 0.2 the first 80% of the sampling injects" in text
    assert "t >= TAU" in text
