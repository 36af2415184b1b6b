"""Models on the Hugging Face Hub: search, headers, downloads."""
