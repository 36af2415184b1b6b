"""The Compare tab: its components, what it does, the dial and its pickers, what is saved of it."""
