"""The command `p2p`."""

from ldm.helpers.program import run


def main() -> None:
    """Run the command line. Raises SystemExit if it fails."""
    run("p2p.cli.main", "p2p")


if __name__ == "__main__":
    main()
