"""A cluster that somebody else has set up, read as a ``config.yaml``: what runs, what fits, what is left.  Pure."""
