"""The job's folder: the documents that services and runs exchange."""
