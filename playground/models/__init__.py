"""Model files: on this disk, in the catalogue, on the Hugging Face Hub."""
