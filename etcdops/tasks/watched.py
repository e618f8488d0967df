"""The flags of what changes a cluster while clients write: a canary, and how long its writes may wait."""

MAX_GAP = 5.0  # seconds
WATCHED = {
    "canary": "Write through the cluster meanwhile, and report what clients notice.",
    "max_gap": "Stop between two members once writes have waited so long [5 seconds]",
}
