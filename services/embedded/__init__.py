"""The embedded Ray: a child process of its own, spoken to over HTTP."""
