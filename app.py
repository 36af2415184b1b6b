"""Starts the page from its settings; what Hugging Face Spaces runs, and `python app.py` anywhere."""

from __future__ import annotations

import sys

from playground.__main__ import main
from playground.engine.zerogpu.gpu_function import declare_gpu_function, is_zerogpu

if is_zerogpu():
    declare_gpu_function()

if __name__ == "__main__":
    sys.exit(main(["serve", "--no-browser"]))
