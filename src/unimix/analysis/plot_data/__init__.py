"""The data of pictures."""
