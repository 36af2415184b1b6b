"""Measures what quantization costs."""
