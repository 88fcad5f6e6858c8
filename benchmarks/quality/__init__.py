"""The quality of students on real tasks, against students that a person would make by hand.

    python -m benchmarks.quality --profile two-cores [--data FOLDER] [--only NAME] [--list] [--hours H]
    python -m benchmarks.quality report
    python -m benchmarks.quality merge FILE...

A *piece* of the bench distils a model, scores it, or fine-tunes it on a task with one seed. Its result is a row of
``benchmarks/results/quality.parquet``, and a piece with a row is not run again: the bench goes on after an
interruption, and on another machine. A *profile* is a list of pieces (:mod:`benchmarks.quality.profiles`). Trained
weights lie in a folder of the user's choice and are made again where they are missing.
"""
