"""Replies for programs: prompts with functions, and the calls of functions in a reply."""
