resource "google_service_account" "workflow" {
  project      = var.project
  account_id   = "${var.name}-workflow"
  display_name = "${var.name}: the workflow that wakes operations"
}

# Waits that are under way keep the revision with which they began; a new revision serves new waits.
resource "google_workflows_workflow" "this" {
  project             = var.project
  region              = var.region
  name                = var.workflow_name
  description         = "Wakes the suspended operations of ${var.name} (lro-aio)."
  service_account     = google_service_account.workflow.id
  source_contents     = coalesce(var.workflow_source, file("${path.module}/../../lro_aio/schedulers/workflow.yaml"))
  labels              = var.labels
  deletion_protection = var.deletion_protection

  # Never LOG_ALL_CALLS: calls carry resume tokens.
  call_log_level = "LOG_ERRORS_ONLY"

  depends_on = [google_project_service.used]
}

# All that the workflow may do: call this service, and write to the log. Errors cannot be logged without the second.
resource "google_cloud_run_v2_service_iam_member" "workflow" {
  project  = var.project
  location = google_cloud_run_v2_service.this.location
  name     = google_cloud_run_v2_service.this.name
  role     = "roles/run.invoker"
  member   = google_service_account.workflow.member
}

resource "google_project_iam_member" "workflow_logs" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.workflow.member
}

# The service creates, reads and cancels executions. Workflows has no policy on a single workflow, and no resource names
# in conditions: the project is the smallest place for this role.
resource "google_project_iam_member" "service_starts_executions" {
  project = var.project
  role    = "roles/workflows.invoker"
  member  = google_service_account.service.member
}
