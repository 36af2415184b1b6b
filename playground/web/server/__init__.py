"""What surrounds the page on its server: the request filter, sessions, health, metrics."""
