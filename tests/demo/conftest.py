from coloured_squares import bundle, small_parts, voc

__all__ = ["bundle", "small_parts", "voc"]
