"""Plain PyTorch, no Ray, testable alone: families, the SuperLM, objectives, extraction, export."""
