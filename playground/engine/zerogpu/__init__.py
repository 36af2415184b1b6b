"""Spaces on ZeroGPU, where a GPU is there only inside a decorated function."""
