"""What `ldm` and `p2p` export, and that importing them is fast."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ldm
import p2p

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("package", [ldm, p2p])
def test_every_exported_name_exists_and_is_no_submodule(package):
    """A submodule of that name would take its place once it is imported."""
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert len(package.__all__) > 20 and not modules & set(package.__all__)
    assert all(getattr(package, name) is not None for name in package.__all__)
    assert set(package.__all__) <= set(dir(package)) and {"__path__", "__all__"} <= set(dir(package))
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nonsense'"):
        _ = package.nonsense


def test_what_a_lesson_uses_needs_two_imports():
    M = p2p.mapper(p2p.align(*[p2p.load("stickers").tokenizer.encode(prompt) for prompt in ("a cat", "a dog")]), 77)
    assert M.shape == (77, 77)
    assert ldm.Schedule().alpha_bar[0] == 1 and ldm.Schedule().config == ldm.ScheduleConfig()
    assert ldm.attention_map(torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 3, 4)).shape == (1, 1, 2, 3)


@pytest.mark.parametrize("args", [["--help"], ["edit", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(args):
    program = (
        "import sys; from p2p.__main__ import main; sys.argv = ['p2p', *sys.argv[1:]]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *args], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    loaded = set(done.stderr.split())
    assert done.stdout and "p2p.cli.options" in loaded
    assert not loaded & {"torch", "numpy", "matplotlib", "pydantic", "PIL", "tqdm", "huggingface_hub"}
