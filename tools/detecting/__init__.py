"""How tools/detect.py and tools/evaluate.py run a bundle."""
