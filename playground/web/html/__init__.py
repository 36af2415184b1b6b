"""Records to markup for the page."""
