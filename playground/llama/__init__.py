"""The only place that imports llama.cpp: models, sampling, devices, quantization, its log."""
