"""The Ray programs that drive the craft."""
