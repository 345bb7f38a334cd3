"""Prompt-to-Prompt."""

__version__ = "0.1.0"
