"""From the arguments of a call to a fit."""
