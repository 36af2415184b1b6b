"""Conversations with a model, and side by side."""
