//! The gRPC health service. The agent never calls it, but test clients do.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse, health_server};

/// The names that a client may ask about: the service of go-plugin, and the server as a whole.
const SERVICES: [&str; 2] = ["plugin", ""];

pub(crate) struct Health;

fn status(service: &str) -> Option<HealthCheckResponse> {
    SERVICES.contains(&service).then(|| HealthCheckResponse { status: ServingStatus::Serving.into() })
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        status(service).map(Response::new).ok_or_else(|| Status::not_found("unknown service"))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
        let response = status(&request.get_ref().service).unwrap_or(unknown);
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(response)).chain(tokio_stream::pending()))))
    }
}
