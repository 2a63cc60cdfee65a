"""Where images come from, and how bytes become pixels."""
