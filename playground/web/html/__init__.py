"""Draws records as markup, with the autoescaped templates of assets/templates/."""
