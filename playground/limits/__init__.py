"""Who is visiting, what each visitor may have under way at once, and what happens when a page is closed."""
