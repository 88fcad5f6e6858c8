"""The stages that methods compose, with their results kept."""
