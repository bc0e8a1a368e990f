//! The command `docker-attestor explain`.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use bounded::text::printable;
use serde_json::json;

use super::entries::{self, DOCKER, Difference, Entry, Ranked};
use super::style::Style;
use super::{ADVICE, Attested, Failure, provenance};
use crate::error::code_name;
use crate::kinds::{CONTAINER_KINDS, SIGNATURE_KINDS};
use crate::workload::decision::Decision;
use crate::workload::{Answer, Exchange};

/// The maximum of lines that are printed of one step.
const LINES: usize = 24;
/// The maximum of characters that are printed of a line.
const LINE: usize = 240;
/// The maximum of entries that are printed of those that do not match. Every entry that matches is printed.
const ENTRIES: usize = 10;

/// Prints an attestation, and how far `entries` match it.
pub(super) fn run(
    attested: Attested,
    entries: Option<&[Entry]>,
    out: &mut impl Write,
    style: Style,
) -> Result<ExitCode, Failure> {
    let explanation = attested.explanation;
    let provenance = provenance(&explanation.policy.digest);
    writeln!(out, "{}\n{}\n", style.bold(&printable(&attested.subject)), style.dim(&provenance))?;
    for (number, exchange) in explanation.transcript.exchanges().iter().enumerate() {
        step(number + 1, exchange, out, style)?;
    }
    if explanation.reused {
        writeln!(out, "an earlier answer was used again: all that led to it still holds")?;
    }
    let elapsed = style.dim(&format!("in all {}", time(explanation.elapsed)));
    for derived in &explanation.derived {
        let what = match &derived.outcome {
            Ok(1) => "1 selector".to_owned(),
            Ok(count) => format!("{count} selectors"),
            Err(error) => style.bad(&printable(&error.to_string())),
        };
        let name = style.bold(&format!("extension {}", derived.name));
        writeln!(out, "{name} ({}): {what}  {}", derived.digest, style.dim(&time(derived.elapsed)))?;
    }
    let unreachable = explanation.is_engine_unreachable();
    match explanation.outcome {
        Ok(selectors) => {
            let added = explanation.derived.iter();
            let added = added.filter_map(|derived| Some((&*derived.name, *derived.outcome.as_ref().ok()?)));
            let added: Vec<(&str, usize)> = added.collect();
            let what = match selectors.len() {
                0 => "no selectors: the process is not ours".to_owned(),
                count => {
                    let noun = if count == 1 { "selector" } else { "selectors" };
                    format!("{count} {noun} ({}): {}", kinds(&selectors), sources(&selectors, &added))
                }
            };
            writeln!(out, "{} {what}  {elapsed}", style.bold("answer"))?;
            if let Some(entries) = entries {
                rank(entries, &selectors, out, style)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let text = printable(&error.to_string());
            writeln!(
                out,
                "{} {} {}  {elapsed}",
                style.bold("answer"),
                style.bad(code_name(error.code())),
                style.bad(&text)
            )?;
            if unreachable {
                writeln!(out, "{ADVICE}")?;
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Prints the same for programs.
pub(super) fn print_json(
    attested: &Attested,
    entries: Option<&[Entry]>,
    out: &mut impl Write,
) -> Result<ExitCode, Failure> {
    let explanation = &attested.explanation;
    let steps: Vec<serde_json::Value> = explanation.transcript.exchanges().iter().map(step_to_json).collect();
    let extensions: Vec<serde_json::Value> = explanation
        .derived
        .iter()
        .map(|derived| {
            json!({
                "name": derived.name,
                "digest": derived.digest,
                "selectors": derived.outcome.as_ref().ok(),
                "error": derived.outcome.as_ref().err().map(ToString::to_string),
                "microseconds": derived.elapsed.as_micros(),
            })
        })
        .collect();
    let mut answer = json!({
        "subject": attested.subject,
        "pid": attested.pid,
        "policy": explanation.policy.digest,
        "steps": steps,
        "extensions": extensions,
        "reused": explanation.reused,
        // Without the values of the environment, as in the text.
        "selectors": explanation.outcome.as_ref().ok().map(|selectors| {
            selectors.iter().map(|selector| entries::without_env_value(&[DOCKER, selector].concat())).collect::<Vec<_>>()
        }),
        "microseconds": explanation.elapsed.as_micros(),
    });
    if let Some(fields) = answer.as_object_mut() {
        if let Err(error) = &explanation.outcome {
            let error = json!({"code": code_name(error.code()), "message": error.to_string()});
            fields.insert("error".to_owned(), error);
        }
        if let (Some(entries), Ok(selectors)) = (entries, &explanation.outcome) {
            fields.insert("entries".to_owned(), entries_to_json(entries, selectors));
        }
    }
    writeln!(out, "{answer}")?;
    Ok(if explanation.outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn step_to_json(exchange: &Exchange) -> serde_json::Value {
    let (told, lines) = match &exchange.answer {
        Ok(answer) => summary(answer),
        Err(_) => (String::new(), Vec::new()),
    };
    json!({
        "question": exchange.question.to_string(),
        "note": exchange.note.to_string(),
        "told": told,
        "lines": lines,
        "error": exchange.answer.as_ref().err().map(ToString::to_string),
        "not_proven": exchange.not_proven.map(|clause| clause.to_string()),
        "microseconds": exchange.elapsed.as_micros(),
    })
}

/// Every entry that has docker selectors, the nearest first.
fn entries_to_json(entries: &[Entry], selectors: &[String]) -> serde_json::Value {
    let here: BTreeSet<String> = selectors.iter().map(|selector| [DOCKER, selector].concat()).collect();
    let ranked = entries::rank(entries, &here);
    let ranked = ranked.iter().map(|Ranked { entry, missing }| {
        let missing: Vec<String> = missing.iter().map(|selector| entries::without_env_value(selector)).collect();
        json!({"id": entry.id, "spiffe_id": entry.spiffe_id, "matches": missing.is_empty(), "missing": missing})
    });
    ranked.collect()
}

fn step(number: usize, exchange: &Exchange, out: &mut impl Write, style: Style) -> std::io::Result<()> {
    let question = style.bold(&printable(&exchange.question.to_string()));
    writeln!(out, "{number}. {question}  {}", style.dim(&time(exchange.elapsed)))?;
    writeln!(out, "   {}", printable(&exchange.note.to_string()))?;
    let (summary, lines) = match &exchange.answer {
        Ok(answer) => summary(answer),
        Err(fault) => (format!("an error: {fault}"), Vec::new()),
    };
    writeln!(out, "   told: {}", start_of(&summary))?;
    for line in lines.iter().take(LINES) {
        writeln!(out, "     {}", start_of(line))?;
    }
    if lines.len() > LINES {
        writeln!(out, "     … and {} more", lines.len() - LINES)?;
    }
    writeln!(out)
}

/// The attestor that a selector is of. Only its name is printed, because the value may be that of a variable.
fn attestor_of(selector: &str) -> &str {
    selector.split_once(':').map_or(selector, |(attestor, _)| attestor)
}

/// The start of a line, safe to print on a terminal.
fn start_of(line: &str) -> String {
    let start: String = line.chars().take(LINE).collect();
    let more = if start.len() < line.len() { " …" } else { "" };
    printable(&start) + more
}

/// A summary of an answer. It has names and counts only, since the values of labels and env may be secrets.
fn summary(answer: &Answer) -> (String, Vec<String>) {
    let lines = |count: usize, what: &str| format!("{count} {what}");
    match answer {
        Answer::Cgroups(text) => {
            let cgroups: Vec<String> = text
                .split(|&byte| byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| line.escape_ascii().to_string())
                .collect();
            (lines(cgroups.len(), "cgroups"), cgroups)
        }
        Answer::CgroupMounts(mounts) => (
            lines(mounts.len(), "mounts"),
            mounts.iter().map(|mount| format!("{} {}", mount.fs_type, mount.root)).collect(),
        ),
        Answer::JobObjectNames(names) => (lines(names.len(), "names"), names.clone()),
        Answer::Container(None) => ("no container".to_owned(), Vec::new()),
        Answer::Container(Some(proven)) => {
            let container = proven.container();
            let labels = container.labels.iter().map(|(name, _)| format!("label {name}"));
            // A variable without a value has no `=`. Any other text without `=` may be a value and is not printed.
            let env = container.env.iter().filter_map(|variable| variable.split_once('='));
            let names = labels.chain(env.map(|(name, _)| format!("env {name}"))).collect();
            let text = format!(
                "the container: {} labels, {} env values, image \"{}\", {}",
                container.labels.len(),
                container.env.len(),
                container.image,
                container.image_id.as_deref().unwrap_or("no image id")
            );
            (text, names)
        }
        Answer::Credentials(Some(credentials)) => {
            (format!("uid {}, gid {}", credentials.uid, credentials.gid), Vec::new())
        }
        Answer::Credentials(None) => ("nothing: the process is gone".to_owned(), Vec::new()),
        Answer::Verify(Decision::Skipped) => ("skipped".to_owned(), Vec::new()),
        Answer::Verify(Decision::Omitted) => ("omitted".to_owned(), Vec::new()),
        Answer::Verify(Decision::Verified(verified)) => {
            let attested = if verified.attestations() { ", and an attestation" } else { "" };
            let signers = verified.signatures().iter().map(|signature| {
                format!(
                    "{} of issuer {}",
                    signature.subject.as_deref().unwrap_or("a public key"),
                    signature.issuer.as_deref().unwrap_or("none")
                )
            });
            let count = verified.signatures().len();
            let what = if count == 1 { "good signature" } else { "good signatures" };
            (format!("{count} {what}{attested}"), signers.collect())
        }
    }
}

/// Prints the entries that match, and those that nearly do, the nearest first.
fn rank(entries: &[Entry], selectors: &[String], out: &mut impl Write, style: Style) -> std::io::Result<()> {
    let here: BTreeSet<String> = selectors.iter().map(|selector| [DOCKER, selector].concat()).collect();
    let ranked = entries::rank(entries, &here);
    let matching = ranked.iter().filter(|ranked| ranked.missing.is_empty()).count();
    writeln!(out, "\n{} {} in the file, matching: {matching}", style.bold("entries"), entries.len())?;
    for Ranked { entry, missing } in ranked.iter().take(matching + ENTRIES) {
        let of = entry.docker_selectors().count();
        let verdict = match missing.len() {
            0 => style.good("matches"),
            missing => style.bad(&format!("lacks {missing} of {of}")),
        };
        writeln!(out, "  {verdict}  {}", style.bold(&printable(&entry.to_string())))?;
        for wanted in missing.iter().take(LINES) {
            writeln!(out, "    {}", Difference::of(wanted, &here))?;
        }
        let others = entry.selectors.iter().filter(|selector| !selector.starts_with(DOCKER)).take(LINES);
        for other in others {
            writeln!(
                out,
                "    {}",
                style.dim(&format!("a selector of {} was not compared", start_of(attestor_of(other))))
            )?;
        }
    }
    let more = ranked.len().saturating_sub(matching + ENTRIES);
    if more > 0 {
        writeln!(out, "  … and {more} that lack as much or more")?;
    }
    let without = entries.len() - ranked.len();
    if without > 0 {
        writeln!(out, "  {without} without a selector of docker")?;
    }
    Ok(())
}

/// Where the selectors come from: facts of the container or its signatures, kinds of the policy's own, and extensions. `added` has the
/// extensions that answered, each with the number of its selectors.
fn sources(selectors: &[String], added: &[(&str, usize)]) -> String {
    let kind = |selector: &str| selector.split_once(':').map_or("", |(kind, _)| kind).to_owned();
    let is_fact =
        |kind: &str| CONTAINER_KINDS.contains(&kind) || SIGNATURE_KINDS.iter().any(|begin| kind.starts_with(begin));
    let facts = selectors.iter().filter(|selector| is_fact(&kind(selector))).count();
    let of_extensions: usize = added.iter().map(|(_, count)| count).sum();
    let own = selectors.len().saturating_sub(facts + of_extensions);
    let mut sources = vec![format!("{facts} {}", if facts == 1 { "fact" } else { "facts" })];
    if own > 0 {
        sources.push(format!("{own} of the policy"));
    }
    let with_selectors = added.iter().filter(|(_, count)| *count > 0);
    sources.extend(with_selectors.map(|(name, count)| format!("{count} of extension {name}")));
    sources.join(", ")
}

fn kinds(selectors: &[String]) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for selector in selectors {
        let kind = selector.split_once(':').map_or(selector.as_str(), |(kind, _)| kind);
        match kinds.iter_mut().find(|(counted, _)| *counted == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    printable(&kinds.join(", "))
}

fn time(elapsed: Duration) -> String {
    match elapsed.as_micros() {
        micros @ 0..10_000 => format!("{micros} µs"),
        micros => format!("{} ms", micros / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_told_apart_from_what_the_policy_and_extensions_made() {
        let selectors = ["label:a:b", "image_id:x", "image-signature:verified", "tier:gold", "team:payments"];
        let selectors: Vec<String> = selectors.iter().map(|&selector| selector.to_owned()).collect();
        let added = [("none", 0), ("team", 1)];
        assert_eq!(sources(&selectors, &added), "3 facts, 1 of the policy, 1 of extension team");
        assert_eq!(sources(&selectors[..1], &[]), "1 fact");
    }
}
