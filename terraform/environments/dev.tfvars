monthly_budget      = 50
deletion_protection = false
log_retention_days  = 30
labels              = { environment = "dev" }
