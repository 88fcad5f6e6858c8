"""The one contract: what a request says, checked; light to import."""
