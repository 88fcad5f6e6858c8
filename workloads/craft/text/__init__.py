"""From files of text to token rows: sources, splits, readers, tokeniser, packing, shards; no Ray."""
