variable "name" {
  description = "Name of the step: its folder under functions/ and its entry point, as in validate_scan."
  type        = string
}

variable "prefix" {
  description = "What the names begin with, as in dev-; nothing where one environment has the project."
  type        = string
  default     = ""
  nullable    = false
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
}

variable "project" {
  description = "Id of the project."
  type        = string
}

variable "pubsub_agent" {
  description = "Pub/Sub's service agent, which signs pushes and moves dead-letter messages, as an IAM member."
  type        = string
}

variable "region" {
  description = "Region of the function."
  type        = string
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
}

variable "delivery" {
  description = "Retry and dead-letter policy of the push subscriptions."
  type = object({
    ack_deadline_seconds  = number
    minimum_backoff       = string
    maximum_backoff       = string
    max_delivery_attempts = number
  })
}

variable "dead_letter_topic" {
  description = "Id of the topic <step>-dead-letter; null for a step that Cloud Scheduler calls."
  type        = string
}

variable "notification_channels" {
  description = "Whom the alerts tell."
  type        = list(string)
}
