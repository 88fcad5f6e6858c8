"""The embedded Ray: a child process that the service talks to over HTTP."""
