"""The command line: `p2p`. What it does is imported once there is something to do: its help needs no torch."""

import logging

from p2p.cli.parser import parser


def main() -> None:
    """Do what the command line says. Raises as `p2p.cli.run.run`."""
    args = parser().parse_args()
    from p2p.cli.run import run

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("weights").setLevel(logging.INFO)  # what a model was recognised as
    run(args)
