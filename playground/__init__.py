"""A web playground in which anyone can feel what quantization does to a language model."""

__version__ = "0.1.0"
