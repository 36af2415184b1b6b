"""The model picker of Chat and Compare: the choice, where it runs, and a form for servers."""
