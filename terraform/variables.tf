variable "project" {
  description = "Google Cloud project id. An environment takes a project of its own, or shares one under a prefix."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 lower-case letters, digits and dashes, and begins with a letter."
  }
}

variable "region" {
  description = "Region of everything, for example europe-west4. With training_gpu it needs Cloud Run with L4 GPUs."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region, as in europe-west4; neither a zone (europe-west4-a) nor a multi-region (eu)."
  }

  validation {
    condition     = !var.training_gpu || contains(local.l4_regions, var.region)
    error_message = "Cloud Run has L4 GPUs in ${join(", ", local.l4_regions)}: choose one of them, or leave training_gpu off."
  }
}

variable "prefix" {
  description = "What the name of everything begins with, as in dev-, so that two environments fit a project; nothing for the only one. It cannot be changed later: everything would be made again."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([a-z][a-z0-9]*-)?$", var.prefix))
    error_message = "Lower-case letters and digits that begin with a letter and end with a dash, as in dev-; or nothing."
  }

  validation {
    condition     = length(var.prefix) <= local.longest_prefix
    error_message = "At most ${local.longest_prefix} characters, so that the longest account's name has 30."
  }

  validation {
    condition     = var.prefix == "" || !contains(local.first_words, trimsuffix(var.prefix, "-"))
    error_message = "One of the system's own names begins so: an environment without a prefix could have a name of this one's."
  }
}

variable "owns_project" {
  description = "Whether this environment sets what a project has once: audit configuration, log buckets and sinks, default accounts, budget, perimeter, Binary Authorization. One environment of a project does, and it is made first."
  type        = bool
  default     = true
  nullable    = false
}

variable "alert_email" {
  description = "Address that alerts and budget warnings go to."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.alert_email))
    error_message = "An e-mail address, as in me@example.org."
  }
}

variable "billing_account" {
  description = "Billing account that a budget is set on, as in 012345-6789AB-CDEF01; no budget where null."
  type        = string
  default     = null

  validation {
    condition     = var.billing_account == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "A billing account id, as `gcloud billing accounts list` shows it: 012345-6789AB-CDEF01."
  }
}

variable "labels" {
  description = "Labels of every resource that takes some, beside app=scanflow: the bill can be split by them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "Labels have lower-case letters, digits, dashes and underscores, 63 at most."
  }
}

variable "images" {
  description = "Container images by digest. Where null, those that were deployed last: images.json of the state bucket."
  type = object({
    inference     = string
    dashboard     = string
    preprocessing = string
    training      = string
  })
  default = null

  validation {
    condition     = var.images == null ? true : alltrue([for image in values(var.images) : can(regex("@sha256:[0-9a-f]{64}$", image))])
    error_message = "Every image is named by its digest: REGION-docker.pkg.dev/PROJECT/scanflow/NAME@sha256:..."
  }
}

variable "imaging_systems" {
  description = "Who may create objects in the uploads bucket, and nothing else: IAM members such as serviceAccount:..."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.imaging_systems : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):\\S+$", member))])
    error_message = "IAM members, as in serviceAccount:mri-3@hospital.iam.gserviceaccount.com, never everybody."
  }
}

variable "uploaders" {
  description = "Who may run the upload script: create objects and read back what is there, but neither overwrite nor delete. IAM members such as user:..."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.uploaders : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):\\S+$", member))])
    error_message = "IAM members, as in user:someone@example.org, never everybody."
  }
}

variable "clinicians" {
  description = "Who may open the dashboard, and nothing else: IAM members such as group:..."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.clinicians : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):\\S+$", member))])
    error_message = "IAM members, as in group:clinicians@example.org, never everybody."
  }
}

variable "researchers" {
  description = "Who may read validated scans and features: IAM members such as group:..."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.researchers : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):\\S+$", member))])
    error_message = "IAM members, as in group:researchers@example.org, never everybody."
  }
}

variable "erasers" {
  description = "Who may erase a file and everything that was made of it (docs/operations/erase.md): IAM members such as user:..."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.erasers : can(regex("^(user|group|serviceAccount|principal|principalSet):\\S+$", member))])
    error_message = "IAM members, as in user:someone@example.org, never everybody."
  }
}

variable "source_bucket" {
  description = "Bucket that ingest_scans copies from; none where empty."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.source_bucket == "" || can(regex("^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", var.source_bucket))
    error_message = "The bucket's name alone, without gs:// and without a prefix."
  }
}

variable "source_prefix" {
  description = "Prefix of the objects that ingest_scans copies."
  type        = string
  default     = ""
  nullable    = false
}

variable "label_map" {
  description = "Which source folder gets which label, as glioma=Cancer,...; empty for the folders of the public sets."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = alltrue([for pair in compact(split(",", var.label_map)) : can(regex("^[^=]+=(Cancer|Non-Cancer|Unlabelled)$", pair))])
    error_message = "Pairs of a folder and a label: glioma=Cancer,ward 3=Unlabelled. Labels are Cancer, Non-Cancer, Unlabelled."
  }
}

