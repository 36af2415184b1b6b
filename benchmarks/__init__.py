"""Side-by-side measurements, run by hand: `python -m benchmarks.generation_speed`. Figures are in README.md."""
