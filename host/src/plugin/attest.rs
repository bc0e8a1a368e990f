//! Attest and AttestReference.

use std::sync::Arc;
use std::time::Instant;

use prost::Message as _;
use tonic::{Code, Request, Response, Status};

use super::services::{
    AttestReferenceRequest, AttestReferenceResponse, AttestRequest, AttestResponse, WorkloadPidReference,
    attestor_server,
};
use crate::attestor::Attestor;
use crate::error::printable;
use crate::telemetry::metrics::Metrics;

/// The reference that names a process by its pid.
const PID_REFERENCE: &str = "type.googleapis.com/spiffe.broker.WorkloadPIDReference";

pub(super) struct WorkloadAttestor {
    attestor: Arc<Attestor>,
    metrics: Metrics,
}

impl WorkloadAttestor {
    pub(super) fn new(attestor: Arc<Attestor>, metrics: Metrics) -> WorkloadAttestor {
        WorkloadAttestor { attestor, metrics }
    }

    async fn selectors(&self, pid: i32) -> Result<Vec<String>, Status> {
        let started = Instant::now();
        let outcome = self.attestor.attest(pid).await;
        let code = outcome.as_ref().map_or_else(crate::error::Error::code, |_| Code::Ok);
        self.metrics.attestation(code, started);
        outcome.map_err(|error| Status::new(code, error.to_string()))
    }
}

#[tonic::async_trait]
impl attestor_server::WorkloadAttestor for WorkloadAttestor {
    async fn attest(&self, request: Request<AttestRequest>) -> Result<Response<AttestResponse>, Status> {
        let selector_values = self.selectors(request.get_ref().pid).await?;
        Ok(Response::new(AttestResponse { selector_values }))
    }

    /// Other references are answered Unimplemented, not InvalidArgument: the agent then passes us over quietly.
    async fn attest_reference(
        &self,
        request: Request<AttestReferenceRequest>,
    ) -> Result<Response<AttestReferenceResponse>, Status> {
        let Some(reference) = request.into_inner().reference else {
            return Err(Status::invalid_argument("the request has no reference"));
        };
        if reference.type_url != PID_REFERENCE {
            let start: String = reference.type_url.chars().take(200).collect();
            return Err(Status::unimplemented(format!(
                "references of type \"{}\" are not supported",
                printable(&start)
            )));
        }
        let reference = WorkloadPidReference::decode(reference.value.as_slice())
            .map_err(|_| Status::invalid_argument("the WorkloadPIDReference cannot be decoded"))?;
        let selector_values = self.selectors(reference.pid).await?;
        Ok(Response::new(AttestReferenceResponse { selector_values }))
    }
}
