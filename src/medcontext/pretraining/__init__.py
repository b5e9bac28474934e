"""Pretraining without labels: what an encoder learns from scans alone, to be fine-tuned afterwards."""
