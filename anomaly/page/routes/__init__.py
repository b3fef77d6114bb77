"""The paths of the API, a file a subject. Each holds a `router`."""
