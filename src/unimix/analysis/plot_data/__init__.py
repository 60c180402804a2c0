"""The data that pictures show, and ``fit.plot``."""
