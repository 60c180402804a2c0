"""Engine-neutral mathematics: free functions on arrays."""
