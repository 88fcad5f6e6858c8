"""The GPU kit: the quality bench and checks of the training step on a plain PyTorch machine with one GPU.

    python -m benchmarks.gpu prepare --data FOLDER [--to FOLDER] [--before COMMIT]
    python -m benchmarks.gpu run --kit FOLDER --out FOLDER [--minutes N] [--only checks|utilisation|pieces]
    python -m benchmarks.gpu run --tiny --device cpu --out FOLDER
    python -m benchmarks.gpu report --rows FILE --tokens N --out FOLDER

``prepare`` runs on a machine that has the project installed. It writes the *kit*: the teacher in half precision, the
tokenised text, the rows of the tasks, and wheels of the packages that the other machine lacks. ``run`` needs the kit
and a checkout, and neither Ray nor a network. Its parts are the checks of the GPU path, the utilisation of the card,
and pieces of the bench in the order of their worth. Figures are written after each of them.
"""
