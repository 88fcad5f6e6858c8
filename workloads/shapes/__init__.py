"""What models look like and cost: architectures, sub-spaces, teachers' files, without torch."""
