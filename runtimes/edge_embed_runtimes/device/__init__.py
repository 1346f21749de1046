"""What the device is, and what the tiers cost on it."""
