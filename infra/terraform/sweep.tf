resource "google_service_account" "sweep" {
  count = var.sweep_schedule == null ? 0 : 1

  project      = var.project
  account_id   = "${var.name}-sweep"
  display_name = "${var.name}: the job that has lost wake-ups found"
}

resource "google_cloud_run_v2_service_iam_member" "sweep" {
  count = var.sweep_schedule == null ? 0 : 1

  project  = var.project
  location = google_cloud_run_v2_service.this.location
  name     = google_cloud_run_v2_service.this.name
  role     = "roles/run.invoker"
  member   = google_service_account.sweep[0].member
}

resource "google_cloud_scheduler_job" "sweep" {
  count = var.sweep_schedule == null ? 0 : 1

  project          = var.project
  region           = var.region
  name             = "${var.name}-sweep"
  description      = "Lets ${var.name} find operations whose wake-up was lost."
  schedule         = var.sweep_schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "300s"

  # The next round comes anyway.
  retry_config {
    retry_count = 1
  }

  http_target {
    http_method = "POST"
    uri         = "${local.url}/lro/sweep"
    body        = base64encode("{}")

    headers = {
      "Content-Type" = "application/json"
    }

    oidc_token {
      service_account_email = google_service_account.sweep[0].email
      audience              = local.url
    }
  }

  depends_on = [google_project_service.used]
}
