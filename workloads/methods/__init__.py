"""AutoDistil, KD-NAS and AutoDisc: each a short module that composes stages."""
