"""Markup of the Measure tab."""
