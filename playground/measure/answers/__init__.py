"""A set of prompts that every level answers: the prompts, the asking, and the grid to read and to vote on."""
