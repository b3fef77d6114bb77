"""HTML reports: of an evaluation (`page`, with the series of sensors in `series`) and of a learning curve (`curve`)."""
