//! SPIRE's Init service, which begins and ends the life of a plugin.

use tonic::{Request, Response, Status};

use crate::proto::init::{DeinitRequest, DeinitResponse, InitRequest, InitResponse, init_server};

pub(crate) struct Init {
    /// The full names of the services that are served in addition to those of go-plugin.
    pub(crate) services: Vec<String>,
}

#[tonic::async_trait]
impl init_server::Init for Init {
    /// Returns exactly the services that are served. The agent's own services are offered through the broker.
    async fn init(&self, _: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        Ok(Response::new(InitResponse { plugin_service_names: self.services.clone() }))
    }

    async fn deinit(&self, _: Request<DeinitRequest>) -> Result<Response<DeinitResponse>, Status> {
        Ok(Response::new(DeinitResponse {}))
    }
}
