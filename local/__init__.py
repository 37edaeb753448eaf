"""The whole loop on one machine, as real processes: Airflow, the MLflow UI and serving."""
