"""What a running verifier did, kept in a file, and a simulated world that does the same.

`lines` is the form of the file, `recorder` writes it, `recording_file` reads it, `calibration` fits
a world to it, `scenario_text` writes that world down for `simulate`. Nothing of any text is kept:
only who drafted how much when, what was accepted of it, and how long rounds took.
"""
