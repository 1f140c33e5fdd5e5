"""The vswin command."""
