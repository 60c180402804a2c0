"""One model by several engines."""
