"""Scores that can be trusted: DSC and HD95 for every case and structure."""
