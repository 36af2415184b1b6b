"""Starts the page from its settings; what Hugging Face Spaces runs, and `python app.py` anywhere."""

from __future__ import annotations

from playground.settings import load_settings
from playground.ui.app import launch

if __name__ == "__main__":
    launch(load_settings())
