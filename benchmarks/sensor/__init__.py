"""Sensors: SKAB baselines, TSB-AD, speed, dirty normals and the alarm budget."""
