//! The calls Attest and AttestReference.

use std::sync::Arc;
use std::time::Instant;

use bounded::text::printable;
use spire_plugin::contained;
use spire_plugin::prost::Message as _;
use spire_plugin::proto::{
    self, AttestReferenceRequest, AttestReferenceResponse, AttestRequest, AttestResponse, WorkloadPidReference,
};
use tonic::{Code, Request, Response, Status};

use crate::attestor::Attestor;
use crate::telemetry::metrics::Metrics;

pub(super) struct WorkloadAttestor {
    attestor: Arc<Attestor>,
    metrics: Metrics,
}

impl WorkloadAttestor {
    pub(super) fn new(attestor: Arc<Attestor>, metrics: Metrics) -> WorkloadAttestor {
        WorkloadAttestor { attestor, metrics }
    }

    async fn selectors(&self, pid: i32) -> Result<Vec<String>, Status> {
        // A caller that gives up drops this future midway, and the code stays `Cancelled`.
        let mut record = RecordOnDrop { metrics: &self.metrics, code: Code::Cancelled, started: Instant::now() };
        let attest =
            async { self.attestor.attest(pid).await.map_err(|error| Status::new(error.code(), error.to_string())) };
        let answer = contained(attest).await;
        record.code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
        answer
    }
}

/// Records the metrics of an attestation when it is dropped, however the attestation ends.
struct RecordOnDrop<'a> {
    metrics: &'a Metrics,
    code: Code,
    started: Instant,
}

impl Drop for RecordOnDrop<'_> {
    fn drop(&mut self) {
        self.metrics.attestation(self.code, self.started);
    }
}

#[tonic::async_trait]
impl proto::WorkloadAttestor for WorkloadAttestor {
    async fn attest(&self, request: Request<AttestRequest>) -> Result<Response<AttestResponse>, Status> {
        let selector_values = self.selectors(request.get_ref().pid).await?;
        Ok(Response::new(AttestResponse { selector_values }))
    }

    /// Returns Unimplemented, not InvalidArgument, for other types of references, because the agent then skips this
    /// plugin quietly.
    async fn attest_reference(
        &self,
        request: Request<AttestReferenceRequest>,
    ) -> Result<Response<AttestReferenceResponse>, Status> {
        let Some(reference) = request.into_inner().reference else {
            return Err(Status::invalid_argument("the request has no reference"));
        };
        if reference.type_url != WorkloadPidReference::TYPE_URL {
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
