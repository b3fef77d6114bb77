"""Our metrics and domain adaptation against public implementations, on the same inputs."""
