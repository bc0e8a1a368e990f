//! The beginning and the end of the plugin's life, as SPIRE has it.

use tonic::{Request, Response, Status};

use super::services::{DeinitRequest, DeinitResponse, InitRequest, InitResponse, init_server};

pub(super) struct Init;

#[tonic::async_trait]
impl init_server::Init for Init {
    /// Exactly the two services that the agent binds; what it offers comes through the broker.
    async fn init(&self, _: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        Ok(Response::new(InitResponse {
            plugin_service_names: vec![
                "spire.plugin.agent.workloadattestor.v1.WorkloadAttestor".to_owned(),
                "spire.service.common.config.v1.Config".to_owned(),
            ],
        }))
    }

    async fn deinit(&self, _: Request<DeinitRequest>) -> Result<Response<DeinitResponse>, Status> {
        Ok(Response::new(DeinitResponse {}))
    }
}
