"""What makes, checks and tests the project; each file is run by hand or by make."""
