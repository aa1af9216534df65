resource "google_service_account" "service" {
  project      = var.project
  account_id   = "${var.name}-service"
  display_name = "${var.name}: the service"
}

resource "google_cloud_run_v2_service" "this" {
  project             = var.project
  location            = var.region
  name                = var.name
  ingress             = var.ingress
  labels              = var.labels
  deletion_protection = var.deletion_protection

  # Cloud Run checks every caller against the grants. The verifier in the service relies on that: LRO_CLOUD_RUN_IAM.
  invoker_iam_disabled = false

  template {
    service_account                  = google_service_account.service.email
    timeout                          = "${var.request_timeout}s"
    max_instance_request_concurrency = var.concurrency
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    labels                           = var.labels

    scaling {
      min_instance_count = var.min_instances
      max_instance_count = var.max_instances
    }

    containers {
      image = var.image

      resources {
        cpu_idle          = !var.cpu_always_allocated
        startup_cpu_boost = true

        limits = {
          cpu    = var.cpu
          memory = var.memory
        }
      }

      dynamic "env" {
        for_each = merge(
          {
            # What Client.from_env reads
            ALIS_OS_PROJECT               = var.project
            ALIS_REGION                   = var.region
            ALIS_MANAGED_SPANNER_PROJECT  = var.project
            ALIS_MANAGED_SPANNER_INSTANCE = google_spanner_database.operations.instance
            ALIS_MANAGED_SPANNER_DB       = google_spanner_database.operations.name
            # What the service itself passes on: to Client.from_env and WorkflowsScheduler, and to OidcVerifier
            LRO_RESUME_HOST = local.url
            LRO_WORKFLOW    = google_workflows_workflow.this.name
            # Cloud Run takes the signature out of a token that it has checked. A service that anybody may call checks
            # signatures itself, and must not believe a token without one.
            LRO_CLOUD_RUN_IAM = tostring(!local.public)
            LRO_CALLERS       = join(",", local.callers)
          },
          var.tasks_queue == null ? {} : {
            LRO_TASKS_QUEUE           = google_cloud_tasks_queue.this[0].name
            LRO_TASKS_SERVICE_ACCOUNT = google_service_account.tasks[0].email
          },
          var.env,
        )

        content {
          name  = env.key
          value = env.value
        }
      }
    }
  }

  # An instance opens the database when it starts, and fails without this.
  depends_on = [
    google_project_service.used,
    google_spanner_database_iam_member.service,
  ]
}

resource "google_cloud_run_v2_service_iam_member" "invokers" {
  for_each = var.invokers

  project  = var.project
  location = google_cloud_run_v2_service.this.location
  name     = google_cloud_run_v2_service.this.name
  role     = "roles/run.invoker"
  member   = each.value
}
