output "url" {
  description = "URL of the service: the resume_host of its scheduler, and the audience of every token."
  value       = local.url
}

output "spanner_url" {
  description = "Store of the service, and the argument of `lro spanner migrate`."
  value       = "spanner://${var.project}/${google_spanner_database.operations.instance}/${google_spanner_database.operations.name}"
}

output "workflow" {
  description = "Name of the workflow, for WorkflowsScheduler(workflow=...)."
  value       = google_workflows_workflow.this.name
}

output "callers" {
  description = "Accounts that wake operations, for OidcVerifier(service_accounts=...)."
  value       = local.callers
}

output "service_account" {
  description = "E-mail of the account that the service runs as, for rights on what else it uses."
  value       = google_service_account.service.email
}

output "tasks_queue" {
  description = "Name of the queue, for CloudTasksScheduler(queue=...); null if there is none."
  value       = one(google_cloud_tasks_queue.this[*].name)
}
