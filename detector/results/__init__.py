"""Result files in the layouts that other programs read."""
