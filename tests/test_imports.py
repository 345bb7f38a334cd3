"""The direction of the imports: `ldm` stands alone, `weights` stands on it, and `p2p` on both."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAY = {"ldm": {"ldm"}, "weights": {"ldm", "weights"}, "p2p": {"ldm", "weights", "p2p"}}


def imported(tree: ast.Module) -> set[str]:
    """The packages of ours that a file imports."""
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names} & MAY.keys()


def test_imports_run_one_way():
    wrong, seen = {}, set()
    for package, may in MAY.items():
        for path in (ROOT / package).rglob("*.py"):
            found = imported(ast.parse(path.read_text(encoding="utf-8")))
            seen |= found
            if others := found - may:
                wrong[path.relative_to(ROOT).as_posix()] = others
    assert seen == MAY.keys()  # or nothing was looked at
    assert wrong == {}
