"""A page in the browser to try the detector, and to teach it a class."""
