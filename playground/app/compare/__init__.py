"""The Compare tab's work without the page: two models side by side, blind votes, and what is measured of both."""
