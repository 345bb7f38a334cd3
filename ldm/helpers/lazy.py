"""Names of a package that are imported when they are first used (PEP 562)."""

from collections.abc import Callable
from importlib import import_module


def exports(
    package: str, modules: dict[str, str]
) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """`__all__`, `__getattr__` and `__dir__` of a package.

    Args:
        package: its name.
        modules: of each module, the names that it defines, with spaces between them. None may be a submodule's name:
            importing the submodule would put it in the name's place.
    """
    home = {name: module for module, names in modules.items() for name in names.split()}

    def get(name: str):
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home[name]), name)

    return list(home), get, lambda: sorted({*vars(import_module(package)), *home})
