"""What lies in a run directory, and what it says of itself."""
