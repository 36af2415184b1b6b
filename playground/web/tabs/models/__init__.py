"""The Models tab: what is on this disk, the search of the Hub, good first models."""
