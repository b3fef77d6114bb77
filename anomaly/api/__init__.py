"""The Python interface; its names are those of `anomaly` itself: `anomaly.fit`, `anomaly.load`, `anomaly.Detector`."""
