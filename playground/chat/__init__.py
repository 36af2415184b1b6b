"""Conversations: prompts by chat templates, replies with thoughts and calls of tools, models side by side."""
