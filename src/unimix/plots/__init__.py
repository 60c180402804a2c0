"""Pictures, and the data behind them."""
