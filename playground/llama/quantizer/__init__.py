"""llama.cpp's quantizer in a process of its own, with its log and its importance matrix."""
