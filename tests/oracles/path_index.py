"""Paths between neighbouring cells, written as the definition reads: floats, no tricks."""

import math


def slow_paths(radius: int) -> list[list[tuple[int, int]]]:
    destinations = [
        (dy, dx)
        for dy in range(radius)
        for dx in range(-radius, radius + 1)
        if math.hypot(dy, dx) < radius and (dy > 0 or dx > 0)
    ]
    paths = []
    for dy, dx in destinations:
        length = math.hypot(dy, dx)
        path = []
        for y in range(dy + 1):
            for x in range(min(dx, 0), max(dx, 0) + 1):
                distance = abs(dy * x - dx * y) / length
                if distance < 1 - 1e-9:
                    path.append((y, x))
        paths.append(path)
    return paths
