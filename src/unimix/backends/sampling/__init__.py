"""What the engines that sample share."""
