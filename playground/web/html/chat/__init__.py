"""Draws what only the chat shows beside its messages."""
