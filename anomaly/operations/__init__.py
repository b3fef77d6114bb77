"""The loop of a line in use: watched, fitted anew, compared, approved, promoted, rolled back. Flows are thin around it."""
