-- One database for each of the three that keep state.
CREATE DATABASE airflow;
CREATE DATABASE mlflow;
CREATE DATABASE evergreen;
