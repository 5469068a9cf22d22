inference_min_instances = 1
monthly_budget          = 500
log_retention_days      = 365
labels                  = { environment = "prod" }
