//! The verdict on the image of a recorded machine, so that policies that ask `sigstore.verify` can be tested without a registry.

use std::sync::Arc;

use image_signatures::{Signature, Verified};
use sandbox::{Fault, FaultKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::workload::decision::Decision;

/// What a policy is told when it asks for the verdict on the image.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum RecordedVerdict {
    /// `skipped_images` lists the image.
    Skipped,
    /// The image did not verify, and `on_failure` is "omit".
    Omitted,
    /// The image verified.
    Verified {
        /// Whether an attestation verified too.
        #[serde(default)]
        attestations: bool,
        /// The good signatures, at least one.
        signatures: Vec<RecordedSignature>,
    },
    /// No signature verifies: the reason.
    Unverified(String),
    /// The registry or the log is unreachable: the reason.
    Unavailable(String),
}

/// A good signature, with the facts that its evidence proves.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordedSignature {
    /// The certificate's subject. Absent for a public key's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The OIDC issuer. Absent for a public key's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The signature in base64.
    pub value: String,
    /// The log's id, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_id: Option<String>,
    /// The log entry's global index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_index: Option<u64>,
    /// When the log integrated the entry, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrated_time: Option<u64>,
    /// The signed entry timestamp in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_entry_timestamp: Option<String>,
}

impl RecordedVerdict {
    /// Records the answer that a policy was given.
    pub fn of(answer: Result<&Decision, &Fault>) -> RecordedVerdict {
        match answer {
            Ok(Decision::Skipped) => RecordedVerdict::Skipped,
            Ok(Decision::Omitted) => RecordedVerdict::Omitted,
            Ok(Decision::Verified(verified)) => RecordedVerdict::Verified {
                attestations: verified.attestations(),
                signatures: verified.signatures().iter().cloned().map(RecordedSignature::from).collect(),
            },
            Err(fault) if fault.kind == FaultKind::Unavailable => RecordedVerdict::Unavailable(fault.text.clone()),
            Err(fault) => RecordedVerdict::Unverified(fault.text.clone()),
        }
    }

    /// The answer that a policy is given.
    pub fn answer(&self) -> Result<Decision, Fault> {
        match self {
            RecordedVerdict::Skipped => Ok(Decision::Skipped),
            RecordedVerdict::Omitted => Ok(Decision::Omitted),
            RecordedVerdict::Verified { attestations, signatures } => {
                let signatures = signatures.iter().cloned().map(Signature::from).collect();
                match Verified::recorded(signatures, *attestations) {
                    Some(verified) => Ok(Decision::Verified(Arc::new(verified))),
                    None => {
                        Err(Fault::new(FaultKind::Malformed, "the scenario's verdict is verified without a signature"))
                    }
                }
            }
            RecordedVerdict::Unverified(text) => Err(Fault::new(FaultKind::Unverified, text.clone())),
            RecordedVerdict::Unavailable(text) => Err(Fault::new(FaultKind::Unavailable, text.clone())),
        }
    }
}

impl From<RecordedSignature> for Signature {
    fn from(recorded: RecordedSignature) -> Signature {
        let RecordedSignature { subject, issuer, value, log_id, log_index, integrated_time, signed_entry_timestamp } =
            recorded;
        Signature { subject, issuer, value, log_id, log_index, integrated_time, signed_entry_timestamp }
    }
}

impl From<Signature> for RecordedSignature {
    fn from(signature: Signature) -> RecordedSignature {
        let Signature { subject, issuer, value, log_id, log_index, integrated_time, signed_entry_timestamp } =
            signature;
        RecordedSignature { subject, issuer, value, log_id, log_index, integrated_time, signed_entry_timestamp }
    }
}
