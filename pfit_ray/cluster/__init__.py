"""What speaks Ray, besides trainings."""
