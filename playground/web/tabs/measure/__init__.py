"""The Measure tab: what to measure, what was found, and the answers of every level."""
