//! A workload attestor for SPIRE that says what a process is called: the selector `name:NAME`.

use std::process::ExitCode;

use spire_plugin::metrics::HostMetrics;
use spire_plugin::proto::{AttestRequest, AttestResponse, Config, ConfigServer, ConfigureRequest, ConfigureResponse};
use spire_plugin::proto::{WorkloadAttestor, WorkloadAttestorServer};
use spire_plugin::tonic::{Request, Response, Status, async_trait};
use spire_plugin::{Plugin, Services, tracing};

#[derive(Clone)]
struct ProcessName {
    metrics: HostMetrics,
}

#[async_trait]
impl WorkloadAttestor for ProcessName {
    async fn attest(&self, request: Request<AttestRequest>) -> Result<Response<AttestResponse>, Status> {
        let pid = request.get_ref().pid;
        self.metrics.count("attestations", Vec::new());
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .map_err(|error| Status::unavailable(format!("process {pid}: {error}")))?;
        Ok(Response::new(AttestResponse { selector_values: vec![format!("name:{}", name.trim_end())] }))
    }
}

#[async_trait]
impl Config for ProcessName {
    async fn configure(&self, request: Request<ConfigureRequest>) -> Result<Response<ConfigureResponse>, Status> {
        if !request.get_ref().hcl_configuration.trim().is_empty() {
            return Err(Status::invalid_argument("process-name has no settings: plugin_data must be empty"));
        }
        tracing::info!("configured");
        Ok(Response::new(ConfigureResponse {}))
    }
}

fn main() -> ExitCode {
    let attestor = ProcessName { metrics: HostMetrics::new("process_name") };
    let services = Services::new()
        .with_metrics(attestor.metrics.clone())
        .with(WorkloadAttestorServer::new(attestor.clone()))
        .with(ConfigServer::new(attestor));
    Plugin::workload_attestor("process-name").run(&["process_name"], services)
}
