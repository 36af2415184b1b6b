"""What this computer has, with every limit on it; and child processes, files, ports."""
