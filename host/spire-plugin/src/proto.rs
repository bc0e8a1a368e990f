//! The generated services of `proto`, and their names.

#![expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

mod goplugin {
    tonic::include_proto!("plugin");
}
mod health {
    tonic::include_proto!("grpc.health.v1");
}
mod init {
    tonic::include_proto!("spire.service.private.init.v1");
}
mod config {
    tonic::include_proto!("spire.service.common.config.v1");
}
mod attestor {
    tonic::include_proto!("spire.plugin.agent.workloadattestor.v1");
}
mod reference {
    tonic::include_proto!("spiffe.broker");
}

pub use attestor::workload_attestor_server::{self as attestor_server, WorkloadAttestorServer};
pub use attestor::*;
pub use config::config_server::{self, ConfigServer};
pub use config::*;
pub use goplugin::grpc_broker_server as broker_server;
pub use goplugin::grpc_controller_server as controller_server;
pub use goplugin::grpc_stdio_server as stdio_server;
pub use goplugin::*;
pub use health::health_check_response::ServingStatus;
pub use health::health_server::{self, HealthServer};
pub use health::*;
pub use init::init_server::{self, InitServer};
pub use init::*;
pub use reference::*;
