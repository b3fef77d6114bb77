"""A sensor's daily or weekly pattern: learnt where it pays (`learn`), taken off before scoring by every reader (`take_off`)."""
