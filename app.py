"""Starts the page from its settings; what Hugging Face Spaces runs, and `python app.py` anywhere."""

from __future__ import annotations

import sys

from playground.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["serve", "--no-browser"]))
