"""Measures what quantization costs: fidelity, speed, abilities, votes; keeps and compares the results."""
