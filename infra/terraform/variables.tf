variable "project" {
  description = "Id of the Google Cloud project."
  type        = string
}

variable "region" {
  description = "Region of the service, the workflow, the queue and the sweep job. Spanner's is that of spanner_config."
  type        = string
}

variable "name" {
  description = "Name of the Cloud Run service, and the beginning of the names of its accounts."
  type        = string

  validation {
    # A service account's id has 30 characters at most, and "-workflow" is added.
    condition     = can(regex("^[a-z]([a-z0-9-]{0,19}[a-z0-9])?$", var.name))
    error_message = "The name has 1 to 21 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "image" {
  description = "Container image of the service, best by digest: REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME@sha256:..."
  type        = string
}

variable "labels" {
  description = "Labels of everything that takes labels."
  type        = map(string)
  default     = {}
}

variable "enable_apis" {
  description = "Enable the APIs that are used. They stay enabled when the module is destroyed."
  type        = bool
  default     = true
}

variable "deletion_protection" {
  description = "Refuse to destroy the database, the service and the workflow. Executions of a workflow that is gone never call back; the sweep finds their operations."
  type        = bool
  default     = true
}

# The service

variable "min_instances" {
  description = <<-EOT
    Instances that are always there. 0 is enough with cpu_always_allocated = false: a first run and every wake-up are
    requests, and a request starts an instance. 1 or more saves the time of that start.
  EOT
  type        = number
  default     = 0
}

variable "max_instances" {
  description = "Most instances."
  type        = number
  default     = 20
}

variable "cpu_always_allocated" {
  description = <<-EOT
    false (request-based billing): CPU while a request is open, and none in between. This fits a client with
    WorkflowsScheduler or CloudTasksScheduler, whose handlers run inside resume requests and are awaited there.
    true (instance-based billing): CPU as long as the instance lives. A client with LocalScheduler, or with
    dispatch="local", needs it, and min_instances of 1 or more: its handlers run between requests.
  EOT
  type        = bool
  default     = false
}

variable "cpu" {
  description = "CPUs of an instance. Below 1, Cloud Run allows one request at a time only."
  type        = string
  default     = "1"
}

variable "memory" {
  description = "Memory of an instance."
  type        = string
  default     = "512Mi"
}

variable "concurrency" {
  description = "Requests that one instance answers at a time: resumes, each with a handler at work, among them."
  type        = number
  default     = 80
}

variable "request_timeout" {
  description = <<-EOT
    Seconds that a request may take. One segment of a handler, from one suspend to the next, runs inside a request and
    must end in time. Neither Workflows nor Cloud Tasks waits for more than 1,800 s.
  EOT
  type        = number
  default     = 1800

  validation {
    condition     = var.request_timeout >= 1 && var.request_timeout <= 3600
    error_message = "Cloud Run takes 1 to 3,600 seconds."
  }
}

variable "ingress" {
  description = <<-EOT
    Who reaches the service at all, whatever IAM says next: INGRESS_TRAFFIC_ALL, INGRESS_TRAFFIC_INTERNAL_ONLY or
    INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER. Workflows, Cloud Tasks and Cloud Scheduler of the same project are internal.
  EOT
  type        = string
  default     = "INGRESS_TRAFFIC_ALL"
}

variable "invokers" {
  description = <<-EOT
    IAM members, beside the accounts that wake operations, that may call the service, such as group:staff@example.com.
    allUsers makes it public. Say so here and nowhere else: the service must know, to check tokens itself.
  EOT
  type        = set(string)
  default     = []
}

variable "env" {
  description = "More environment variables of the service. Secrets do not belong here: Terraform's state holds them in clear text."
  type        = map(string)
  default     = {}
}

# Spanner

variable "spanner_instance" {
  description = "Id of the Spanner instance, 6 to 30 characters."
  type        = string
  default     = "lro-aio"
}

variable "create_spanner_instance" {
  description = "Make the instance. false: it is there already, in this project."
  type        = bool
  default     = true
}

variable "spanner_config" {
  description = "Where the instance is. Default: regional-REGION."
  type        = string
  default     = null
}

variable "spanner_edition" {
  description = "STANDARD, ENTERPRISE or ENTERPRISE_PLUS. Nothing here needs more than STANDARD."
  type        = string
  default     = "STANDARD"
}

variable "spanner_processing_units" {
  description = "Size of the instance: 100 to 900 in hundreds, or whole thousands."
  type        = number
  default     = 100
}

variable "spanner_database" {
  description = "Name of the database. Its table is made by `lro spanner migrate`."
  type        = string
  default     = "operations"
}

variable "spanner_role" {
  description = "Role of the service on the database. roles/spanner.databaseUser may also change the schema; a custom role need not."
  type        = string
  default     = "roles/spanner.databaseUser"
}

variable "spanner_kms_key" {
  description = "Cloud KMS key of the database: projects/P/locations/L/keyRings/R/cryptoKeys/K. Default: a key of Google's."
  type        = string
  default     = null
}

# Waking up

variable "workflow_name" {
  description = "Name of the workflow. A second service in the same project and region needs another one."
  type        = string
  default     = "lro-aio"

  validation {
    # go.alis.build/lro has deployed a workflow of this name, with another contract; it may be at work.
    condition     = var.workflow_name != "alis-managed-operations"
    error_message = "alis-managed-operations belongs to the Go package and must not be overwritten."
  }
}

variable "workflow_source" {
  description = "YAML of the workflow, as `lro workflow` prints it. Default: the file in the package beside this module."
  type        = string
  default     = null
}

variable "sweep_schedule" {
  description = <<-EOT
    When Cloud Scheduler calls the sweep endpoint (cron, UTC): how late an operation may be found whose wake-up was
    lost. null: never, for a service with instances that are always there and have CPU, which sweep by themselves.
  EOT
  type        = string
  default     = "*/5 * * * *"
}

variable "tasks_queue" {
  description = "Name of a Cloud Tasks queue to make, for CloudTasksScheduler. null: none. A name cannot be used again for 7 days after its queue is deleted."
  type        = string
  default     = null
}
