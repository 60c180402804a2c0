"""From the arguments of a call to the fitted result."""
