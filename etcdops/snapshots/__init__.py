"""Snapshots: what is true of a file, the manifest beside it, the stores that keep them, and which ones may go."""
