//! The command `docker-attestor policy inspect`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use bounded::text::printable;

use super::super::Failure;
use super::super::style::Style;
use super::describe;

pub(super) fn run(path: &Path, out: &mut impl Write, style: Style) -> Result<ExitCode, Failure> {
    let description = describe(path)?;
    let (world, verdict) = match description.world() {
        Ok((world, version)) => {
            (format!("{world}, contract docker-attestor:policy@{version}"), description.check(world))
        }
        Err(why) => ("none of the contract".to_owned(), Err(why)),
    };
    let version = description.version.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    writeln!(out, "{}", style.bold(&printable(&path.display().to_string())))?;
    for (name, value) in [
        ("world", world),
        ("version", version),
        ("digest", description.digest.clone()),
        ("size", format!("{} bytes", description.size)),
        ("code", format!("{} bytes in {} functions", description.code, description.functions)),
    ] {
        writeln!(out, "  {name:8} {}", printable(&value))?;
    }
    for (name, list) in [("imports", &description.imports), ("exports", &description.exports)] {
        writeln!(out, "  {name:8} {}", if list.is_empty() { "none" } else { "" })?;
        for item in list {
            writeln!(out, "    {}", printable(item))?;
        }
    }
    match verdict {
        Ok(()) => {
            writeln!(out, "\n{}: pin it with sha256 = \"{}\"", style.good("may run"), pin(&description.digest))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            writeln!(out, "\n{}: {}", style.bad("may not run"), printable(&why.to_string()))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The digest as sha256sum prints it, without `sha256:`.
fn pin(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}
