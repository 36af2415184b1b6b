"""Whether a model fits: its memory plan by device, where its layers go, and the verdict."""
