"""Where images, image-level labels and ground truth come from."""
