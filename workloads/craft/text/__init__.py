"""Text to token rows: sources, splits, readers, tokeniser, packing, shards; no Ray."""
