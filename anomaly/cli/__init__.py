"""The command line `anomaly`: one file a group of commands (train, judge, data, edge, bundle), put together in `main`."""
