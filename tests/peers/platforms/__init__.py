"""The platforms of the bridges' tests: the real ones where they run here, fakes from their published references elsewhere."""
