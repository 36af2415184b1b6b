"""Draws skills, and Markdown whose words carry marks."""
