variable "project" {
  description = "Google Cloud project id. The system takes a project of its own."
  type        = string
}

variable "region" {
  description = "Region of everything, for example europe-west4. It needs Cloud Run with L4 GPUs to train."
  type        = string
}

variable "alert_email" {
  description = "Address that alerts and budget warnings go to."
  type        = string
}

variable "images" {
  description = "Container images by digest, as cloudbuild.yaml built them. Until the first build a hello page stands in."
  type = object({
    inference     = string
    dashboard     = string
    preprocessing = string
    training      = string
  })
  default = {
    inference     = "us-docker.pkg.dev/cloudrun/container/hello"
    dashboard     = "us-docker.pkg.dev/cloudrun/container/hello"
    preprocessing = "us-docker.pkg.dev/cloudrun/container/hello"
    training      = "us-docker.pkg.dev/cloudrun/container/job"
  }
}

variable "imaging_systems" {
  description = "Who may create objects in the uploads bucket, and nothing else: IAM members such as serviceAccount:..."
  type        = list(string)
  default     = []
}

variable "uploaders" {
  description = "Who may run the upload script, which reads back what it sent: IAM members such as user:..."
  type        = list(string)
  default     = []
}

variable "clinicians" {
  description = "Who may open the dashboard, and nothing else: IAM members such as group:..."
  type        = list(string)
  default     = []
}

variable "researchers" {
  description = "Who may read validated scans and features: IAM members such as group:..."
  type        = list(string)
  default     = []
}

variable "source_bucket" {
  description = "Bucket that ingest_scans copies from; none where empty."
  type        = string
  default     = ""
}

variable "source_prefix" {
  description = "Prefix of the objects that ingest_scans copies."
  type        = string
  default     = ""
}

variable "label_map" {
  description = "Which source folder gets which label, as glioma=Cancer,...; empty for the folders of the public sets."
  type        = string
  default     = ""
}

variable "inference_min_instances" {
  description = "Instances of the inference service kept warm. One costs about 26 dollars a month; none costs the first caller a start of a second or two."
  type        = number
  default     = 0
}

variable "spark_history" {
  description = "Whether a small cluster keeps the Spark history server running, at about 60 dollars a month."
  type        = bool
  default     = false
}

variable "monthly_budget" {
  description = "Amount in the billing account's currency of which 50, 90 and 100 per cent, and a forecast of 100, warn."
  type        = number
  default     = 100
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to destroy buckets with objects, tables and services. docs/operations/deploy.md, tear-down."
  type        = bool
  default     = true
}

variable "log_retention_days" {
  description = "Days for which the system's logs are kept. Audit logs are kept for 400."
  type        = number
  default     = 90
}

variable "kms_key" {
  description = "Key (projects/.../cryptoKeys/...) in the same region for buckets, topics, dataset and images; Google's where null."
  type        = string
  default     = null
}

variable "repository" {
  description = "GitHub repository whose pull requests and main branch are built, once connected to Cloud Build; none where null."
  type        = object({ owner = string, name = string })
  default     = null
}
