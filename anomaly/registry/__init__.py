"""Runs and versions in MLflow, where a plant keeps one: off until ANOMALY_MLFLOW_URI is set. MLflow is imported when it is used."""
