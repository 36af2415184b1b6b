"""Quantization levels made on this computer."""