variable "inference_min_instances" {
  description = "Instances of the inference service kept warm. One costs about 26 dollars a month; none costs the first caller a start of a second or two."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.inference_min_instances >= 0 && floor(var.inference_min_instances) == var.inference_min_instances
    error_message = "A whole number from 0."
  }

  validation {
    condition     = var.inference_min_instances <= local.max_instances.inference
    error_message = "At most the inference service's max_instances."
  }
}

variable "max_instances" {
  description = "Most instances of a function or service, by name, where the default does not do. The defaults fit a new project's quota of 20 vCPU and 40 GiB a region: ask for more quota first (docs/operations/limits.md)."
  type        = map(number)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.max_instances) : contains(concat(["inference", "dashboard"], [for file in fileset("${path.module}/../functions", "*/main.py") : dirname(file)]), name)])
    error_message = "There is no function or service of that name."
  }

  validation {
    condition     = alltrue([for count in values(var.max_instances) : count >= 1 && count <= 1000 && floor(count) == count])
    error_message = "Whole numbers from 1 to 1000."
  }
}

variable "training_gpu" {
  description = "Whether training runs on an L4 GPU. A new project has none: ask for the quota \"Total Nvidia L4 GPU allocation without zonal redundancy\" first. Without it training has 8 vCPU and 12 hours."
  type        = bool
  default     = false
  nullable    = false
}

variable "monthly_budget" {
  description = "Amount in the billing account's currency of which 50, 90 and 100 per cent, and a forecast of 100, warn."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.monthly_budget >= 1 && floor(var.monthly_budget) == var.monthly_budget
    error_message = "A whole amount of at least 1."
  }
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to destroy buckets with objects, tables and services (docs/operations/deploy.md, Tear-down)."
  type        = bool
  default     = true
  nullable    = false
}

variable "log_retention_days" {
  description = "Days for which the system's logs are kept. Audit logs are kept for 400."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.log_retention_days >= 1 && var.log_retention_days <= 3650 && floor(var.log_retention_days) == var.log_retention_days
    error_message = "Whole days from 1 to 3650."
  }
}

variable "upload_notification_days" {
  description = "Days for which the notifications of uploads, which carry object names, can be replayed."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.upload_notification_days >= 1 && var.upload_notification_days <= 31 && floor(var.upload_notification_days) == var.upload_notification_days
    error_message = "Whole days from 1 to 31."
  }
}

variable "kms_key" {
  description = "Key in the same region for buckets, topics, dataset, images and Spark's disks, as projects/P/locations/REGION/keyRings/R/cryptoKeys/K; Google's own where null."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "The key's full name: projects/P/locations/REGION/keyRings/R/cryptoKeys/K."
  }

  validation {
    condition     = var.kms_key == null ? true : split("/", var.kms_key)[3] == var.region
    error_message = "The key lies in the region of everything else."
  }
}

variable "binary_authorization" {
  description = "Whether Cloud Run refuses every image that does not come from this project's own repositories (docs/operations/security.md)."
  type        = bool
  default     = false
  nullable    = false
}

variable "access_policy" {
  description = "Number of the organisation's access policy, for a VPC Service Controls perimeter round the project; no perimeter where null (docs/operations/perimeter.md)."
  type        = string
  default     = null

  validation {
    condition     = var.access_policy == null || can(regex("^[0-9]+$", var.access_policy))
    error_message = "The number that `gcloud access-context-manager policies list` shows."
  }
}

variable "perimeter_members" {
  description = "Who may reach the perimeter's services from outside it: those who upload, deploy or research. IAM members such as user:... or serviceAccount:..."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.perimeter_members : can(regex("^(user|serviceAccount):\\S+$", member))])
    error_message = "VPC Service Controls takes user: and serviceAccount: members, no groups."
  }
}

variable "repository" {
  description = "GitHub repository whose pull requests are tested and whose main branch is deployed, once connected to Cloud Build, as environments/<environment>.tfvars says; none where null."
  type        = object({ owner = string, name = string, environment = optional(string, "prod") })
  default     = null

  validation {
    condition     = var.repository == null || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", "${var.repository.owner}/${var.repository.name}"))
    error_message = "Give owner and name as GitHub spells them, for example { owner = \"someone\", name = \"scanflow\" }."
  }
}

variable "burnt_in_text" {
  description = "What becomes of a scan with text burnt into it beside the head: off, flag, mask or quarantine."
  type        = string
  default     = "flag"

  validation {
    condition     = contains(["off", "flag", "mask", "quarantine"], var.burnt_in_text)
    error_message = "Either off, flag, mask or quarantine."
  }
}

variable "series_quiet_seconds" {
  description = "Seconds after which a series that nothing arrives for any more is summarised."
  type        = number
  default     = 30

  validation {
    condition     = var.series_quiet_seconds >= 1 && var.series_quiet_seconds <= 600
    error_message = "Give 1 to 600 seconds: after ten minutes a series is summarised in any case."
  }
}
