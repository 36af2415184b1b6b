"""Who is visiting, what each may have under way, and what is left when a page is gone."""
