"""What the Learn tab shows."""
