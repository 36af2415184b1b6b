"""What every front end needs to measure levels: plans, runs in the background, results."""
