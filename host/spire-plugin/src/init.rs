//! The beginning and the end of the plugin's life, as SPIRE has it.

use tonic::{Request, Response, Status};

use crate::proto::init::{DeinitRequest, DeinitResponse, InitRequest, InitResponse, init_server};

pub(crate) struct Init {
    /// The full names of the services that are served beside those of go-plugin.
    pub(crate) services: Vec<String>,
}

#[tonic::async_trait]
impl init_server::Init for Init {
    /// Exactly the services that are served. What the agent offers comes through the broker.
    async fn init(&self, _: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        Ok(Response::new(InitResponse { plugin_service_names: self.services.clone() }))
    }

    async fn deinit(&self, _: Request<DeinitRequest>) -> Result<Response<DeinitResponse>, Status> {
        Ok(Response::new(DeinitResponse {}))
    }
}
