"""The command line: `p2p`. Commands are imported once the options are parsed, so that help needs no torch."""

import logging

from p2p.cli.parser import parsed


def main() -> None:
    """Run the command line. Raises as `p2p.cli.run.run`."""
    options = parsed()
    from p2p.cli.run import run

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("weights").setLevel(logging.INFO)  # logs the detected format of a model
    run(options)
