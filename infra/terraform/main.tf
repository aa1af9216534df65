# What a service with lro-aio needs on Google Cloud: a database, a service, and somebody who wakes it up.
#
#   service.tf   Cloud Run, and who may call it
#   spanner.tf   the database; its table is made by `lro spanner migrate`
#   workflow.tf  Cloud Workflows, for WorkflowsScheduler
#   sweep.tf     Cloud Scheduler, which has lost wake-ups found
#   tasks.tf     Cloud Tasks, for CloudTasksScheduler; only if asked for

data "google_project" "this" {
  project_id = var.project
}

locals {
  # Cloud Run gives every service this URL beside the one with a random part. It is known before the service is made, so
  # that the service can be told its own. It is also the audience of every token: workflow, job and service agree on it.
  url = "https://${var.name}-${data.google_project.this.number}.${var.region}.run.app"

  public = length(setintersection(var.invokers, ["allUsers", "allAuthenticatedUsers"])) > 0

  callers = concat(
    [google_service_account.workflow.email],
    google_service_account.sweep[*].email,
    google_service_account.tasks[*].email,
  )

  apis = concat(
    [
      "iam.googleapis.com",
      "run.googleapis.com",
      "spanner.googleapis.com",
      "workflowexecutions.googleapis.com",
      "workflows.googleapis.com",
    ],
    var.sweep_schedule == null ? [] : ["cloudscheduler.googleapis.com"],
    var.tasks_queue == null ? [] : ["cloudtasks.googleapis.com"],
  )
}

resource "google_project_service" "used" {
  for_each = toset(var.enable_apis ? local.apis : [])

  project            = var.project
  service            = each.value
  disable_on_destroy = false
}
