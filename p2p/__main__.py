"""The command `p2p`."""

from ldm.program import run


def main() -> None:
    """Raises SystemExit for what does not end well."""
    run("p2p.cli", "p2p")


if __name__ == "__main__":
    main()
