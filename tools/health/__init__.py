"""Whether a machine is fit to run the detector: each check by itself, each fault with its cure."""
