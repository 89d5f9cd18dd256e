"""What a job costs: ``python -m benchmarks --help``."""
