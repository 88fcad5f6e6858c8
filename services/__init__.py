"""What people and programs talk to; imports no torch and no Ray."""
