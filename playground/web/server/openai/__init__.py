"""The OpenAI-compatible interface at /v1: bodies, answers, errors and routes."""
