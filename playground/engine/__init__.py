"""Runs models: one child process per loaded model."""
