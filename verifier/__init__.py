"""The server: batches rounds over all boards, schedules draft lengths, owns the truth."""

__version__ = "0.1.0"
