//! The command `docker-attestor attest`.

use std::io::Write;
use std::process::ExitCode;

use bounded::text::printable;
use serde_json::json;

use super::style::Style;
use super::suggestion::entry;
use super::{Attested, Failure, Output, PLACEHOLDER};

pub(super) fn run(attested: Attested, output: Output, out: &mut impl Write, style: Style) -> Result<ExitCode, Failure> {
    let unreachable = attested.explanation.is_engine_unreachable();
    let selectors = attested.explanation.outcome.map_err(|error| match unreachable {
        true => Failure::Unreachable(error),
        false => Failure::Attestation(error),
    })?;
    if output == Output::Json {
        let mut answer =
            json!({"pid": attested.pid, "selectors": selectors, "policy": attested.explanation.policy.digest});
        if let (Some(path), Some(answer)) = (attested.recorded, answer.as_object_mut()) {
            answer.insert("recorded".to_owned(), json!(path.to_string_lossy()));
        }
        writeln!(out, "{answer}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}", style.dim(&printable(&attested.subject)))?;
    if selectors.is_empty() {
        writeln!(
            out,
            "no selectors: in no container that the engine knows and that is proven; `docker-attestor explain` tells why"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    for selector in &selectors {
        writeln!(out, "{}", style.good(&printable(&format!("docker:{selector}"))))?;
    }
    let (trust_domain, placeholders) = match attested.trust_domain.as_deref() {
        Some(trust_domain) => (trust_domain, "PARENT and WORKLOAD are placeholders"),
        None => (PLACEHOLDER, "example.org, PARENT and WORKLOAD are placeholders"),
    };
    let suggestion = match entry(trust_domain, &selectors) {
        Some(entry) => {
            let caption =
                format!("an entry that matches it (choose the selectors that say what you mean; {placeholders}):");
            format!("{}\n{}", style.dim(&caption), style.bold(&entry))
        }
        None => style.dim("no entry is suggested: it has no label and no image, and env values may be secrets"),
    };
    writeln!(out, "\n{suggestion}")?;
    Ok(ExitCode::SUCCESS)
}
