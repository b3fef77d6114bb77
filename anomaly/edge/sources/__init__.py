"""Where records come from: the contract (base), a table of URI schemes (uri), and one file a source."""
