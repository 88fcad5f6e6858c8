"""Where results are kept: folders and buckets, artefacts, the places that requests may name."""
