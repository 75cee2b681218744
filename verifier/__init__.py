"""The server: batches rounds over all boards, schedules draft lengths, owns the truth."""
