"""The service and its interfaces: API, command line, clients, web page; imports no torch and no Ray."""
