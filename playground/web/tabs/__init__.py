"""The page's tabs: a file each, or a folder where one would be long."""
