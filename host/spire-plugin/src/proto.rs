//! Generated code of SPIRE's services: traits to implement, servers of them, clients for tests, and messages.
//!
//! [`Config`] and [`WorkloadAttestor`] are the traits of a workload attestor, and [`ConfigServer`] and
//! [`WorkloadAttestorServer`] turn their implementations into services. A method that a plugin does not implement
//! returns Unimplemented. That suits [`WorkloadAttestor::attest_reference`], because the agent then calls
//! [`WorkloadAttestor::attest`] instead.
//!
//! For another of SPIRE's services, generate the code from its proto file and pass it to [`Services::with`](crate::Services::with).

pub use self::attestor::workload_attestor_client::WorkloadAttestorClient;
pub use self::attestor::workload_attestor_server::{WorkloadAttestor, WorkloadAttestorServer};
pub use self::attestor::*;
pub use self::config::config_client::ConfigClient;
pub use self::config::config_server::{Config, ConfigServer};
pub use self::config::*;
pub use self::reference::*;

#[expect(
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod attestor {
    tonic::include_proto!("spire.plugin.agent.workloadattestor.v1");
}

#[expect(
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
mod config {
    tonic::include_proto!("spire.service.common.config.v1");
}

mod reference {
    tonic::include_proto!("spiffe.broker");
}

/// The services that hashicorp/go-plugin requires of every plugin.
#[expect(
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub(crate) mod goplugin {
    tonic::include_proto!("plugin");
}

/// The service of gRPC's health checking.
#[expect(
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub(crate) mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// The service that SPIRE requires of every plugin.
#[expect(
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub(crate) mod init {
    tonic::include_proto!("spire.service.private.init.v1");
}

/// The agent's metrics service.
#[expect(unreachable_pub, unused_qualifications, clippy::allow_attributes_without_reason, reason = "generated code")]
pub(crate) mod host {
    tonic::include_proto!("spire.hostservice.common.metrics.v1");
}

impl WorkloadPidReference {
    /// The type's name in the `type_url` of a reference.
    pub const TYPE_URL: &'static str = "type.googleapis.com/spiffe.broker.WorkloadPIDReference";
}
