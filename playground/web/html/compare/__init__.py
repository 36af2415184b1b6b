"""Draws the Compare tab: the panes with their tokens, the result and its figures, the votes."""
