#!/bin/sh
# A database and a user each for Prefect and MLflow. PostgreSQL runs this once, when its volume is empty.
set -eu
psql --set ON_ERROR_STOP=1 --username postgres --set prefect="$PREFECT_DB_PASSWORD" --set mlflow="$MLFLOW_DB_PASSWORD" <<'SQL'
CREATE USER prefect PASSWORD :'prefect';
CREATE DATABASE prefect OWNER prefect;
CREATE USER mlflow PASSWORD :'mlflow';
CREATE DATABASE mlflow OWNER mlflow;
SQL
