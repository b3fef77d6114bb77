"""A few labelled faults of a machine: `windows` cuts them from tables, `vote` learns from them and judges whether that helps."""
