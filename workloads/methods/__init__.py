"""AutoDistil, KD-NAS and AutoDisc: each a short module that composes stages. Light to import."""

from workloads.methods import autodistil as autodistil  # registers itself, whoever asks for a method
