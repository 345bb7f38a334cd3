"""Prompt-to-Prompt."""

import ldm  # noqa: F401 sets how threads wait, before torch is loaded

__version__ = "0.1.0"
