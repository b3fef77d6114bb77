"""Published picture sets, judged category by category by one command."""
