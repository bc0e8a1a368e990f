//! The command `docker-attestor verify`.

use std::io::Write;
use std::process::ExitCode;

use bounded::text::printable;
use image_signatures::{Examination, Purpose, RuleFinding, SignatureReport, Verifier};

use serde_json::json;

use super::config::ConfigFile;
use super::style::Style;
use super::{Failure, Output, PLACEHOLDER, waiting};
use crate::config::{self, Section};
use crate::error::Error;

pub(super) async fn run(
    image: &str,
    mut config: Option<ConfigFile>,
    output: Output,
    out: &mut impl Write,
    style: Style,
) -> Result<ExitCode, Failure> {
    let configuration = match &mut config {
        Some(config) => config.accept()?,
        None => config::load(Some(PLACEHOLDER), "sigstore {}").map_err(Error::from)?,
    };
    let sigstore = configuration.sigstore.ok_or_else(|| {
        Failure::Usage("the configuration has no sigstore { … }: nothing says how to verify".to_owned())
    })?;
    let (verifier, notes) = Verifier::new(&sigstore.options).map_err(|why| {
        let error = Error::Configuration(format!("sigstore: {why}"));
        match config {
            Some(config) => config.refused(&error),
            None => Failure::from(error),
        }
    })?;
    let notes: Vec<String> = notes.into_iter().map(|note| format!("sigstore: {note}")).collect();
    let examination = waiting(verifier.examine(image), || verifier.progress())
        .await
        .map_err(|why| Failure::Usage(why.to_string()))?;
    let code = match examination.outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) if examination.unreachable.is_empty() => ExitCode::FAILURE,
        // There is no verdict, because a registry or the log is unreachable.
        Err(_) => ExitCode::from(2),
    };
    if output == Output::Json {
        writeln!(out, "{}", to_json(image, verifier.skips(image), &examination))?;
        return Ok(code);
    }
    writeln!(out, "{}", style.bold(&printable(image)))?;
    if verifier.skips(image) {
        writeln!(
            out,
            "{}",
            style.bold("skipped_images has it: the plugin does not verify it, and makes no sigstore selector")
        )?;
    }
    let configured = configuration.report.notes.iter().filter(|note| note.section == Section::Sigstore);
    for note in notes.iter().chain(configured.map(|note| &note.text)) {
        writeln!(out, "{}", style.dim(&printable(note)))?;
    }
    print(&examination, out, style)?;
    Ok(code)
}

/// The answer for programs.
fn to_json(image: &str, skipped: bool, examination: &Examination) -> serde_json::Value {
    let reports: Vec<serde_json::Value> = examination.reports.iter().map(report_to_json).collect();
    let unreachable: Vec<String> = examination.unreachable.iter().map(ToString::to_string).collect();
    let mut answer = json!({
        "image": image,
        "verified": examination.outcome.is_ok(),
        "skipped": skipped,
        "reports": reports,
        "unreachable": unreachable,
    });
    if let Some(fields) = answer.as_object_mut() {
        match &examination.outcome {
            Ok(verified) => {
                fields.insert("attestations".to_owned(), json!(verified.attestations()));
                fields.insert("signatures".to_owned(), json!(verified.signatures().len()));
            }
            Err(why) => {
                fields.insert("reason".to_owned(), json!(why.to_string()));
            }
        }
    }
    answer
}

fn report_to_json(report: &SignatureReport) -> serde_json::Value {
    let rules: Vec<serde_json::Value> = report
        .findings
        .iter()
        .map(|RuleFinding { rule, holds, text }| {
            json!({"number": rule.number(), "title": rule.title(), "holds": holds, "text": text})
        })
        .collect();
    json!({"source": report.source, "what": what(report.purpose), "good": report.good(), "rules": rules})
}

fn what(purpose: Option<Purpose>) -> &'static str {
    match purpose {
        Some(Purpose::Signature) => "signature",
        Some(Purpose::Attestation) => "attestation",
        None => "bundle",
    }
}

fn print(examination: &Examination, out: &mut impl Write, style: Style) -> std::io::Result<()> {
    for report in &examination.reports {
        signature(report, out, style)?;
    }
    for place in &examination.unreachable {
        writeln!(out, "\n{} {}", style.bad("not looked at"), printable(&place.to_string()))?;
    }
    match &examination.outcome {
        Ok(verified) => {
            let attested = if verified.attestations() { ", and an attestation" } else { "" };
            let count = verified.signatures().len();
            let signatures = if count == 1 { "signature" } else { "signatures" };
            writeln!(out, "\n{}: {count} good {signatures}{attested}", style.good("verified"))
        }
        Err(why) if examination.unreachable.is_empty() => {
            writeln!(out, "\n{}: {}", style.bad("not verified"), printable(&why.to_string()))
        }
        Err(why) => {
            writeln!(out, "\n{}: {}", style.bad("could not be verified, try again"), printable(&why.to_string()))
        }
    }
}

fn signature(report: &SignatureReport, out: &mut impl Write, style: Style) -> std::io::Result<()> {
    let what = what(report.purpose);
    let verdict = if report.good() { style.good("good") } else { style.bad("bad") };
    writeln!(out, "\n{what} {}: {verdict}", printable(&report.source))?;
    for RuleFinding { rule, holds, text } in &report.findings {
        let title = rule.title();
        let mark = match holds {
            Some(true) => style.good("ok"),
            Some(false) => style.bad("FAILS"),
            None => style.dim("-"),
        };
        writeln!(out, "  {rule} {title:21} {mark}  {}", printable(text))?;
    }
    Ok(())
}
