"""A run on disk: its directory, who owns it, and how it stands."""
