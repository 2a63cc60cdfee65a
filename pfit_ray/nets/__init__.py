"""Networks: torch modules on timm backbones, and their weights."""
