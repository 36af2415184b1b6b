"""Scoring texts: how likely a model finds each token, alone or compared with a reference."""
