"""The proposal cache: one SQLite file for the regions of many images, a few bytes a box."""
