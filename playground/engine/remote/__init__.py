"""Models that run on OpenAI-compatible servers."""
