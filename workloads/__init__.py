"""Code that runs on the cluster: the craft, the methods and the runs. Imports nothing of ``services``."""
