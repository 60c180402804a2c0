"""Common parts of the engines that draw from a posterior."""
