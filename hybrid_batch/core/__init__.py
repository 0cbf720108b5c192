"""Decisions and values: standard library and numpy only, no input or output."""
