"""Damaged and odd query files: each gives its rows, or one error of ours that names the file."""
