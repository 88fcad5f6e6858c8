"""Storage of results: folders and buckets, artefacts, and the paths that requests may name."""
