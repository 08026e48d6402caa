"""What a run tells its user: progress, journals, pictures."""
