"""The model picker without the page: what can be chosen of models, levels, contexts and devices, and what it means."""
