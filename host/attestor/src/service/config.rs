//! The calls Configure and Validate.

use std::sync::Arc;

use spire_plugin::contained;
use spire_plugin::proto::{
    self, ConfigureRequest, ConfigureResponse, CoreConfiguration, ValidateRequest, ValidateResponse,
};
use tonic::{Request, Response, Status};

use crate::attestor::Attestor;
use crate::config;
use crate::limits;
use crate::service::process::give_back_program;
use crate::telemetry::metrics::Metrics;

pub(super) struct Config {
    attestor: Arc<Attestor>,
    metrics: Metrics,
}

impl Config {
    pub(super) fn new(attestor: Arc<Attestor>, metrics: Metrics) -> Config {
        Config { attestor, metrics }
    }
}

#[tonic::async_trait]
impl proto::Config for Config {
    async fn configure(&self, request: Request<ConfigureRequest>) -> Result<Response<ConfigureResponse>, Status> {
        let request = request.into_inner();
        contained(async {
            // A configuration takes a while to read. The connection's task answers other calls meanwhile.
            tokio::task::yield_now().await;
            let loaded = config::load(trust_domain(&request.core_configuration), &request.hcl_configuration);
            let configured = match loaded {
                Ok(configuration) => self.attestor.configure(configuration).await,
                Err(invalid) => {
                    let error = invalid.into();
                    self.attestor.refused(&error);
                    Err(error)
                }
            };
            self.metrics.configuration(configured.is_ok());
            match configured {
                Ok(()) => {
                    tokio::spawn(async {
                        // The background work of the configuration has run by then.
                        tokio::time::sleep(limits::START).await;
                        give_back_program();
                    });
                    Ok(Response::new(ConfigureResponse {}))
                }
                Err(error) => Err(Status::new(error.code(), error.to_string())),
            }
        })
        .await
    }

    async fn validate(&self, request: Request<ValidateRequest>) -> Result<Response<ValidateResponse>, Status> {
        let request = request.into_inner();
        contained(async {
            tokio::task::yield_now().await;
            let (valid, notes) =
                match config::load(trust_domain(&request.core_configuration), &request.hcl_configuration) {
                    Err(invalid) => (false, invalid.lines()),
                    Ok(configuration) => match self.attestor.validate(configuration).await {
                        Ok(notes) => (true, notes),
                        Err(error) => (false, vec![error.to_string()]),
                    },
                };
            Ok(Response::new(ValidateResponse { valid, notes }))
        })
        .await
    }
}

fn trust_domain(core: &Option<CoreConfiguration>) -> Option<&str> {
    core.as_ref().map(|core| core.trust_domain.as_str())
}
