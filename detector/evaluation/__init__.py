"""Judging detections against annotations by the published rules."""
