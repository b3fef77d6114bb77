"""Starting from another line: learning curves, shifted lines, labelled faults, and which source to take."""
