inference_min_instances = 1
spark_history           = true
monthly_budget          = 500
log_retention_days      = 365
