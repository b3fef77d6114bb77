"""Changes to finished graphs that leave their answers as they are."""
