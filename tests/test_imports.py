"""The direction of the imports: `ldm` stands alone, `p2p` and `weights` stand on it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = {"ldm", "p2p", "weights"}
COMMAND_LINE = {"p2p/parser.py", "p2p/cli.py"}  # which `python -m p2p` imports late
MAY = {"ldm": {"ldm"}, "p2p": {"p2p", "ldm"}, "weights": {"weights", "ldm"}}


def imported(tree: ast.Module) -> set[str]:
    """The packages of ours that a file imports."""
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names} & OURS


def is_command(tree: ast.Module) -> bool:
    """Whether a file is run: it starts itself."""
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)


def test_only_commands_import_all():
    wrong, seen = {}, set()
    for package, may in MAY.items():
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            seen |= imported(tree)
            name = path.relative_to(ROOT).as_posix()
            if not is_command(tree) and name not in COMMAND_LINE and (others := imported(tree) - may):
                wrong[name] = others
    assert seen == OURS  # or nothing was looked at
    assert wrong == {}
