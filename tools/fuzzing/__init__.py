"""What tools/fuzz.py is made of: targets, damage, and processes to be damaged in."""
