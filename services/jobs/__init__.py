"""Jobs: states, store and the controller."""
