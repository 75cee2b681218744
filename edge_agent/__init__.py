"""The device: drafts with a small model, talks to one verifier, serves clients on the board."""
