variable "name" {
  description = "Name of the step: its folder under functions/ and its entry point, as in validate_scan."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9_]*[a-z0-9]$", var.name))
    error_message = "A verb and a noun with an underscore between, as in validate_scan."
  }

  validation {
    condition     = length("${var.prefix}${var.name}") >= 6 && length("${var.prefix}${var.name}") <= 30
    error_message = "Prefix and name have 6 to 30 characters together: so much an account's name takes."
  }
}

variable "prefix" {
  description = "What the names begin with, as in dev-; nothing where one environment has the project."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^([a-z][a-z0-9]*-)?$", var.prefix))
    error_message = "Lower-case letters and digits that begin with a letter and end with a dash, as in dev-; or nothing."
  }
}

variable "step" {
  description = "The step's entry in the map of steps: its environment, and its size where the default does not fit."
  type = object({
    environment   = map(string)
    secrets       = optional(map(string), {}) # variable = name of the secret in Secret Manager
    memory        = optional(string, "512Mi")
    cpu           = optional(string, "1")
    concurrency   = optional(number, 64)
    max_instances = optional(number, 20)
    timeout       = optional(number) # seconds; the delivery's acknowledgement deadline where not given
  })
  nullable = false

  validation {
    condition     = alltrue([for name in concat(keys(var.step.environment), keys(var.step.secrets)) : can(regex("^[A-Z][A-Z0-9_]*$", name))])
    error_message = "Settings are named in capitals, as in SCANS_BUCKET."
  }

  validation {
    condition     = can(regex("^[0-9]+(Mi|Gi)$", var.step.memory)) && can(regex("^([0-9]+|0[.][0-9]+)$", var.step.cpu))
    error_message = "Memory as in 512Mi or 4Gi, CPUs as in 1 or 0.5."
  }

  validation {
    condition     = var.step.concurrency >= 1 && var.step.concurrency <= 1000 && floor(var.step.concurrency) == var.step.concurrency && (var.step.concurrency == 1 || try(tonumber(var.step.cpu) >= 1, true))
    error_message = "Requests at a time: a whole number from 1 to 1000, and 1 with less than a CPU."
  }

  validation {
    condition     = var.step.max_instances >= 1 && floor(var.step.max_instances) == var.step.max_instances
    error_message = "At most so many instances: a whole number from 1."
  }

  validation {
    condition     = coalesce(var.step.timeout, 60) >= 1 && coalesce(var.step.timeout, 60) <= (length(var.topics) > 0 ? 540 : 3600)
    error_message = "Seconds from 1 to 3600; to 540 where a topic drives the function."
  }
}

variable "project" {
  description = "Id of the project."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id has 6 to 30 lower-case letters, digits and dashes, and begins with a letter."
  }
}

variable "pubsub_agent" {
  description = "Pub/Sub's service agent, which signs pushes and moves dead-letter messages, as an IAM member."
  type        = string
  nullable    = false
}

variable "region" {
  description = "Region of the function."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region, as in europe-west4; neither a zone (europe-west4-a) nor a multi-region (eu)."
  }
}

variable "source_code" {
  description = "Object that holds the function's zip."
  type        = object({ bucket = string, name = string })
}

variable "builder" {
  description = "Service account that builds the function, and the repository that its image goes to, by their full names."
  type        = object({ account = string, repository = string })
}

variable "topics" {
  description = "Ids of the topics that drive the step, by name; none for a step that Cloud Scheduler calls."
  type        = map(string)
  nullable    = false
}

variable "delivery" {
  description = "Retry and dead-letter policy of the push subscriptions."
  type = object({
    ack_deadline_seconds  = number
    minimum_backoff       = string
    maximum_backoff       = string
    max_delivery_attempts = number
  })
  nullable = false

  validation {
    condition     = var.delivery.ack_deadline_seconds >= 10 && var.delivery.ack_deadline_seconds <= 600
    error_message = "Pub/Sub waits 10 to 600 seconds for an acknowledgement."
  }

  validation {
    condition     = alltrue([for backoff in [var.delivery.minimum_backoff, var.delivery.maximum_backoff] : can(regex("^[0-9]+s$", backoff)) && try(tonumber(trimsuffix(backoff, "s")) <= 600, false)])
    error_message = "Back-off in seconds, as in 10s, and 600s at most."
  }

  validation {
    condition     = var.delivery.max_delivery_attempts >= 5 && var.delivery.max_delivery_attempts <= 100
    error_message = "Pub/Sub takes 5 to 100 delivery attempts."
  }
}

variable "dead_letter_topic" {
  description = "Id of the topic <step>-dead-letter; null for a step that Cloud Scheduler calls."
  type        = string

  validation {
    condition     = length(var.topics) == 0 || var.dead_letter_topic != null
    error_message = "A step that topics drive needs a topic for its dead-letter messages: without one they would be lost."
  }
}

variable "notification_channels" {
  description = "Whom the alerts tell."
  type        = list(string)
}
