//! The generated services of `host/proto`, and their names.

#![expect(
    unreachable_pub,
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

pub(super) use attestor::workload_attestor_server::{self as attestor_server, WorkloadAttestorServer};
pub(super) use attestor::*;
pub(super) use config::config_server::{self, ConfigServer};
pub(super) use config::*;
pub(super) use goplugin::grpc_broker_server as broker_server;
pub(super) use goplugin::grpc_controller_server as controller_server;
pub(super) use goplugin::grpc_stdio_server as stdio_server;
pub(super) use goplugin::*;
pub(super) use health::health_check_response::ServingStatus;
pub(super) use health::health_server::{self, HealthServer};
pub(super) use health::*;
pub(super) use init::init_server::{self, InitServer};
pub(super) use init::*;
pub(super) use reference::*;
