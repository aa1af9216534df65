# For CloudTasksScheduler. Without var.tasks_queue there is nothing of this.

resource "google_service_account" "tasks" {
  count = var.tasks_queue == null ? 0 : 1

  project      = var.project
  account_id   = "${var.name}-tasks"
  display_name = "${var.name}: the tasks that wake operations"
}

resource "google_cloud_tasks_queue" "this" {
  count = var.tasks_queue == null ? 0 : 1

  project  = var.project
  location = var.region
  name     = var.tasks_queue

  # 425 and 503 mean "come again". What is given up after half a day is found by the sweep.
  retry_config {
    max_attempts  = 100
    min_backoff   = "1s"
    max_backoff   = "600s"
    max_doublings = 10
  }

  depends_on = [google_project_service.used]
}

resource "google_cloud_run_v2_service_iam_member" "tasks" {
  count = var.tasks_queue == null ? 0 : 1

  project  = var.project
  location = google_cloud_run_v2_service.this.location
  name     = google_cloud_run_v2_service.this.name
  role     = "roles/run.invoker"
  member   = google_service_account.tasks[0].member
}

locals {
  # The service creates tasks, looks whether one is still there, and deletes it when its operation is cancelled.
  tasks_roles = ["roles/cloudtasks.enqueuer", "roles/cloudtasks.viewer", "roles/cloudtasks.taskDeleter"]
}

resource "google_cloud_tasks_queue_iam_member" "service" {
  for_each = toset(var.tasks_queue == null ? [] : local.tasks_roles)

  project  = var.project
  location = google_cloud_tasks_queue.this[0].location
  name     = google_cloud_tasks_queue.this[0].name
  role     = each.value
  member   = google_service_account.service.member
}

# Whoever creates a task in the name of an account must be allowed to act as that account.
resource "google_service_account_iam_member" "service_acts_as_tasks" {
  count = var.tasks_queue == null ? 0 : 1

  service_account_id = google_service_account.tasks[0].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.service.member
}
