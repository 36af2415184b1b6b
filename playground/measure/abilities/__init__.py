"""Abilities that lower levels lose first: instructions followed, tools called, numbers and long texts kept in mind."""
